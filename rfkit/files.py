"""Files that are never half there: written beside their place, flushed, then renamed."""

import csv
import functools
import hashlib
import io
import json
import operator
import os
import sys
from contextlib import contextmanager
from pathlib import Path


def home():
    """The project's top folder, from the current one upwards, so that a notebook finds what lies there; else ``.``."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_config.yml").is_file() and (folder / "notebooks").is_dir():
            return Path(os.path.relpath(folder))
    return Path()


def folder_of(variable, name):
    """The folder that an environment variable names, or the one of this name in the project's top folder."""
    return Path(os.environ.get(variable) or home() / name).expanduser()


@contextmanager
def importing_from_home():
    """Within the block, modules in the project's top folder can be imported wherever a kernel was started."""
    folder = str(home().resolve())
    sys.path.append(folder)
    try:
        yield
    finally:
        del sys.path[-1 - sys.path[::-1].index(folder)]  # an entry of the user's may come first


class StoreError(RuntimeError):
    """A stored file that cannot be used; the message names it and the fix."""


def first_line(error):
    """What an error says, in one line of at most 200 characters; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def read_reference(name, **options):
    """A table that comes with the package."""
    import pandas as pd

    return pd.read_csv(Path(__file__).parent / "reference" / name, **options)


def write_json(path, content):
    """Write JSON in one step: beside its place, then renamed."""
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


def read_csv(path):
    """Rows of what `write_csv` wrote; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:  # Excel begins it with a mark
        try:
            return list(csv.DictReader(file))
        except UnicodeDecodeError as error:
            raise StoreError(f"{path} is not UTF-8 ({error}); save it as CSV UTF-8") from error


def write_csv(path, rows):
    """Write rows of equal keys as CSV, in one step."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def write_bytes(path, content):
    """Write a file in one step."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path):
    """Write a file that appears at its place only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:  # the disk is full, for one: say where
        said = f"{error.strerror or error}, writing {path}; what was there before is unchanged"
        raise OSError(error.errno, said) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path, *keys):
    """Read a JSON file, a mapping with these keys where any are named; ``"a.b"`` is the key b of a."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            functools.reduce(operator.getitem, key.split("."), content)
    except (OSError, ValueError, RecursionError) as error:
        raise StoreError(f"{path} cannot be read ({error}); delete its folder and run rfkit study again") from error
    except (LookupError, TypeError) as error:
        said = f"holds something else than {' and '.join(keys)}; delete its folder and run rfkit study again"
        raise StoreError(f"{path} {said}") from error
    return content


def save_tensors(path, tensors):
    """Save a nested mapping of tensors and plain values in one step."""
    import torch

    with replacing(path) as file:
        torch.save(tensors, file)


def load_tensors(path):
    """Load what `save_tensors` wrote, without ever running code from the file."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        raise StoreError(
            f"{path} is damaged or holds more than tensors; delete it and run rfkit study again"
        ) from error


def file_sha256(path):
    """Checksum of a file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
