"""The store: runs and results of analyses, written so that nothing is ever half there.

A folder is finished when its ``DONE`` file exists, which is written last and holds the sha256 of every other file.
Files are written beside their place and renamed. A folder is claimed with a lock of the operating system, which
vanishes with its process.
"""

import json
import shutil
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import filelock
import numpy as np

from rfkit.config import ALGORITHM, ConfigError, RunConfig, differences, run_config, stable_hash
from rfkit.files import StoreError, file_sha256, folder_of, load_tensors, read_csv, read_json, replacing, write_json

DONE = "DONE"
RESULT = "result.json"
ARRAYS = "arrays.npz"


class BusyError(StoreError):
    """Another process is working on this folder."""


def checksums(folder):
    """The checksums in the ``DONE`` file of a finished folder."""
    return read_json(folder / DONE, "sha256")["sha256"]


def check(folder, name):
    """Compare a file with the checksum in the ``DONE`` file of its folder; a `StoreError` if it differs."""
    expected = checksums(folder).get(name)
    if not (folder / name).is_file():
        raise StoreError(f"{folder / name} is missing; delete the folder {folder} and run rfkit study again")
    if expected != file_sha256(folder / name):
        raise StoreError(
            f"{folder / name} was changed or damaged after it was finished (wrong checksum); delete the "
            f"folder {folder} and run rfkit study again"
        )


def finish(folder):
    """Mark a run or a result as finished, with the checksum of every file in it but the results of analyses."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    kept = [name for name in names if not name.startswith(("analysis/", ".")) and name not in (DONE, "checkpoint.pt")]
    write_json(folder / DONE, {"sha256": {name: file_sha256(folder / name) for name in kept}})


@contextmanager
def locked(folder, *, busy=None):
    """Hold the lock of a folder; where another process does, wait for it, or raise a `BusyError` that says `busy`."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout as error:
        if busy:
            raise BusyError(busy) from error
        print(f"rfkit: waiting for {folder}, which another process is working on", file=sys.stderr, flush=True)
        held = lock.acquire()
    with held:
        yield


@contextmanager
def claimed(folder):
    """Work on a folder alone, as with `locked`, free of what a process that was killed while writing left there."""
    with locked(folder):
        for leftover in folder.rglob("*.tmp*"):
            if leftover.parent == folder or not (leftover.parent / ".lock").exists():  # which others may be holding
                leftover.unlink()
        yield


def key_of(settings):
    """Hash of the settings of an analysis, without its rates: a curve of more rates serves for one of fewer."""
    return stable_hash({name: value for name, value in settings.items() if name != "rates"})


