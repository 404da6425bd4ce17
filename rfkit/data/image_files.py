"""Images in a directory or a zip, read into arrays once and cached with a checksum."""

import hashlib
import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from rfkit.data.published import COPIES, DATASETS
from rfkit.files import file_sha256, replacing, write_bytes

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".gif", ".webp", ".tif", ".tiff")
# Re-packaged copies of the paper's data sets, told apart by the checksum of their zip file so that
# every number made on them is labelled as what it is.
KNOWN_ARCHIVES = {
    "4b5cbe17f4a9a9fd94e17137f12c891da461f124b1c4222b309c1ae4051d781c": ("cifar10_jpeg", "CIFAR-10 (JPEG q75)"),
    "9bb0502e682d2c1c152083894f99c337c390ec0c00d79d19931f4c032b3aa5d6": (
        "tiny_imagenet_100",
        "Tiny ImageNet, first 100 classes",
    ),
}

LARGEST_MIB, LARGEST_PX = 64, 4096
"""What one image may hold, as a file and on a side: more is a mistake, or a bomb."""


class DataError(ValueError):
    """A data set that cannot be used as it is; the message names the file and the fix."""


@dataclass(frozen=True)
class Source:
    """Where a data set came from: short name, label for print, sha256 of its content."""

    name: str
    label: str
    sha256: str


def resized(image, size):
    """A Pillow image as an array, bilinearly resized if need be."""
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def stratified_split(labels, test_share=0.2):
    """A fixed random split with the same share of every class."""
    random, test = np.random.default_rng(0), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        test.append(random.permutation(members)[: max(1, round(test_share * len(members)))])
    chosen = np.zeros(len(labels), bool)
    chosen[np.concatenate(test)] = True
    return random.permutation(np.flatnonzero(~chosen)), np.flatnonzero(chosen)


class _Files:
    """The files of a directory or a zip under one interface: relative POSIX names and their bytes."""

    def __init__(self, path):
        self.path = path
        self._zip = None
        if path.is_dir():
            found = list(_walk(path))
            for file in found:
                _refuse_strange(path, file)
            self.names = sorted(file.relative_to(path).as_posix() for file in found)
        elif path.is_file():
            try:
                self._zip = zipfile.ZipFile(path)
            except Exception as error:  # damaged, it makes zipfile raise many kinds
                raise DataError(f"{path} is not a readable zip ({error}); download or make it again") from error
            self.names = sorted(name for name in self._zip.namelist() if name and not name.endswith("/"))
            for name in self.names:
                if PurePosixPath(name).is_absolute() or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":":
                    raise DataError(f"{path}: member {name!r:.200} points outside the archive; refused")
                if len(name) > 1000:  # and a message would be as long
                    raise DataError(f"{path}: member {name!r:.80} has a name of over 1,000 characters; refused")
        else:
            raise DataError(f"{path} does not exist; expected a directory or a zip file of images")

    def read(self, name):
        limit = LARGEST_MIB * 2**20
        try:
            # from the stream, whatever size a zip declares
            with self._zip.open(name) if self._zip else (self.path / name).open("rb") as file:
                raw = file.read(limit + 1)
        except Exception as error:  # zipfile raises many kinds for a damaged zip, and may quote half of it
            raise DataError(f"{name} in {self.path} cannot be read ({error!s:.120}); copy or make it again") from error
        if len(raw) > limit:
            raise DataError(f"{name} in {self.path} holds more than {LARGEST_MIB} MiB, no image: remove it")
        return raw

    def lines(self, name):
        try:
            return self.read(name).decode().splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{name} in {self.path} is no text in UTF-8 ({error}); copy or make it again") from error

    def key(self):
        """Changes when the content does: sha256 of a zip, names, sizes and times of a directory."""
        if self._zip:
            return file_sha256(self.path)
        digest = hashlib.sha256()
        for name in self.names:
            stat = (self.path / name).stat()
            digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def _walk(path):
    """The files below a folder, through links too, but no folder twice on the way down."""
    for base, folders, files in os.walk(path, followlinks=True):
        above = {os.path.realpath(base), *map(os.path.realpath, Path(base).parents)}
        folders[:] = [name for name in folders if os.path.realpath(Path(base) / name) not in above]
        yield from (Path(base) / file for file in files)


def _refuse_strange(root, file):
    """Only regular files, or links to them, whose names can be written down: anything else may hang."""
    name = file.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{name!r} in {root} has a name that is not UTF-8; rename it") from error
    if not file.exists():
        raise DataError(f"{name} in {root} is a link that leads nowhere; remove it")
    if not file.is_file():
        raise DataError(f"{name} in {root} is no regular file (a pipe, socket or device); remove it")


