"""Random damage to what rfkit reads: every case ends within seconds, in a result or in a line that says what is wrong.

Each case runs in a process of its own. It fails on a traceback, after 5 s, with more than 1 GiB, or when anything was
written outside the cache. Not part of `make test`, which runs a second of it: `make fuzz` takes ten minutes.
Usage: python tests/fuzz.py [minutes] [seed of one case]
"""

import contextlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

SECONDS, MIB = 5, 1024
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
WORDS = (
    "train",
    "test",
    "val",
    "..",
    ".",
    "cat",
    "a: x",
    "C:",
    "x" * 300,
    "é\udcff",
    "\n",
    "",
    "wnids.txt",
    "__MACOSX",
)
JSONS = ("", "{", "[]", "{}", "null", "0", '"x"', '{"a": NaN}', '{"schema": 1}', '{"sha256": {}}', "[" * 5000)
VALUES = (
    "", "0", "-1", "1e400", "99999999999999999999", "True", "None", "[]", "[[1]]", "{}", "{1: 2}", "nan", "'", '"',
    "1,", "a,b", "../..", "\x00", "é", "folder:", "folder:@", "folder:/dev/zero", "folder:.@-1", "os:system", "0.5",
    "torch.nn:Linear", "rfkit.contrast_nets:enlarged", "no.such:net", "[0.5,1.5]", "2", "vgg19", "digits", "smoke",
    "float16", "(" * 300,
)  # fmt: skip


# --- damage ---------------------------------------------------------------------------------------


