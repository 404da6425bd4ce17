"""Files that are never half there: written beside their place, flushed, then renamed."""

import csv
import hashlib
import importlib.resources
import io
import json
import os
from contextlib import contextmanager


class StoreError(RuntimeError):
    """A stored file that cannot be used; the message names it and the fix."""


def read_reference(name, **options):
    """A table of published numbers that comes with the package.

    Args:
        name: File in ``rfkit/reference``.
        **options: Passed to `pandas.read_csv`.

    Returns:
        Data frame.
    """
    import pandas as pd

    with (importlib.resources.files("rfkit") / "reference" / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, **options)


def write_json(path, content):
    """Write JSON in one step: beside its place, then renamed.

    Args:
        path: The file.
        content: JSON-able value.
    """
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def write_csv(path, rows):
    """Write rows of equal keys as CSV, in one step.

    Args:
        path: The file.
        rows: Non-empty list of mappings.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def write_bytes(path, content):
    """Write a file in one step.

    Args:
        path: The file; its folder is made.
        content: Bytes.
    """
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path):
    """Write a file that appears at its place only when the block ends without an error.

    Args:
        path: The file; its folder is made.

    Yields:
        Binary file, open for writing.

    Raises:
        OSError: If it cannot be written, with the file's name; what was there before is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # the disk is full, for one: say where
        raise OSError(error.errno, f"{error.strerror}, writing {path}; what was there before is unchanged") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path):
    """Read a JSON file.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        StoreError: If it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); delete its folder and run rfkit study again") from error


def save_tensors(path, tensors):
    """Save a nested mapping of tensors and plain values in one step.

    Args:
        path: The file.
        tensors: What `torch.save` takes; it must load with ``weights_only=True``.
    """
    import torch

    with replacing(path) as file:
        torch.save(tensors, file)


def load_tensors(path):
    """Load what `save_tensors` wrote, without ever running code from the file.

    Args:
        path: The file.

    Returns:
        Mapping, on the CPU.

    Raises:
        StoreError: If it is damaged or holds anything but tensors and plain values.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        raise StoreError(
            f"{path} is damaged or holds more than tensors; delete it and run rfkit study again"
        ) from error


def file_sha256(path):
    """Checksum of a file.

    Args:
        path: The file.

    Returns:
        Hexadecimal sha256; None if there is no such file.
    """
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