def load_files(path, cache_root, size=None, name=None):
    """Read a directory or zip of images, or its cached arrays."""
    files = _Files(path)
    key = files.key()
    suffix = f"-{size}" if size else ""
    cached = cache_root / "cache" / f"{name or _own_name(path)}-{key[:16]}{suffix}.npz"
    loaded = _read_cache(cached)
    if loaded is None:
        loaded = _decode(files, size, None if path.is_dir() else key, name)
        _write_cache(cached, *loaded)
    return loaded


def _own_name(path):
    """Name of a user's data set, which is never that of a published one or of a known copy."""
    name = path.resolve().stem
    return f"folder_{name}" if name in (*DATASETS, *COPIES) else name


def _decode(files, size, sha256, name):
    splits = _tiny_imagenet_entries(files) if _tiny_imagenet_base(files) is not None else _class_folders(files)
    class_names, train, test = splits
    digest, arrays, first = hashlib.sha256(), [], None
    for entries in (train, test):
        if not entries:
            raise DataError(f"{files.path} has an empty split; expected images under train/ and test/ (or val/)")
        images = None
        for i, (file, _) in enumerate(entries):
            raw = files.read(file)
            digest.update(f"{file}\0".encode() + hashlib.sha256(raw).digest())
            image = _decode_image(raw, file, files.path, size)
            first = first or image.shape
            if image.shape != first:
                raise DataError(
                    f"{file} in {files.path} is {image.shape[1]}x{image.shape[0]} pixels, the first image "
                    f"{first[1]}x{first[0]}; resize all images, by folder:PATH@64 or image_size=64"
                )
            images = np.empty((len(entries), *first), np.uint8) if images is None else images
            images[i] = image
        if first[0] != first[1]:
            raise DataError(
                f"images in {files.path} are {first[1]}x{first[0]} pixels; they must be square: "
                "resize them, by folder:PATH@64 or image_size=64"
            )
        arrays += [images, np.array([label for _, label in entries], np.int64)]
    sha256 = sha256 or digest.hexdigest()
    label = "Tiny ImageNet" if name == "tiny_imagenet" else _own_name(files.path)
    source = Source(*KNOWN_ARCHIVES.get(sha256, (name or _own_name(files.path), label)), sha256)
    return *arrays, class_names, source


def _decode_image(raw, file, path, size):
    try:
        image = Image.open(io.BytesIO(raw))
        if max(image.size) > LARGEST_PX:
            raise ValueError(f"{image.size[0]}x{image.size[1]} pixels, at most {LARGEST_PX} on a side are read")
        colours = image.convert("RGB")
    except Exception as error:  # the decoders raise many kinds for damaged files
        why = "no format that Pillow knows" if isinstance(error, UnidentifiedImageError) else error
        raise DataError(f"{file} in {path} is not a readable image ({why}); replace or delete it") from error
    if image.mode == "F" or image.mode.startswith("I"):  # all above 255 would have been cut off
        raise DataError(f"{file} in {path} has pixels of mode {image.mode}; expected 8 bits a channel: convert it")
    return resized(colours, size)


def _images(files):
    """Image files, without what some systems leave beside them (``__MACOSX``, hidden files)."""
    return [
        name
        for name in files.names
        if name.lower().endswith(IMAGE_SUFFIXES)
        and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    ]


def _class_folders(files):
    """Entries of ``[any/]train/<class>/image`` and ``test`` or ``val``, or of ``[any/]<class>/image``."""
    found = [PurePosixPath(name).parts for name in _images(files)]
    splits = {part.lower() for parts in found for part in parts[:-2]} & {"train", "test", "val"}
    if "train" not in splits:
        return _split_class_folders(files, found)
    held_out = "test" if "test" in splits else "val"
    if held_out not in splits:
        raise DataError(f"{files.path} has train/ but neither test/ nor val/; add one of them")
    entries = {"train": [], held_out: []}
    for parts in found:
        above = [part.lower() for part in parts[:-2]]
        last = max((i for i, part in enumerate(above) if part in entries), default=None)  # the top may be a test/ too
        if last is not None:
            entries[above[last]].append(("/".join(parts), parts[last + 1]))
    names = {split: {label for _, label in rows} for split, rows in entries.items()}
    missing = names["train"] ^ names[held_out]
    if missing:
        where = held_out if next(iter(sorted(missing))) in names["train"] else "train"
        raise DataError(
            f"{files.path}: class folder {sorted(missing)[0]!r} is missing or empty under {where}/; every class "
            "needs images in both"
        )
    index = {name: i for i, name in enumerate(sorted(names["train"]))}
    train, test = ([(file, index[label]) for file, label in entries[split]] for split in ("train", held_out))
    return [*index], train, test


