"""Image data sets as uint8 arrays in memory, decoded once and cached with a checksum."""

import hashlib
import importlib.resources
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from rfkit.config import whole
from rfkit.data.image_files import LARGEST_PX, DataError, Source, load_files, resized, stratified_split
from rfkit.data.published import COPIES, DATASET_LABELS, DATASETS, PAPER_DATASET_BY_SIZE, PUBLISHED
from rfkit.files import folder_of

TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_IMAGENET_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"


@dataclass(frozen=True)
class ImageData:
    """A data set in memory.

    Images are uint8 arrays (N, height, width, 3), labels int64 arrays (N,). `mean` and `std` hold one
    number per channel, of the training images scaled to [0, 1].
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    source: Source

    @property
    def num_classes(self):
        """Number of classes."""
        return len(self.class_names)

    @property
    def image_size(self):
        """Height and width of every image, in pixels."""
        return self.train_images.shape[1]

    def sample(self, train, test=1):
        """The same data set cut to some of its images.

        The first images, as in the paper; but folders of images are in the order of their classes, so that the first
        would all be of one class: there the same random ones are always drawn, a smaller sample being part of a larger.

        Args:
            train: Training images to keep.
            test: Test images to keep.

        Returns:
            A new `ImageData`; mean and std stay those of the whole training set.

        Raises:
            ValueError: If a number is not whole or below 1.
        """
        train, test = _some(self.train_labels, train), _some(self.test_labels, test)
        return replace(
            self, train_images=self.train_images[train], train_labels=self.train_labels[train],
            test_images=self.test_images[test], test_labels=self.test_labels[test],
        )  # fmt: skip


def _some(labels, count):
    count = whole("number of images", count, 1)
    blocks = 1 + np.count_nonzero(np.diff(labels))
    if blocks > 2 * len(np.unique(labels)):
        return slice(count)
    return np.random.default_rng(0).permutation(len(labels))[:count]


def default_root():
    """Folder of downloads and of the cache: ``RFKIT_DATA``, or ``data`` in the project's top folder, else here."""
    return folder_of("RFKIT_DATA", "data")


def load(name, *, root=None, image_size=None):
    """Load a data set into memory.

    Args:
        name: ``"digits"`` (scikit-learn's 1,797, which come with this package, at 32x32), ``"cifar10"``,
            ``"tiny_imagenet"`` (both downloaded once, checksum verified) or ``"folder:PATH"``, a directory
            or zip with ``train/<class>/`` and ``test/<class>/`` (or ``val``) images, with one folder per
            class (split 80/20, stratified), or in Tiny ImageNet's own layout; ``"folder:PATH@64"`` resizes
            every image to 64 pixels.
        root: Folder of downloads and of the cache; `default_root` by default. For ``tiny_imagenet`` also a
            zip or folder that is already there.
        image_size: Resize every image to this height and width in pixels; ``None`` keeps them.

    Returns:
        `ImageData`.

    Raises:
        DataError: If the name is unknown or the files are incomplete, broken or inconsistent.
    """
    root = Path(root) if root is not None else default_root()
    if not isinstance(name, str):
        raise DataError(f"data set is {name!r}; expected the name of one, or from_arrays for your own arrays")
    if image_size is not None and (type(image_size) is not int or not 1 <= image_size <= LARGEST_PX):
        raise DataError(f"image_size is {image_size!r}; expected a number of pixels from 1 to {LARGEST_PX}, such as 32")
    if name == "digits":
        return _with_statistics(*_digits(image_size or 32))
    if name == "cifar10":
        return _with_statistics(*_cifar10(root, image_size))
    if name == "tiny_imagenet":
        is_source = root.suffix == ".zip" or (root / "wnids.txt").is_file()
        path = root if is_source else _tiny_imagenet_zip(root)
        return _with_statistics(*load_files(path, root.parent if is_source else root, image_size, name))
    if name.startswith("folder:"):
        path, size = _path_and_size(name.removeprefix("folder:"), image_size)
        return _with_statistics(*load_files(path, root, size))
    raise DataError(f"unknown data set {name!r}; expected {', '.join(DATASETS)} or 'folder:PATH'")


def from_arrays(train, test, *, class_names=None, label="own arrays"):
    """A data set from arrays of your own.

    Args:
        train: Images, a uint8 array (N, size, size, 3), and their classes, whole numbers (N,) from 0.
        test: The same for the test images.
        class_names: Name of each class; its number by default.
        label: What the data set is called where results are printed.

    Returns:
        `ImageData`; its checksum is that of the arrays.

    Raises:
        DataError: If an array has another type or shape, or a class has no name.

    Source: the layout of `torchvision.datasets.CIFAR10`.
    """
    arrays, digest = [], hashlib.sha256()
    for part, (images, labels) in (("training", train), ("test", test)):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
            raise DataError(f"{part} images are {images.dtype} {images.shape}; expected uint8 (N, size, size, 3)")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            given = f"{part} labels are {labels.dtype} {labels.shape} for {len(images)} images"
            raise DataError(f"{given}; expected one whole number for each")
        if arrays and images.shape[1] != arrays[0].shape[1]:
            raise DataError(f"test images have {images.shape[1]} pixels a side, training images {arrays[0].shape[1]}")
        arrays += [images, labels]
        digest.update(images.tobytes() + labels.astype(np.int64).tobytes())
    every = np.concatenate(arrays[1::2])
    lowest, highest = int(every.min(initial=0)), int(every.max(initial=0))
    names = list(map(str, range(highest + 1) if class_names is None else class_names))
    if lowest < 0 or highest >= len(names):
        raise DataError(f"classes run from {lowest} to {highest}; expected 0 to {len(names) - 1}, as many as names")
    return _with_statistics(*arrays, names, Source("arrays", label, digest.hexdigest()))


