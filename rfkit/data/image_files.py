"""Images in a directory or a zip, read into arrays once and cached with a checksum."""

import hashlib
import io
import os
import re
import zipfile
from collections import Counter
from contextlib import suppress
from dataclasses import astuple, dataclass
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
"""Largest file and largest side of one image: more is a mistake, or a bomb."""
_LAYOUT = "expected train/<class>/<image> beside test/ (or val/), or one folder of two or more <class>/<image>"


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


def stratified_split(labels):
    """A fixed random split, four fifths to one, with the same share of every class."""
    random, test = np.random.default_rng(0), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        test.append(random.permutation(members)[: max(1, round(0.2 * len(members)))])
    chosen = np.zeros(len(labels), bool)
    chosen[np.concatenate(test)] = True
    return random.permutation(np.flatnonzero(~chosen)), np.flatnonzero(chosen)


class _Files:
    """The files of a directory or a zip under one interface: relative POSIX names and their bytes."""

    def __init__(self, path):
        self.path = path
        self._zip = None
        if path.is_dir():
            self.names = sorted(_names(path))
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


def _names(root):
    """The files below a folder, through links too but round no circle; what could not be written down or would hang."""
    for base, folders, files in os.walk(root, followlinks=True):
        above = {os.path.realpath(base), *map(os.path.realpath, Path(base).parents)}
        folders[:] = [name for name in folders if os.path.realpath(Path(base) / name) not in above]
        for file in (Path(base) / name for name in files):
            name = file.relative_to(root).as_posix()
            if re.search("[\ud800-\udfff]", name):
                raise DataError(f"{name!r} in {root} has a name that is not UTF-8; rename it")
            if not file.exists():
                raise DataError(f"{name} in {root} is a link that leads nowhere; remove it")
            if not file.is_file():  # it may never end
                raise DataError(f"{name} in {root} is no regular file (a pipe, socket or device); remove it")
            yield name


def load_files(path, cache_root, size=None, name=None):
    """Read a directory or zip of images, or its cached arrays."""
    files = _Files(path)
    key = files.key()
    suffix = f"-{size}" if size else ""
    cached = cache_root / "cache" / f"{name or _own_name(path)}-{key[:16]}{suffix}.npz"
    checksum = cached.with_suffix(".sha256")
    if checksum.is_file() and file_sha256(cached) == checksum.read_text():
        with suppress(Exception), np.load(cached, allow_pickle=False) as stored:  # else it holds something else
            *arrays, class_names, source = stored.values()
            return *arrays, tuple(class_names.tolist()), Source(*source.tolist())
    *arrays, source = loaded = _decode(files, size, None if path.is_dir() else key, name)
    with replacing(cached) as file:
        np.savez(file, *arrays, astuple(source))
    write_bytes(checksum, file_sha256(cached).encode())
    return loaded


def _own_name(path):
    """Name of a user's data set, which is never that of a published one or of a known copy."""
    name = path.resolve().stem
    return f"folder_{name}" if name in (*DATASETS, *COPIES) else name


def _decode(files, size, sha256, name):
    bases = [name.removesuffix("wnids.txt") for name in files.names if f"/{name}".endswith("/wnids.txt")]
    class_names, *splits = _tiny_imagenet_entries(files, bases[0]) if bases else _class_folders(files)
    digest, arrays, side = hashlib.sha256(), [], None
    for entries in splits:
        if not entries:
            raise DataError(f"{files.path} has an empty split; expected images under train/ and test/ (or val/)")
        images = None
        for i, (file, _) in enumerate(entries):
            raw = files.read(file)
            digest.update(f"{file}\0".encode() + hashlib.sha256(raw).digest())
            image = _decode_image(raw, file, files.path, size)
            (height, width, _), side = image.shape, side or len(image)
            if (height, width) != (side, side):
                found = f"{file} in {files.path} is {width}x{height} pixels; expected squares of one size, here {side}"
                raise DataError(f"{found}: resize all images, by folder:PATH@64 or image_size=64")
            images = np.empty((len(entries), side, side, 3), np.uint8) if images is None else images
            images[i] = image
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
    return [n for n in files.names if n.lower().endswith(IMAGE_SUFFIXES) and not re.search(r"(^|/)(\.|__MACOSX)", n)]


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
    if missing := sorted(names["train"] ^ names[held_out]):
        where = held_out if missing[0] in names["train"] else "train"
        raise DataError(f"{files.path}: class folder {missing[0]!r} is missing or empty under {where}/; add its images")
    index = {name: i for i, name in enumerate(sorted(names["train"]))}
    train, test = ([(file, index[label]) for file, label in entries[split]] for split in ("train", held_out))
    return [*index], train, test


def _split_class_folders(files, found):
    deep = [parts for parts in found if len(parts) >= 2]
    class_names = sorted({parts[-2] for parts in deep})
    if len(class_names) < 2:
        raise DataError(f"{files.path} holds {len(found)} images in {len(class_names)} class folders; {_LAYOUT}")
    if set(map(str.lower, class_names)) <= {"train", "test", "val", "valid", "validation"}:
        raise DataError(f"{files.path} has images right under {class_names[0]}/, in no class folder; {_LAYOUT}")
    above = sorted({"/".join(parts[:-2]) for parts in deep})
    if len(above) > 1:  # a test set of another name would be mixed with the training images
        raise DataError(f"{files.path} has class folders under {above[0] or '.'}/ and under {above[1]}/; {_LAYOUT}")
    few, count = Counter(parts[-2] for parts in deep).most_common()[-1]
    if count < 2:
        raise DataError(f"{files.path}: class folder {few!r} has one image; expected one for training and one for test")
    entries = [("/".join(parts), class_names.index(parts[-2])) for parts in deep]
    train, test = stratified_split(np.array([label for _, label in entries]))
    return class_names, [entries[i] for i in train], [entries[i] for i in test]


def _tiny_imagenet_entries(files, base):
    present, prefix, train, test = set(files.names), f"{base}train/", [], []
    wnids = " ".join(files.lines(f"{base}wnids.txt")).split()
    index = {wnid: i for i, wnid in enumerate(wnids)}
    for name in _images(files):
        if name.startswith(prefix):
            wnid = name.removeprefix(prefix).split("/")[0]
            if wnid not in index:
                raise DataError(f"{files.path}: class folder train/{wnid:.80} is not listed in wnids.txt")
            train.append((name, index[wnid]))
    if empty := index.keys() - {wnids[label] for _, label in train}:
        raise DataError(f"{files.path}: class folder train/{min(empty):.80} is missing or empty; wnids.txt lists it")
    if (annotations := f"{base}val/val_annotations.txt") not in present:
        raise DataError(f"{files.path}: {annotations} is missing; Tiny ImageNet's validation labels are in it")
    for line in files.lines(annotations):
        row, *fields = line.split("\t")
        if not fields:
            raise DataError(f"{files.path}: val_annotations.txt has the line {line!r:.80}; expected file<TAB>class")
        name, wnid = f"{base}val/images/{row}", fields[0]
        if name not in present:
            raise DataError(f"{files.path}: val_annotations.txt lists {row:.80}, which is not in val/images")
        if wnid not in index:
            raise DataError(f"{files.path}: val_annotations.txt gives {row:.80} the class {wnid:.80}, not in wnids.txt")
        test.append((name, index[wnid]))
    lines = files.lines(f"{base}words.txt") if f"{base}words.txt" in present else []
    words = {wnid: names.split(",")[0] for wnid, _, names in (line.partition("\t") for line in lines)}
    return [words.get(wnid, wnid) for wnid in wnids], train, test
