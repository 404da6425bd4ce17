import hashlib
import io
import os
import pickle
import sys
import tarfile
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import class_files, png, write_tree, write_zip
from PIL import Image
from sklearn.datasets import load_digits

from rfkit import data
from rfkit.data import DataError


def test_digits():
    digits = data.load("digits")
    assert digits.train_images.shape == (1438, 32, 32, 3) and digits.train_images.dtype == np.uint8
    assert digits.test_images.shape == (359, 32, 32, 3) and digits.num_classes == 10
    assert digits.train_images.max() == 255
    shares = np.bincount(digits.train_labels) / np.bincount(np.r_[digits.train_labels, digits.test_labels])
    assert np.all(abs(shares - 0.8) < 0.01)
    assert data.load("digits", image_size=64).image_size == 64


def test_statistics_are_those_of_all_training_pixels():
    digits = data.load("digits")
    pixels = digits.train_images.reshape(-1, 3) / 255
    assert np.allclose(digits.mean, pixels.mean(0), atol=1e-9) and np.allclose(digits.std, pixels.std(0), atol=1e-9)


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_folder_and_zip_agree(tmp_path, held_out):
    files = class_files(splits=("train", held_out))
    from_folder = data.load(f"folder:{write_tree(tmp_path / 'tree', files)}")
    from_zip = data.load(f"folder:{write_zip(tmp_path / 'tree.zip', files)}")
    assert from_folder.class_names == from_zip.class_names == ("cat", "dog")
    assert from_folder.train_images.shape == (8, 8, 8, 3)
    for field in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(from_folder, field), getattr(from_zip, field))
    assert list(from_folder.train_labels) == [0] * 4 + [1] * 4


def test_samples_of_a_folder_are_of_all_classes(tmp_path):
    write_zip(tmp_path / "sorted.zip", class_files(classes=("a", "b", "c"), count=20, size=8))
    loaded = data.load(f"folder:{tmp_path / 'sorted.zip'}", root=tmp_path)
    assert (np.diff(loaded.train_labels) >= 0).all()  # a folder lies class by class
    few, more = loaded.sample(9, 6), loaded.sample(18, 8)
    assert set(few.train_labels) == {0, 1, 2} and len(few.train_labels) == 9 and len(few.test_labels) == 6
    assert (few.train_images == more.train_images[:9]).all() and (few.test_labels == more.test_labels[:6]).all()
    found = [(image == loaded.train_images).all((1, 2, 3)).nonzero()[0] for image in few.train_images]
    assert all(label in loaded.train_labels[i] for i, label in zip(found, few.train_labels, strict=True))
    assert len(loaded.sample(10**6, 10**6).train_labels) == len(loaded.train_labels)


def test_samples_of_classes_in_any_order_are_of_all_classes():
    """As in Tiny ImageNet, whose labels follow one list and whose files another."""
    digits = data.load("digits")
    order = np.argsort(np.array([7, 2, 9, 0, 5, 1, 8, 3, 6, 4])[digits.train_labels], kind="stable")
    blocks = replace(digits, train_images=digits.train_images[order], train_labels=digits.train_labels[order])
    assert len(set(blocks.train_labels[:50])) == 1 and len(set(blocks.sample(50).train_labels)) == 10


def test_samples_of_mixed_images_are_the_first():
    digits = data.load("digits")
    assert (digits.sample(50).train_images == digits.train_images[:50]).all()
    assert digits.sample(50, 20).test_labels.tolist() == digits.test_labels[:20].tolist()


@pytest.mark.parametrize("count", [0, -5, 1.5, None])
def test_a_sample_is_of_at_least_one_image(count):
    with pytest.raises(ValueError, match="number of images is .*; expected a whole number of at least 1"):
        data.load("digits").sample(count)


