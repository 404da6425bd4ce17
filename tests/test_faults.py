"""What happens when things break: each fault is made for real, and the page that lists them is checked against it.

`python tests/test_faults.py` writes `book/faults.csv` anew from what it finds.
"""

import atexit
import contextlib
import csv
import errno
import functools
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
import torch
from conftest import class_files, write_tree, write_zip

from rfkit import book, data, experiments, files, presets, training
from rfkit.experiments import runner, store
from rfkit.experiments.store import Run, Store

ROOT = Path(__file__).parents[1]
LISTED = ROOT / "book" / "faults.csv"
TINY = presets.get("smoke").select(architectures="vgg19", levels=3)


@functools.cache
def template():
    """A finished run, made once and copied."""
    folder = Path(tempfile.mkdtemp(prefix="rfkit-tests-"))
    atexit.register(shutil.rmtree, folder)
    trained(folder)
    return folder


def trained(folder):
    (unit,) = experiments.units(TINY)
    return unit, runner.complete(unit, Store(folder), data=experiments.load("digits", TINY.image_limit))


def finished(folder):
    shutil.copytree(template(), folder, dirs_exist_ok=True)
    return trained(folder)


def message_of(work, *args, **options):
    try:
        work(*args, **options)
    except (ValueError, RuntimeError, OSError) as error:  # what the command line turns into one line
        return str(error)
    return ""