def save_result(folder, settings, values, provenance, weights=None):
    """Store what an analysis came to, replacing what is there."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    if arrays:
        with replacing(folder / ARRAYS) as file:
            np.savez_compressed(file, **arrays)
    plain = {name: value for name, value in values.items() if name not in arrays}
    content = {"settings": settings, "weights": weights or {}, "provenance": provenance, "values": plain}
    write_json(folder / RESULT, content)
    finish(folder)


def read_result(folder, settings=None):
    """A finished result; None where there is none, or it lacks some of the rates that are asked for."""
    before = _finished_at(folder)
    try:
        return _read_result(folder, settings) if before else None
    except StoreError:
        if _finished_at(folder) == before:
            raise
        return read_result(folder, settings)  # another process replaced it meanwhile


def _finished_at(folder):
    try:
        return (folder / DONE).stat().st_mtime_ns
    except OSError:
        return None


def _read_result(folder, settings):
    check(folder, RESULT)
    stored = read_json(folder / RESULT, "settings", "weights", "values")
    if (folder / ARRAYS).is_file():
        check(folder, ARRAYS)
        with np.load(folder / ARRAYS) as arrays:
            stored["values"] |= {name: arrays[name] for name in arrays.files}
    if settings is not None:
        asked, there = (dict(each) for each in (json.loads(json.dumps(settings)), stored["settings"]))
        rates, there_rates = asked.pop("rates", ()), there.pop("rates", ())
        if asked != there:
            raise ConfigError(f"{folder} is of other settings ({'; '.join(differences(there, asked))}); delete it")
        if not set(rates) - {0} <= set(there_rates):  # every curve begins with the dense network
            return None
    return stored


@dataclass(frozen=True)
class Run:
    """A stored run, finished or not, and the analyses that are asked of it."""

    path: Path  #: Its folder.
    #: Name of an analysis to its settings; results are read by these, never by date.
    asked: dict = field(default_factory=dict, hash=False)

    @property
    def done(self):
        """Whether the training is finished."""
        return (self.path / DONE).is_file()

    @cached_property
    def stored_config(self) -> dict:
        """The configuration it was made from, as it was written; a `StoreError` if its folder is another run's."""
        stored = read_json(self._checked("config.json"))
        config, folder = run_config(stored), f"{self.path.parent.name}/{self.path.name}"
        if stored.get("algorithm") == ALGORITHM and folder != config.folder:  # an older one gave other names
            raise StoreError(f"{self.path} holds the run {config.folder} and not {folder}; move it there or delete it")
        return stored

    @cached_property
    def config(self) -> RunConfig:
        """The configuration it was made from."""
        return run_config(self.stored_config)

    @cached_property
    def summary(self) -> dict:
        """Results of the training, with accuracies, selected epoch, shrink factor."""
        return read_json(self._checked("summary.json"), "test_accuracy")

    @cached_property
    def provenance(self) -> dict:
        """How, on what and with what the run was made."""
        return read_json(self._checked("provenance.json"), "data.label", "device")

    @cached_property
    def metrics(self) -> list[dict]:
        """Loss and accuracy of each epoch."""
        rows = read_csv(self._checked("metrics.csv"))
        return [{key: float(value) for key, value in row.items()} for row in rows]

    @cached_property
    def weights_sha256(self):
        """Checksum of the final weights, kept also where they are not; None for a run that is not finished."""
        return checksums(self.path).get("weights/final.pt") if self.done else None

    def weights(self, which="final"):
        """State dict, on the CPU, at ``init``, of the ``last`` epoch or the ``final`` (selected) one.

        A `StoreError` if the weights are missing or their checksum is wrong.
        """
        if not self.has_weights(which):
            missing = f"{self.path / 'weights' / which}.pt is missing"
            again = f"train the run with rfkit study; if it is one of yours, delete {self.path} first"
            raise StoreError(f"{missing}: records keep no weights; {again}")
        return load_tensors(self._checked(f"weights/{which}.pt"))

    def has_weights(self, which="final"):
        """Whether weights are stored: ``init``, ``last`` or ``final``."""
        return (self.path / "weights" / f"{which}.pt").is_file()

    def _checked(self, name):
        """Path of a file, compared with its checksum if the run is finished."""
        if self.done:
            check(self.path, name)
        return self.path / name

    def folder_of(self, name, settings):
        """Folder of the result of an analysis."""
        return self.path / "analysis" / f"{name}-{key_of(settings)}"

    def result(self, name):
        """What an analysis came to, a mapping, or None where it is not asked of this run or not made yet.

        A `StoreError` if it was changed after it was finished, or was made from other weights than the run's.
        """
        settings = self.asked.get(name)
        if settings is None:
            return None
        stored = read_result(folder := self.folder_of(name, settings), settings)
        if stored is None:
            return None
        made_from = {"final": self.weights_sha256}
        if "other_seed" in settings:
            made_from["other"] = Run(self.path.with_name(f"seed{settings['other_seed']}")).weights_sha256
        if any(known and stored["weights"].get(which, known) != known for which, known in made_from.items()):
            raise StoreError(
                f"{folder} was made from other weights than those of {self.path}, perhaps another machine's; delete "
                "it and run rfkit study again"
            )
        return stored["values"]

    def missing(self, analyses):
        """Those of some analyses that are asked of this run and not made yet: name to settings."""
        asked = {each.name: self.asked[each.name] for each in analyses if each.name in self.asked}
        return {name: settings for name, settings in asked.items() if self.result(name) is None}

    def pairs(self, analyses):
        """(name, settings, first `Run`) of those of some analyses that compare this run with one that is there."""
        if not (self.done and self.has_weights()):  # the seed gives those before training
            return []
        todo = self.missing([each for each in analyses if each.needs == "pair"])
        found = [(name, each, Run(self.path.with_name(f"seed{each['other_seed']}"))) for name, each in todo.items()]
        return [pair for pair in found if pair[2].done and pair[2].has_weights()]

    def places(self, name, rates):
        """Indices of the rates that are asked for, and of 0 (dense), in a result that may have more."""
        asked = self.asked[name].get("rates")
        return [i for i, rate in enumerate(rates) if asked is None or rate in (0.0, *asked)]