def test_arrays_of_ones_own():
    digits = data.load("digits")
    train, test = (digits.train_images, digits.train_labels), (digits.test_images, digits.test_labels)
    own = data.from_arrays(train, test)
    assert own.class_names == digits.class_names and (own.mean, own.std) == (digits.mean, digits.std)
    assert own.image_size == 32 and own.source.label == "own arrays"
    other = data.from_arrays((255 - train[0], train[1]), test, class_names="abcdefghij", label="negatives")
    assert other.source.sha256 != own.source.sha256 and other.class_names[9] == "j"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x / 255, y), r"training images are float64 \(9, 8, 8, 3\); expected uint8 \(N, size, size, 3\)"),
        (lambda x, y: (x[..., 0], y), r"training images are uint8 \(9, 8, 8\)"),
        (lambda x, y: (x[:, :4], y), r"training images are uint8 \(9, 4, 8, 3\)"),
        (lambda x, y: (x, y[:4]), r"training labels are int64 \(4,\) for 9 images; expected one whole number for each"),
        (lambda x, y: (x, y / 2), "training labels are float64"),
        (lambda x, y: (x, y - 1), "classes run from -1 to 2; expected 0 to 2, as many as names"),
        (lambda x, y: (x, y + 1), "classes run from 0 to 3; expected 0 to 2, as many as names"),
        (lambda x, y: (x[:0], y[:0]), "own arrays has 0 training and 9 test images"),
    ],
)
def test_arrays_that_are_no_data_set(change, message):
    images = np.random.default_rng(0).integers(256, size=(9, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(9) % 3
    with pytest.raises(DataError, match=message):
        data.from_arrays(change(images, labels), (images, labels), class_names=("a", "b", "c"))


def test_arrays_of_two_sizes_are_refused():
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)
    with pytest.raises(DataError, match="test images have 4 pixels a side, training images 8"):
        data.from_arrays((images, labels), (images[:, :4, :4], labels))


def test_nested_zip_and_one_folder_a_class(tmp_path):
    files = {f"pets/{name}": content for name, content in class_files(splits=("train",), count=10).items()}
    flat = {name.replace("train/", ""): content for name, content in files.items()}
    split = data.load(f"folder:{write_zip(tmp_path / 'flat.zip', flat)}")
    assert len(split.train_labels) == 16 and sorted(split.test_labels) == [0, 0, 1, 1]
    files |= {name.replace("train", "test"): content for name, content in files.items()}
    nested = data.load(f"folder:{write_zip(tmp_path / 'nested.zip', files)}")
    assert nested.class_names == ("cat", "dog")
    capitals = {name.replace("train", "Train").replace("test", "TEST"): content for name, content in files.items()}
    again = data.load(f"folder:{write_zip(tmp_path / 'capitals.zip', capitals)}")
    below_test = {name.replace("pets/", "test/"): content for name, content in files.items()}
    assert data.load(f"folder:{write_zip(tmp_path / 'below.zip', below_test)}").class_names == ("cat", "dog")
    assert (again.test_images == nested.test_images).all() and len(again.train_labels) == len(nested.train_labels)


def test_cache_is_used_and_checked(tmp_path, monkeypatch):
    path = write_zip(tmp_path / "a.zip", class_files())
    first = data.load(f"folder:{path}")
    (cached,) = (tmp_path / "data" / "cache").glob("*.npz")
    from rfkit.data import image_files

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "_decode", lambda *_: pytest.fail("decoded again"))
        again = data.load(f"folder:{path}")
    assert np.array_equal(first.train_images, again.train_images) and again.source == first.source
    damaged = bytearray(cached.read_bytes())
    damaged[-200] ^= 1
    cached.write_bytes(damaged)
    assert np.array_equal(data.load(f"folder:{path}").train_images, first.train_images)


def test_changed_folder_is_read_again(tmp_path):
    tree = write_tree(tmp_path / "tree", class_files())
    before = data.load(f"folder:{tree}")
    (tree / "train/cat/0.png").write_bytes(png(999))
    after = data.load(f"folder:{tree}")
    assert not np.array_equal(before.train_images[0], after.train_images[0])
    assert before.source.sha256 != after.source.sha256


def test_a_member_without_a_name_is_no_image(tmp_path):
    path = write_zip(tmp_path / "pets.zip", class_files() | {"qqqq": b""})
    path.write_bytes(path.read_bytes().replace(b"qqqq", b"\0qqq"))  # which ends a name
    assert data.load(f"folder:{path}").class_names == ("cat", "dog")


def test_source_of_a_zip_is_its_checksum_and_name(tmp_path):
    path = write_zip(tmp_path / "pets.zip", class_files())
    assert data.load(f"folder:{path}").source == data.Source(
        "pets", "pets", hashlib.sha256(path.read_bytes()).hexdigest()
    )


def deep_png():
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(file, "png")
    return file.getvalue()


def without(files, part):
    return {name: content for name, content in files.items() if part not in name}