def damaged_bytes(rng, content):
    """A few bytes flipped, cut, doubled or overwritten by numbers that length fields dislike."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if not content:
            break
        at, size = rng.randrange(len(content)), rng.choice((1, 2, 4, 50))
        kind = rng.randrange(5)
        if kind == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[at : at + size] = rng.choice((b"\x00", b"\xff", b"\x7f")) * size
        elif kind == 2:
            del content[at : at + size * 10]
        elif kind == 3:
            content[at:at] = content[at : at + size]
        else:
            del content[at:]
    return bytes(content)


def picture(rng):
    name = rng.choice(FORMATS)
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, name)
    return name.lower(), buffer.getvalue()


def tree(rng):
    """Files of a small data set, in one of the layouts that are read."""
    if rng.random() < 0.3:
        files = {"wnids.txt": b"n1\nn2\n", "words.txt": b"n1\tcat\nn2\tdog\n"}
        files |= {f"train/{name}/images/{i}.png": picture(rng)[1] for name in ("n1", "n2") for i in range(2)}
        files |= {f"val/images/{i}.png": picture(rng)[1] for i in range(2)}
        return files | {"val/val_annotations.txt": b"0.png\tn1\t0\n1.png\tn2\t0\n"}
    splits = rng.choice((("train/", "test/"), ("train/", "val/"), ("",)))
    rows = [(split, name, i, *picture(rng)) for split in splits for name in ("cat", "dog") for i in range(3)]
    return {f"{split}{name}/{i}.{suffix}": content for split, name, i, suffix, content in rows}


def damaged_tree(rng, files):
    files = dict(files)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(sorted(files))
        kind = rng.randrange(4)
        if kind == 0:
            files[name] = damaged_bytes(rng, files[name])
        elif kind == 1 and len(files) > 1:
            del files[name]
        elif kind == 2:
            parts = name.split("/")
            parts[rng.randrange(len(parts))] = rng.choice(WORDS)
            files["/".join(parts)] = files.pop(name)
        else:
            files[name] = rng.choice(JSONS).encode()
    return files


def pack(rng, files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(
        buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    ) as archive:
        for name, content in files.items():
            archive.writestr(name.encode(errors="replace").decode() or "x", content)
    return buffer.getvalue()


# --- what is read ---------------------------------------------------------------------------------


def read_zip(rng, folder):
    from rfkit import data

    files = tree(rng)
    content = pack(rng, damaged_tree(rng, files) if rng.random() < 0.5 else files)
    (folder / "in" / "a.zip").write_bytes(damaged_bytes(rng, content) if rng.random() < 0.7 else content)
    return lambda: data.load(f"folder:{folder / 'in' / 'a.zip'}{rng.choice(('', '@16'))}", root=folder / "cache")


def read_folder(rng, folder):
    from rfkit import data

    root = folder / "in"
    for name, content in damaged_tree(rng, tree(rng)).items():
        with contextlib.suppress(OSError, ValueError):  # names that no file can have
            path = root / name.replace("..", "dots")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    victim = rng.choice(sorted(path for path in root.rglob("*")))
    with contextlib.suppress(OSError):
        strange = victim.with_name(rng.choice(("x.png", "x", ".x")))
        rng.choice((
            os.mkfifo,
            lambda path: path.symlink_to("nowhere"),
            lambda path: path.symlink_to(root),
            Path.mkdir,
        ))(strange)
    return lambda: data.load(f"folder:{root}{rng.choice(('', '@16'))}", root=folder / "cache")


def read_damaged_cache(rng, folder):
    from rfkit import data
    from rfkit.files import file_sha256

    for name, content in tree(rng).items():
        path = folder / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def load():
        return data.load(f"folder:{folder / 'in'}@8", root=folder / "cache")

    load()
    (cached,) = folder.glob("cache/cache/*.npz")
    cached.write_bytes(damaged_bytes(rng, cached.read_bytes()))
    if rng.random() < 0.7:
        cached.with_suffix(".sha256").write_text(file_sha256(cached))
    return load


def read_runs(rng, folder):
    """A finished run with one to three damaged files, by every command that reads it."""
    from rfkit import cli
    from rfkit.experiments import store

    runs = folder / "cache"  # a study may write there
    shutil.copytree(os.environ["RFKIT_FUZZ_RUN"], runs, dirs_exist_ok=True)
    files = sorted(path for path in runs.rglob("*") if path.is_file() and path.name != ".lock")
    for path in rng.sample(files, rng.randint(1, 3)):
        kind = rng.randrange(5)
        if kind == 0:
            path.unlink()
        elif kind == 1 and path.suffix in (".json", "") and path.exists():
            path.write_text(rng.choice(JSONS))
            if rng.random() < 0.5 and not (path.parent / store.DONE).is_dir():
                store.finish(path.parent)
        elif kind == 2:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(damaged_bytes(rng, path.read_bytes()))
    os.environ["RFKIT_RUNS"] = str(runs)
    words = rng.choice((
        ["ls"],
        ["verify", str(runs)],
        ["summary", "smoke"],
        ["show", "level3"],
        ["table", "1", "--preset", "smoke"],
    ))
    return lambda: cli.main(words)


def read_parameters(rng, folder):
    from rfkit import book

    names = book.notebook_names()
    name = rng.choice(names)
    keys = [*book.defaults(name), "preset", "levels", "datasets", "architectures", rng.choice(WORDS)]
    pairs = [
        f"{rng.choice(keys)}={rng.choice(VALUES)}{rng.choice(('', '', rng.choice(VALUES)))}"
        for _ in range(rng.randint(1, 3))
    ]
    return lambda: book.check_parameters(name, book.parse(pairs))


TARGETS = (read_zip, read_folder, read_damaged_cache, read_runs, read_parameters)


# --- one case -------------------------------------------------------------------------------------


def outcome(work):
    """How some work ends: "fine", "refused", or what is wrong with it."""
    said, answer = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(answer):
            code = work()
        lines = said.getvalue().strip().splitlines() or answer.getvalue().strip().splitlines()
        lines, refused = (
            [line for line in lines if not line.startswith("rfkit: left out")] or lines[:1],
            isinstance(code, int) and code != 0,
        )
    except (ValueError, OSError, RuntimeError) as error:  # what the command line turns into one line
        if isinstance(error, RecursionError | UnicodeError | NotImplementedError | json.JSONDecodeError):
            return traceback.format_exc()  # Python's words, nobody's message
        lines, refused = str(error).splitlines(), True
    except SystemExit:
        return "refused"
    except BaseException:
        return traceback.format_exc()
    unclear = not lines or any("object at 0x" in line or "Traceback" in line or len(line) > 1500 for line in lines)
    if refused and unclear:
        return f"not one clear line each: {lines}"
    return "refused" if refused else "fine"


def outside(folder):
    """Everything in a folder but the cache, with sizes."""
    found = (Path(base) / name for base, _, names in os.walk(folder) for name in names)
    return {path: path.lstat().st_size for path in found if not path.is_relative_to(folder / "cache")}


def case(seed, target):
    """Run one case in a process of its own; returns how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, wherever it hangs
        folder = Path(tempfile.mkdtemp(prefix="rfkit-fuzz-"))
        (folder / "in").mkdir()
        try:
            work = target(random.Random(seed), folder)
            before, memory = outside(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            signal.alarm(SECONDS)
            said = outcome(work)
            signal.alarm(0)
            more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
            if more > MIB:
                said = f"{more:.0f} MiB of memory"
            if outside(folder) != before:
                said = f"written outside the cache: {outside(folder).keys() ^ before.keys()}"
        except BaseException:
            said = f"the fuzz itself: {traceback.format_exc()}"
        shutil.rmtree(folder, ignore_errors=True)
        os.write(writing, said.encode(errors="replace")[-60000:])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    return said or f"ended by signal {os.WTERMSIG(status)}, {SECONDS} s are up" if status else said


def fuzz(minutes, seed=None):
    """Returns the number of failing cases; prints each with the seed that makes it again."""
    import torch

    from rfkit import experiments, presets
    from rfkit.experiments import runner
    from rfkit.experiments.store import Store

    torch.set_num_threads(1)
    template = Path(tempfile.mkdtemp(prefix="rfkit-fuzz-run-"))
    (unit,) = experiments.units(presets.get("smoke").select(architectures="vgg19", levels=3))
    runner.complete(unit, Store(template), data=experiments.load("digits", presets.get("smoke").image_limit))
    os.environ["RFKIT_FUZZ_RUN"] = str(template)
    first, deadline = (int(time.time()) * 1000 if seed is None else seed), time.monotonic() + 60 * minutes
    counts, failures = {target.__name__: Counter() for target in TARGETS}, {}
    for number in range(first, first + 10**9):
        target = TARGETS[number % len(TARGETS)]
        said = case(number, target)
        counts[target.__name__]["failed" if said not in ("fine", "refused") else said] += 1
        if said not in ("fine", "refused"):
            kind = said.strip().splitlines()[-1]
            if failures.setdefault(f"{target.__name__}: {kind[:60]}", number) == number:
                print(f"seed {number}, {target.__name__}:\n{said}\n", flush=True)
        if seed is not None or time.monotonic() > deadline:
            break
    shutil.rmtree(template)
    for name, count in counts.items():
        print(
            f"{name}: {count.total()} cases, {count['fine']} read, {count['refused']} refused, {count['failed']} failed"
        )
    return len(failures)


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(min(1, fuzz(float(words[0]) if words else 10, int(words[1]) if len(words) > 1 else None)))