class Store:
    """All runs under one folder, by default ``RFKIT_RUNS``, or ``runs`` in the project's top folder."""

    def __init__(self, root=None):
        self.root = Path(root) if root is not None else folder_of("RFKIT_RUNS", "runs")

    def run(self, config, asked=None):
        """The `Run` of a configuration; nothing is created.

        A `ConfigError` if its folder holds another configuration; every differing field is named.
        """
        run = Run(self.root / config.folder, asked or {})
        stored = run.path / "config.json"
        if stored.is_file() and (different := differences(read_json(stored), config.to_dict())):
            raise ConfigError(
                f"{run.path} holds another configuration: {'; '.join(different)}. Move the folder away, or set "
                "RFKIT_RUNS to another one"
            )
        return run

    def runs(self):
        """Every finished run, sorted by folder."""
        return [Run(done.parent) for done in sorted(self.root.glob(f"*/seed*/{DONE}"))]

    @contextmanager
    def claim(self, config, asked=None):
        """Work on a `Run` alone, its configuration written; where another process does, wait for it."""
        run = self.run(config, asked)
        with claimed(run.path):
            if not (run.path / "config.json").is_file():
                write_json(run.path / "config.json", config.to_dict())
            yield run


def damage(folder):
    """What is wrong with a finished run or result, and with the results in it; records may have final weights alone."""
    found, kept = [], {f"weights/{path.name}" for path in folder.glob("weights/*.pt")}
    is_record = kept <= {"weights/final.pt"}
    try:
        for name in checksums(folder):
            if name in kept or not (is_record and name.startswith("weights/")):
                check(folder, name)
        if (folder / "config.json").is_file():
            _ = Run(folder).stored_config
    except (StoreError, ConfigError) as error:
        found.append(str(error))
    for result in sorted(folder.glob(f"analysis/*/{DONE}")):
        found += damage(result.parent)
    return found


def verify(root):
    """Check every file of a store or of a folder of records; a `StoreError` if there is no such folder.

    Returns:
        (count, problems): the number of finished runs and results of no run; list of sentences.
    """
    root = Path(root)
    if not root.is_dir():
        raise StoreError(f"no folder {root}; expected a store of runs or a folder of records, such as results/study")
    folders = [done.parent for pattern in ("*/seed*", "analysis/*") for done in sorted(root.glob(f"{pattern}/{DONE}"))]
    return len(folders), [problem for folder in folders for problem in damage(folder)]


def record(run, root, analyses=None, *, weights=False):
    """Copy a finished run and its results, or those named, to a folder of records; returns the `Run` there.

    Its final weights are copied only if `weights`; a curve of other or more pruning rates that was recorded before
    stays. A `StoreError` if a file was changed after the run finished; nothing is copied then.
    """
    left_out = ["analysis", ".lock", "*.tmp*", "checkpoint.pt", *(["init.pt", "last.pt"] if weights else ["weights"])]
    for name in checksums(run.path):
        if (run.path / name).is_file():  # a record that is recorded again may have no weights
            check(run.path, name)
    target = Run(Path(root) / run.path.parent.name / run.path.name, run.asked)
    if target.done and target.weights_sha256 != run.weights_sha256:
        shutil.rmtree(target.path)  # of an earlier training, whose weights and analyses are not this one's
    _copy(run.path, target.path, left_out)  # over what is there: weights recorded earlier stay
    for name, settings in ((name, run.asked[name]) for name in run.asked if analyses is None or name in analyses):
        record_result(run.folder_of(name, settings), target.folder_of(name, settings))
    return Run(target.path, run.asked)


def record_result(source, target):
    """Copy a finished result to where records are committed, unless one of more rates is there already."""
    there, here = read_result(target), read_result(source)
    if here is not None and (there is None or _rates(here) >= _rates(there)):
        _copy(source, target)


def _rates(stored):
    return set(stored["settings"].get("rates", ()))


def _copy(source, target, left_out=(".lock",)):
    """Copy a finished folder over another, its mark last: interrupted, the target is unfinished and not damaged."""
    (target / DONE).unlink(missing_ok=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(DONE, *left_out), dirs_exist_ok=True)
    write_json(target / DONE, read_json(source / DONE))