BROKEN = {
    "half an image": (class_files() | {"train/cat/0.png": png(1)[:60]}, "train/cat/0.png .* not a readable image"),
    "text": (class_files() | {"test/dog/1.png": b"hello"}, "test/dog/1.png .* not a readable image"),
    "missing class": (without(class_files(), "test/dog"), "class folder 'dog' is missing or empty under test/"),
    "extra class": (without(class_files(), "train/dog"), "class folder 'dog' is missing or empty under train/"),
    "no test": (without(class_files(), "test/"), "neither test/ nor val/"),
    "no images": ({"readme.txt": b""}, "holds 0 images"),
    "splits of other names": (
        {name.replace("train", "training"): content for name, content in class_files().items()},
        "class folders under test/ and under training/; expected",
    ),
    "one image of a class": (
        {f"cat/{i}.png": png(i) for i in range(3)} | {"dog/0.png": png(1)},
        "class folder 'dog' has one image",
    ),
    "16 bits": (class_files() | {"train/cat/0.png": deep_png()}, "train/cat/0.png .* of mode I;16; expected 8 bits"),
    "sizes": (class_files() | {"train/dog/3.png": png(3, 9)}, "train/dog/3.png .* is 9x9 pixels.*image_size="),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("as_zip", [True, False])
def test_broken_folders(tmp_path, case, as_zip):
    files, message = BROKEN[case]
    path = write_zip(tmp_path / "x.zip", files) if as_zip else write_tree(tmp_path / "x", files)
    with pytest.raises(DataError, match=message):
        data.load(f"folder:{path}")
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").rglob("*"))


def test_a_size_after_the_path(tmp_path):
    path = write_tree(tmp_path / "set@2", class_files())
    assert data.load(f"folder:{path}").train_images.shape[1] == data.load(f"folder:{path}@16").train_images.shape[1] / 2
    for name, size in ((f"folder:{path}@0", None), (f"folder:{path}@16", 4)):
        with pytest.raises(DataError, match="expected one size of 1 to 4096"):
            data.load(name, image_size=size)
    with pytest.raises(DataError, match="names no folder"):
        data.load("folder:")


def test_sizes_can_be_made_equal(tmp_path):
    files = class_files() | {"train/dog/3.png": png(3, 9)}
    assert data.load(f"folder:{write_zip(tmp_path / 'x.zip', files)}", image_size=16).train_images.shape[1:3] == (
        16,
        16,
    )


@pytest.mark.parametrize("name", ["../out.png", "/abs.png", "train/../../x.png", "c:evil.png", "a\\..\\..\\b.png"])
def test_zip_members_may_not_leave_the_folder(tmp_path, name):
    with pytest.raises(DataError, match="points outside the archive; refused"):
        data.load(f"folder:{write_zip(tmp_path / 'x.zip', class_files() | {name: png(0)})}")


def test_names_in_a_zip_are_no_longer_than_a_message_can_quote(tmp_path):
    path = write_zip(tmp_path / "x.zip", class_files() | {f"train/cat/{'x' * 2000}.png": png(0)})
    with pytest.raises(DataError, match="over 1,000 characters") as refused:
        data.load(f"folder:{path}")
    assert len(str(refused.value)) < 500


def test_half_a_zip_and_no_file(tmp_path):
    path = write_zip(tmp_path / "x.zip", class_files())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a readable zip"):
        data.load(f"folder:{path}")
    with pytest.raises(DataError, match="does not exist"):
        data.load(f"folder:{tmp_path / 'none'}")


def test_unknown_name_and_size():
    with pytest.raises(DataError, match="unknown data set 'cifar'; expected digits"):
        data.load("cifar")
    with pytest.raises(DataError, match="image_size is 0"):
        data.load("digits", image_size=0)
    with pytest.raises(DataError, match="data set is None; expected the name of one"):
        data.load(None)


# --- Tiny ImageNet --------------------------------------------------------------------------------


def tiny_files():
    base, wnids = "tiny-imagenet-200", ("n02", "n01")
    files = {f"{base}/wnids.txt": "\n".join(wnids).encode(), f"{base}/words.txt": b"n01\tcat, kitty\nn02\tdog"}
    rows = []
    for number, wnid in enumerate(wnids):
        for i in range(3):
            files[f"{base}/train/{wnid}/images/{wnid}_{i}.JPEG"] = png(10 * number + i, 64, "L" if i == 2 else "RGB")
        files[f"{base}/train/{wnid}/{wnid}_boxes.txt"] = b""
        files[f"{base}/val/images/val_{number}.JPEG"] = png(50 + number, 64)
        rows.append(f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62")
    return files | {f"{base}/val/val_annotations.txt": "\n".join(reversed(rows)).encode()}


def test_tiny_imagenet(tmp_path):
    from_zip = data.load("tiny_imagenet", root=write_zip(tmp_path / "tiny.zip", tiny_files()))
    from_folder = data.load("tiny_imagenet", root=write_tree(tmp_path / "tree", tiny_files()) / "tiny-imagenet-200")
    found = data.load(f"folder:{tmp_path / 'tiny.zip'}")
    for each in (from_zip, from_folder, found):
        assert each.class_names == ("dog", "cat") and each.train_images.shape == (6, 64, 64, 3)
        assert list(each.train_labels) == [1, 1, 1, 0, 0, 0] and list(each.test_labels) == [1, 0]
    assert from_zip.source.label == "Tiny ImageNet"
    grey = from_zip.train_images[2]
    assert np.array_equal(grey[..., 0], grey[..., 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: without(f, "val_annotations"), "val_annotations.txt is missing"),
        (lambda f: without(f, "val_1.JPEG"), "lists val_1.JPEG, which is not in val/images"),
        (lambda f: without(f, "train/n01"), "train/n01 is missing or empty"),
        (lambda f: f | {"tiny-imagenet-200/wnids.txt": b"n02"}, "train/n01 is not listed in wnids.txt"),
        (lambda f: f | {"tiny-imagenet-200/val/val_annotations.txt": b"val_0.JPEG\tn09"}, "class n09, not in wnids"),
        (lambda f: f | {"tiny-imagenet-200/val/val_annotations.txt": b"val_0.JPEG"}, "expected file<TAB>class"),
        (lambda f: f | {"tiny-imagenet-200/val/val_annotations.txt": b"[" * 9000}, "expected file<TAB>class"),
        (
            lambda f: f | {"tiny-imagenet-200/val/val_annotations.txt": b"[" * 9000 + b"\tn01"},
            r"lists \[+, which is not",
        ),
    ],
)
def test_broken_tiny_imagenet(tmp_path, change, message):
    with pytest.raises(DataError, match=message) as refused:
        data.load("tiny_imagenet", root=write_zip(tmp_path / "tiny.zip", change(tiny_files())))
    assert len(str(refused.value)) < 500


def test_tiny_imagenet_download(tmp_path, monkeypatch, served):
    published = write_zip(tmp_path / "published.zip", tiny_files())
    monkeypatch.setattr(data, "TINY_IMAGENET_URL", f"{served}/published.zip")
    with pytest.raises(DataError, match="could not be downloaded"):  # another checksum than the published one
        data.load("tiny_imagenet")
    assert not list((tmp_path / "data").rglob("*.zip"))
    monkeypatch.setattr(data, "TINY_IMAGENET_MD5", hashlib.md5(published.read_bytes()).hexdigest())
    assert data.load("tiny_imagenet").num_classes == 2
    downloaded = tmp_path / "data" / "tiny-imagenet-200.zip"
    downloaded.write_bytes(downloaded.read_bytes()[:-50])
    with pytest.raises(DataError, match="wrong MD5 checksum"):
        data.load("tiny_imagenet")


def test_a_download_is_never_half_there(tmp_path, monkeypatch):
    """Stopped by Ctrl-C, which is no Exception, it leaves nothing; a second process waits and finds it made."""
    from torchvision.datasets import utils

    place = tmp_path / "data" / "tiny-imagenet-200.zip"

    def stopped(url, folder, name, md5):
        (Path(folder) / name).write_bytes(b"half of it")
        assert not place.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(utils, "download_url", stopped)
    with pytest.raises(KeyboardInterrupt):
        data.load("tiny_imagenet")
    assert [path.name for path in (tmp_path / "data").iterdir()] in ([], [".lock"])


# --- CIFAR-10 -------------------------------------------------------------------------------------


def cifar_archive(path):
    """A small archive in CIFAR-10's own layout, and the checksums torchvision wants."""
    random, members = np.random.default_rng(0), {}
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        batch = {"data": random.integers(0, 256, (2, 3072), dtype=np.uint8), "labels": [3, 5]}
        members[name] = pickle.dumps(batch)
    members["batches.meta"] = pickle.dumps({"label_names": [f"class{i}" for i in range(10)]})
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return {name: hashlib.md5(content).hexdigest() for name, content in members.items()}


def test_cifar10(tmp_path, monkeypatch, served):
    from torchvision.datasets import CIFAR10

    published = tmp_path / "cifar.tar.gz"
    md5 = cifar_archive(published)
    monkeypatch.setattr(CIFAR10, "url", f"{served}/{published.name}")
    with pytest.raises(DataError, match=r"CIFAR-10 could not be downloaded.*File not found or corrupted"):
        data.load("cifar10")
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(published.read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[f"data_batch_{i}", md5[f"data_batch_{i}"]] for i in range(1, 6)])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", md5["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    loaded = data.load("cifar10")
    assert loaded.train_images.shape == (10, 32, 32, 3) and list(loaded.test_labels) == [3, 5]
    assert loaded.source.label == "CIFAR-10" and loaded.class_names[3] == "class3"
    assert data.load("cifar10", image_size=16).image_size == 16
    assert [path.name for path in (tmp_path / "data").iterdir() if path.is_dir()] == ["cifar-10-batches-py"]
    batch = tmp_path / "data/cifar-10-batches-py/test_batch"
    batch.write_bytes(batch.read_bytes()[:-10])
    assert np.array_equal(data.load("cifar10").test_images, loaded.test_images)  # downloaded again
    batch.write_bytes(batch.read_bytes()[:-10])
    monkeypatch.setattr(CIFAR10, "url", f"{served}/gone")
    with pytest.raises(DataError, match="could not be downloaded"):
        data.load("cifar10")


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the JPEG copy of CIFAR-10 is not on this machine")
def test_known_archives_carry_their_label():
    from rfkit.data.image_files import KNOWN_ARCHIVES
    from rfkit.files import file_sha256

    labels = {path.name: KNOWN_ARCHIVES[file_sha256(path)][1] for path in SHARED.glob("*.zip")}
    assert labels["cifar10_jpeg.zip"] == "CIFAR-10 (JPEG q75)"
    assert labels["tiny_imagenet_100classes.zip"] == "Tiny ImageNet, first 100 classes"