@contextlib.contextmanager
def as_nobody():
    """Root may write anywhere; so for a while this process is not root."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def disk_full(folder, patch):
    path = folder / "summary.json"
    files.write_json(path, {"before": 1})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(os, "fsync", full)
    said = message_of(files.write_json, path, {"after": 2})
    assert files.read_json(path) == {"before": 1} and [p.name for p in folder.iterdir()] == ["summary.json"]
    return said, "the old file stays whole, nothing half-written is left"


def read_only(folder, patch):
    _, run = finished(folder / "runs")
    other = next(iter(experiments.units(TINY.select(seeds=1))))
    (folder / "runs").chmod(0o555)
    folder.chmod(0o755)
    for parent in (run.path.parent, *run.path.parents[:3]):
        with contextlib.suppress(OSError):
            parent.chmod(0o555)
    with as_nobody():
        said = message_of(
            runner.complete, other, Store(folder / "runs"), data=experiments.load("digits", TINY.image_limit)
        )
    assert Run(run.path).summary["test_accuracy"] >= 0
    return said, "finished runs are still read"


def truncated_weights(folder, patch):
    _, run = finished(folder)
    path = run.path / "weights" / "final.pt"
    path.write_bytes(path.read_bytes()[:1000])
    return message_of(run.weights), "named and refused; deleting the folder and running again makes it anew"


def flipped_bit(folder, patch):
    _, run = finished(folder)
    before = run.summary
    path = run.path / "weights" / "final.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    said = message_of(run.weights)
    shutil.rmtree(run.path)
    _, again = trained(folder)
    assert again.summary == before and again.weights()
    return said, "named and refused; trained again, the numbers are the same"


def damaged_record(folder, patch):
    _, run = finished(folder)
    (run.path / "summary.json").write_text('{"test_acc')
    return message_of(lambda: Run(run.path).summary), "named and refused"


def newer_schema(folder, patch):
    _, run = finished(folder)
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(config | {"schema": 99}))
    store.finish(run.path)
    return message_of(lambda: Run(run.path).config), "refused; the run is left as it is"


def copied_run(folder, patch):
    _, run = finished(folder)
    copy = run.path.with_name("seed5")
    shutil.copytree(run.path, copy)
    assert experiments.verify(folder)[1]
    return message_of(lambda: Run(copy).config), "refused; rfkit verify lists it"


def nonsense_in_a_record(folder, patch):
    unit, run = finished(folder)
    (run.path / store.DONE).write_text("[]")
    found = experiments.verify(folder)[1]
    assert runner.damaged([unit], folder, repair=True) == found
    _, again = trained(folder)
    assert again.summary and (run.path.parent / "seed0.damaged1").is_dir() and experiments.verify(folder)[1] == []
    return found[0], "rfkit study names it, with `--repair` moves it aside and makes it again; rfkit verify lists it"


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def pickle_bomb(folder, patch):
    patch.chdir(folder)
    path = folder / "final.pt"
    path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    first = message_of(files.load_tensors, path)
    torch.save({"weight": Bomb()}, path)
    assert message_of(files.load_tensors, path) and not (folder / "exploded").exists()
    return first, "never executed"


def two_studies(folder, patch):
    command = [sys.executable, "-m", "rfkit", "study", "smoke", "--architectures", "vgg19", "--levels", "3", "-j", "1"]
    environment = os.environ | {"RFKIT_RUNS": str(folder / "runs")}
    pair = [
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = ["".join(process.communicate()) for process in pair]
    runs = Store(folder / "runs").runs()
    assert len(runs) == 1 and runs[0].weights()
    assert [process.returncode for process in pair] == [0, 0]
    waited = [line for output in outputs for line in output.splitlines() if "another process" in line]
    return (waited or outputs[0].splitlines())[
        0
    ], "each run is made once; the other study waits for it, and both end well"


def two_books(folder, patch):
    patch.chdir(ROOT)
    Path("_build").mkdir(exist_ok=True)
    with filelock.FileLock("_build/.lock"):
        said = message_of(book.build, presets.get("smoke"))
    return said, "the second one says so and touches nothing"


def path_in_a_notebook_name(folder, patch):
    patch.chdir(ROOT)
    said = message_of(book.execute, "../../etc/passwd", folder / "out.ipynb", {})
    assert not (folder / "out.ipynb").exists()
    return said.partition(" Valid:")[0] + " Valid: …", "refused before anything is read"


def output_onto_a_source(folder, patch):
    patch.chdir(ROOT)
    return message_of(book.execute, "errata", Path("notebooks/errata.ipynb"), {}), "refused; nothing is executed"


def path_in_a_run_name(folder, patch):
    (unit,) = experiments.units(TINY)
    said = message_of(replace, unit.config, dataset="../../outside")
    assert not (folder.parent / "outside").exists()
    return said, "refused"


def path_in_a_zip(folder, patch):
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        archive.writestr("train/../../outside.png", b"x")
    said = message_of(data.load, f"folder:{folder / 'images.zip'}", root=folder / "data")
    assert not list(folder.parent.glob("outside*"))
    return said, "refused; nothing is unpacked"


def half_a_zip(folder, patch):
    (folder / "images.zip").write_bytes(b"PK\x03\x04 and then the line broke")
    return message_of(data.load, f"folder:{folder / 'images.zip'}", root=folder / "data"), "refused"


def image_folder(folder, **more):
    write_tree(folder / "images", class_files() | more)
    return message_of(data.load, f"folder:{folder / 'images'}", root=folder / "data")


def bomb(folder, patch):
    path = write_zip(folder / "images.zip", class_files())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat/bomb.png", bytes(100 * 2**20))
    return message_of(data.load, f"folder:{path}", root=folder / "data"), "refused after 64 MiB"


def pipe(folder, patch):
    (folder / "images" / "train" / "cat").mkdir(parents=True)
    os.mkfifo(folder / "images" / "train" / "cat" / "x.png")
    return image_folder(folder), "refused; it is not opened"


def dangling_link(folder, patch):
    (folder / "images" / "train" / "cat").mkdir(parents=True)
    (folder / "images" / "train" / "cat" / "x.png").symlink_to("nowhere")
    return image_folder(folder), "refused"


def damaged_image(folder, patch):
    return image_folder(folder, **{"test/dog/0.png": class_files()["test/dog/0.png"][:40]}), "refused"


def huge_size(folder, patch):
    return message_of(data.load, f"folder:{folder}@30000"), "refused before anything is read"


def wrong_outputs(folder, patch):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 1000))
    return message_of(training.check_outputs, net, 10, 32), "refused before it is trained"


def broken_network(folder, patch):
    (folder / "mynet.py").write_text("def net(level, num_classes):\n    return {}[level]\n", encoding="utf-8")
    patch.syspath_prepend(str(folder))
    patch.delitem(sys.modules, "mynet", raising=False)
    both = TINY.select(architectures=["mynet:net", "vgg19"])
    patch.setenv("RFKIT_RUNS", str(folder / "runs"))
    failures = runner.run_all(experiments.units(both), analyses=["pruning"], jobs=1, image_limit=both.image_limit)
    assert len(failures) == 1 and len(list(Store().runs())) == 1
    return message_of(training.flops_per_image, failures[0][0].config), "the networks beside it are trained"


def stopped_download(folder, patch):
    from torchvision.datasets import utils

    def half(url, root, name, md5):
        (Path(root) / name).write_bytes(b"half of it")
        raise OSError(errno.ECONNRESET, "Connection reset by peer")

    patch.setattr(utils, "download_url", half)
    said = message_of(data.load, "tiny_imagenet", root=folder / "data")
    assert [path.name for path in (folder / "data").iterdir() if path.name != ".lock"] == []
    return said, "nothing is left; another process never meets half of it"


def no_kernel(folder, patch):
    from rfkit.homework import editions, grading, kernel

    def refused(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    patch.chdir(ROOT)
    editions.build(folder / "hw")
    patch.setattr(kernel.KernelManager, "start_kernel", refused)
    return message_of(grading.grade, folder / "hw"), "grading stops; it costs no student a point"


def other_weights(folder, patch):
    _, run = finished(folder)
    (result,) = run.path.glob("analysis/pruning-*/result.json")
    stored = json.loads(result.read_text())
    stored["weights"]["final"] = "0" * 64
    result.write_text(json.dumps(stored))
    store.finish(result.parent)
    (unit,) = experiments.units(TINY)
    return message_of(Run(run.path, unit.asked).result, "pruning"), "refused"


def misspelled(folder, patch):
    patch.chdir(ROOT)
    return message_of(book.check_parameters, "claims", {"sedes": [0]}), "refused before a kernel is started"


FAULTS = {
    "the disk is full while a file is saved": disk_full,
    "the run folder cannot be written": read_only,
    "a weights file is cut short": truncated_weights,
    "a bit of a weights file is flipped": flipped_bit,
    "a record is damaged": damaged_record,
    "a record holds something else": nonsense_in_a_record,
    "a run's folder was copied or renamed": copied_run,
    "a run was made by a newer version": newer_schema,
    "a weights file holds a program": pickle_bomb,
    "two studies work on one store": two_studies,
    "two books are built in one folder": two_books,
    "a notebook's name is a path": path_in_a_notebook_name,
    "the output of a notebook would overwrite a source": output_onto_a_source,
    "a run's name is a path": path_in_a_run_name,
    "a member of a zip leads out of it": path_in_a_zip,
    "a zip is half there": half_a_zip,
    "a member of a zip unpacks to gigabytes": bomb,
    "a pipe lies among the images": pipe,
    "a link among the images leads nowhere": dangling_link,
    "an image is cut short": damaged_image,
    "images are asked for at 30,000 pixels": huge_size,
    "a network has another number of outputs than classes": wrong_outputs,
    "a network of your own fails": broken_network,
    "a download is cut off": stopped_download,
    "no kernel can be started to grade in": no_kernel,
    "a result was made from another machine's weights": other_weights,
    "a notebook's parameter is misspelled": misspelled,
}


def plain(message, folder):
    """A message without what differs from one computer or run to the next."""
    message = message.replace(str(folder), "…").replace(str(ROOT), "…").replace("\n", " ")
    message = re.sub(r"denied: '…/runs/[^']*'", "denied: '…/runs/…'", message)
    message = re.sub(r"-[0-9a-f]{10}\b", "-…", message)
    return re.sub(r"\d+(\.\d+)? (min|s)\b", "… \\2", message).strip()


def rows_listed():
    return list(csv.DictReader(LISTED.read_text(encoding="utf-8").splitlines()))


@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fault, tmp_path, monkeypatch):
    said, outcome = FAULTS[fault](tmp_path, monkeypatch)
    assert said, f"nothing was said when {fault}"
    listed = {row["fault"]: row for row in rows_listed()}
    assert listed[fault] == {"fault": fault, "message": plain(said, tmp_path), "outcome": outcome}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, as Linux does")
def test_random_damage_ends_in_clear_lines():
    """A few seconds of `make fuzz`."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "fuzz.py", "0.05"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count(" 0 failed") == 5, done.stdout + done.stderr


def test_the_page_lists_every_fault():
    assert [row["fault"] for row in rows_listed()] == list(FAULTS)


if __name__ == "__main__":
    rows = []
    for name, make in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            Path(folder).chmod(0o755)
            said, outcome = make(Path(folder), patch)
            rows.append({"fault": name, "message": plain(said, folder), "outcome": outcome})
            print(rows[-1])
            for path in Path(folder).rglob("*"):
                if not path.is_symlink():
                    path.chmod(0o755)
    files.write_csv(LISTED, rows)