def _split_class_folders(files, found):
    deep = [parts for parts in found if len(parts) >= 2]
    class_names = sorted({parts[-2] for parts in deep})
    if len(class_names) < 2:
        raise DataError(
            f"{files.path} holds {len(found)} images in {len(class_names)} class folders; expected "
            "train/<class>/<image> and test/<class>/<image>, or <class>/<image> with at least two classes"
        )
    if set(map(str.lower, class_names)) <= {"train", "test", "val", "valid", "validation"}:
        raise DataError(
            f"{files.path} has images right under {class_names[0]}/, in no class folder; expected "
            "train/<class>/<image> and test/<class>/<image>"
        )
    above = sorted({"/".join(parts[:-2]) for parts in deep})
    if len(above) > 1:  # a test set of another name would be mixed with the training images
        raise DataError(
            f"{files.path} has class folders under {above[0] or '.'}/ and under {above[1]}/; expected all of them in "
            "one folder, or train/<class>/<image> beside test/<class>/<image> (or val/)"
        )
    counts = Counter(parts[-2] for parts in deep)
    if min(counts.values()) < 2:
        few = min(counts, key=counts.get)
        raise DataError(
            f"{files.path}: class folder {few!r} has one image; expected at least one for training and one for test"
        )
    entries = [("/".join(parts), class_names.index(parts[-2])) for parts in deep]
    train, test = stratified_split(np.array([label for _, label in entries]))
    return class_names, [entries[i] for i in train], [entries[i] for i in test]


def _tiny_imagenet_base(files):
    for name in files.names:
        if PurePosixPath(name).name == "wnids.txt":
            return name.removesuffix("wnids.txt")
    return None


def _tiny_imagenet_entries(files):
    base, present = _tiny_imagenet_base(files), set(files.names)
    wnids = " ".join(files.lines(f"{base}wnids.txt")).split()
    index = {wnid: i for i, wnid in enumerate(wnids)}
    train, counts = [], dict.fromkeys(wnids, 0)
    prefix = f"{base}train/"
    for name in _images(files):
        if name.startswith(prefix):
            wnid = name.removeprefix(prefix).split("/")[0]
            if wnid not in index:
                raise DataError(f"{files.path}: class folder train/{wnid:.80} is not listed in wnids.txt")
            train.append((name, index[wnid]))
            counts[wnid] += 1
    empty = [wnid for wnid, count in counts.items() if not count]
    if empty:
        raise DataError(f"{files.path}: class folder train/{empty[0]:.80} is missing or empty, but wnids.txt lists it")
    test = []
    for row, wnid in _annotations(files, base):
        name = f"{base}val/images/{row}"
        if name not in present:
            raise DataError(f"{files.path}: val_annotations.txt lists {row:.80}, which is not in val/images")
        if wnid not in index:
            raise DataError(f"{files.path}: val_annotations.txt gives {row:.80} the class {wnid:.80}, not in wnids.txt")
        test.append((name, index[wnid]))
    words = _words(files, base)
    return [words.get(wnid, wnid) for wnid in wnids], train, test


def _annotations(files, base) -> Iterator[tuple[str, str]]:
    name = f"{base}val/val_annotations.txt"
    if name not in files.names:
        raise DataError(f"{files.path}: {name} is missing; Tiny ImageNet's validation labels are in it")
    for line in files.lines(name):
        fields = line.split("\t")
        if len(fields) < 2:
            raise DataError(f"{files.path}: val_annotations.txt has the line {line!r:.80}; expected file<TAB>class")
        yield fields[0], fields[1]


def _words(files, base):
    name = f"{base}words.txt"
    lines = files.lines(name) if name in files.names else []
    return {wnid: words.split(",")[0] for wnid, _, words in (line.partition("\t") for line in lines)}


def _write_cache(path, train_images, train_labels, test_images, test_labels, class_names, source):
    header = json.dumps({"class_names": list(class_names), "source": asdict(source)})
    with replacing(path) as file:
        np.savez(file, train_images=train_images, train_labels=train_labels, test_images=test_images,
                 test_labels=test_labels, header=np.frombuffer(header.encode(), np.uint8))  # fmt: skip
    write_bytes(path.with_suffix(".sha256"), file_sha256(path).encode())


def _read_cache(path):
    """The cached arrays, or None where there are none, or what is there is not what was written."""
    checksum = path.with_suffix(".sha256")
    if not checksum.is_file() or file_sha256(path) != checksum.read_text():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            header = json.loads(bytes(arrays["header"]))
            splits = [arrays[k] for k in ("train_images", "train_labels", "test_images", "test_labels")]
        return *splits, tuple(header["class_names"]), Source(**header["source"])
    except Exception:  # whatever numpy makes of it
        return None  # made anew