# --- files that are no images -----------------------------------------------------------------------


def test_a_bomb_is_not_read_whole(tmp_path):
    """A small zip whose member unpacks to more than any image holds."""
    path = write_zip(tmp_path / "images.zip", class_files())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/bomb.png", bytes(200 * 2**20))
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(DataError, match=r"bomb.png in .* holds more than 64 MiB"):
        data.load(f"folder:{path}", root=tmp_path / "data")
    assert tracemalloc.get_traced_memory()[1] < 150 * 2**20
    tracemalloc.stop()
    assert not list((tmp_path / "data").rglob("*.npz"))


def test_images_of_too_many_pixels(tmp_path):
    folder = write_tree(tmp_path / "images", class_files())
    Image.new("RGB", (5000, 10)).save(folder / "train" / "cat" / "wide.png")
    with pytest.raises(DataError, match="wide.png .*5000x10 pixels, at most 4096"):
        data.load(f"folder:{folder}", root=tmp_path / "data")
    with pytest.raises(DataError, match="asks for 30000 pixels; expected one size of 1 to 4096"):
        data.load(f"folder:{folder}x@30000", root=tmp_path / "data")


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links of POSIX")
def test_only_regular_files_are_read(tmp_path):
    folder = write_tree(tmp_path / "images", class_files())
    strange = folder / "train" / "cat"
    os.mkfifo(strange / "x.png")
    with pytest.raises(DataError, match="x.png in .* is no regular file"):
        data.load(f"folder:{folder}", root=tmp_path / "data")
    (strange / "x.png").unlink()
    (strange / "y.png").symlink_to("nowhere")
    with pytest.raises(DataError, match="y.png in .* is a link that leads nowhere"):
        data.load(f"folder:{folder}", root=tmp_path / "data")
    (strange / "y.png").unlink()
    for split in ("train", "test"):
        (folder / split / "dog").rename(tmp_path / f"dog-{split}")
        (folder / split / "dog").symlink_to(tmp_path / f"dog-{split}")  # a class folder may be a link
        (folder / split / "again").symlink_to(folder)  # and one in a circle is not gone round
    assert data.load(f"folder:{folder}", root=tmp_path / "data").class_names == ("cat", "dog")


def test_a_cache_with_other_content_is_made_anew(tmp_path):
    folder = write_tree(tmp_path / "images", class_files())
    first = data.load(f"folder:{folder}", root=tmp_path / "data")
    (cached,) = (tmp_path / "data" / "cache").glob("*.npz")
    with cached.open("wb") as file:
        np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    cached.with_suffix(".sha256").write_text(hashlib.sha256(cached.read_bytes()).hexdigest())
    again = data.load(f"folder:{folder}", root=tmp_path / "data")
    assert np.array_equal(first.train_images, again.train_images) and again.source == first.source


def test_digits_are_those_of_scikit_learn():
    bunch = load_digits()
    with np.load(Path(data.__file__).parents[1] / "reference" / "digits.npz") as stored:
        assert (stored["images"] == bunch.images).all() and (stored["labels"] == bunch.target).all()