def _path_and_size(text, image_size):
    """A path, and the size that may follow it after an ``@``."""
    whole, (before, _, size) = Path(text).expanduser(), text.rpartition("@")
    if not text:
        raise DataError("'folder:' names no folder; expected 'folder:PATH'")
    if whole.exists() or not size.isdigit() or not before:
        return whole, image_size
    if not 1 <= int(size) <= LARGEST_PX or image_size not in (None, int(size)):
        given = f" and image_size={image_size}" if image_size is not None else ""
        raise DataError(f"'folder:{text}' asks for {size} pixels{given}; expected one size of 1 to {LARGEST_PX}")
    return Path(before).expanduser(), int(size)


def _with_statistics(train_images, train_labels, test_images, test_labels, class_names, source):
    if len(train_images) == 0 or len(test_images) == 0:
        raise DataError(f"{source.label} has {len(train_images)} training and {len(test_images)} test images")
    parts = np.array_split(train_images, len(train_images) // 1000 + 1)  # bincount makes eight bytes of each
    totals = [sum(np.bincount(part[..., c].ravel(), minlength=256) for part in parts) for c in range(3)]
    values, count = np.arange(256) / 255, train_images[..., 0].size
    mean = [float(total @ values / count) for total in totals]
    std = [float(np.sqrt(total @ (values - m) ** 2 / count)) for total, m in zip(totals, mean, strict=True)]
    if min(std) == 0:
        raise DataError(f"{source.label}: a colour channel of the training images is constant; check the files")
    return ImageData(
        train_images, train_labels.astype(np.int64), test_images, test_labels.astype(np.int64),
        tuple(class_names), tuple(mean), tuple(std), source,
    )  # fmt: skip


def _digits(size):
    with (importlib.resources.files("rfkit") / "reference" / "digits.npz").open("rb") as file, np.load(file) as stored:
        grey, labels = np.round(stored["images"] * (255 / 16)).astype(np.uint8), stored["labels"].astype(np.int64)
    images = np.stack([resized(Image.fromarray(g).convert("RGB"), size) for g in grey])
    train, test = stratified_split(labels)
    digest = hashlib.sha256(grey.tobytes() + labels.tobytes()).hexdigest()
    source = Source("digits", "scikit-learn digits", digest)
    return images[train], labels[train], images[test], labels[test], tuple(map(str, range(10))), source


def _cifar10(root, size):
    from torchvision.datasets import CIFAR10

    try:
        train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    except Exception:  # not there, or damaged: torchvision and pickle raise many kinds
        _download(root, "cifar10", lambda folder: CIFAR10(folder, download=True))
        train, test = CIFAR10(root, train=True), CIFAR10(root, train=False)
    images = [np.stack([resized(Image.fromarray(image), size) for image in split.data]) for split in (train, test)]
    source = Source("cifar10", "CIFAR-10", hashlib.sha256(train.data.tobytes() + test.data.tobytes()).hexdigest())
    return images[0], np.array(train.targets), images[1], np.array(test.targets), train.classes, source


def _tiny_imagenet_zip(root):
    from torchvision.datasets.utils import check_integrity, download_url

    path = root / PUBLISHED["tiny_imagenet"].file
    if not path.is_file():
        _download(root, "tiny_imagenet", lambda at: download_url(TINY_IMAGENET_URL, at, path.name, TINY_IMAGENET_MD5))
    if not check_integrity(str(path), TINY_IMAGENET_MD5):
        wrong = "is not the published Tiny ImageNet (wrong MD5 checksum)"
        raise DataError(f"{path} {wrong}: delete it and retry, or name a copy of yours as folder:PATH")
    return path


def _download(root, name, fetch):
    """Fetch a data set beside its place and move it there when it is whole; of several processes, one does."""
    import filelock

    about = PUBLISHED[name]
    place = root / about.file
    before = place.stat().st_mtime_ns if place.exists() else None
    root.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root / ".lock"), tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
        if place.exists() and place.stat().st_mtime_ns != before:  # another process was faster
            return
        try:
            fetch(folder)
        except Exception as error:  # torchvision raises many kinds; all of them mean the same to a user
            failed = f"{about.label} could not be downloaded to {root} ({error})"
            raise DataError(f"{failed}. Retry with a network, or use a copy of yours: folder:PATH") from error
        if place.is_dir():
            shutil.rmtree(place)
        (Path(folder) / about.file).replace(place)
