"""The run store: one folder a run, written so that nothing is ever half there.

A run is finished when its ``DONE`` file exists, which is written last and holds the sha256 of every
other file. Files are written beside their place and renamed. A run is claimed with an operating
system lock, which vanishes with its process.
"""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import filelock

from rfkit import __version__
from rfkit.config import ConfigError, RunConfig, differences, run_config
from rfkit.files import StoreError, file_sha256, load_tensors, read_json, write_json

DONE = "DONE"


class BusyError(StoreError):
    """Another process is working on this run."""


def default_root():
    """Folder of the runs: ``RFKIT_RUNS``, or ``runs`` in the current folder."""
    return Path(os.environ.get("RFKIT_RUNS", "runs"))


@dataclass(frozen=True)
class Run:
    """A stored run, finished or not.

    Attributes:
        path: Its folder.
        rates: Pruning rates that were asked for; None for all that were ever run.
    """

    path: Path
    rates: tuple[float, ...] | None = None

    @property
    def done(self):
        """Whether the run is finished."""
        return (self.path / DONE).is_file()

    @cached_property
    def config(self) -> RunConfig:
        """The configuration it was made from."""
        return run_config(read_json(self.path / "config.json"))

    @cached_property
    def summary(self) -> dict:
        """Results of the training: accuracies, selected epoch, shrink factor."""
        return read_json(self._checked("summary.json"))

    @cached_property
    def provenance(self) -> dict:
        """How, on what and with what the run was made."""
        return read_json(self.path / "provenance.json")

    @cached_property
    def metrics(self) -> list[dict]:
        """Loss and accuracy of each epoch."""
        with self._checked("metrics.csv").open(newline="") as file:
            return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]

    def weights(self, which="final"):
        """Load stored weights.

        Args:
            which: ``init``, ``last`` (epoch) or ``final`` (the selected epoch).

        Returns:
            State dict on the CPU.

        Raises:
            StoreError: If they are missing or their checksum is wrong.
        """
        path = self.path / "weights" / f"{which}.pt"
        if not path.is_file():
            raise StoreError(f"{path} is missing: records keep no weights; train the run again with rfkit study")
        return load_tensors(self._checked(f"weights/{which}.pt"))

    def _checked(self, name):
        """Path of a file, compared with its checksum if the run is finished."""
        if self.done:
            self.check(name)
        return self.path / name

    def check(self, name):
        """Compare a file with the checksum written when the run was finished.

        Args:
            name: File, relative to the run.

        Raises:
            StoreError: If it differs.
        """
        _check(self.path, name)

    def analysis_path(self, name, key):
        """Folder of one analysis.

        Args:
            name: Name of the analysis.
            key: Ten-digit hash of its settings.

        Returns:
            Path.
        """
        return self.path / "analysis" / f"{name}-{key}"

    def analysis_done(self, name, key):
        """Whether an analysis is finished.

        Args:
            name: As in `analysis_path`.
            key: As in `analysis_path`.

        Returns:
            True if its mark is there.
        """
        return (self.analysis_path(name, key) / DONE).is_file()

    def analyses(self, name):
        """Finished results of one analysis, whatever its settings, but with every rate that was asked for.

        Args:
            name: Name of the analysis.

        Returns:
            List of mappings, the newest last; a changed file is a `StoreError`.
        """
        found = (read_json(folder / "result.json") for folder in self._analysis_folders(name))
        return [each for each in found if "rates" not in each or set(self.rates or ()) <= set(each["rates"])]

    def _analysis_folders(self, name):
        marks = sorted((self.path / "analysis").glob(f"{name}-*/{DONE}"), key=lambda mark: mark.stat().st_mtime_ns)
        for mark in marks:
            _check(mark.parent, "result.json")
        return [mark.parent for mark in marks]

    def places(self, rates):
        """Where rates that were asked for stand in an analysis that may have more.

        Args:
            rates: Its rates.

        Returns:
            List of indices, that of 0 (dense) with them.
        """
        return [i for i, rate in enumerate(rates) if self.rates is None or rate in (0.0, *self.rates)]

    def newest(self, name):
        """Finished result of one analysis, the newest where its settings have changed.

        Args:
            name: Name of the analysis.

        Returns:
            Mapping, or None.
        """
        found = self.analyses(name)
        return found[-1] if found else None


class Store:
    """All runs under one folder.

    Args:
        root: The folder; `default_root` by default.
    """

    def __init__(self, root=None):
        self.root = Path(root) if root is not None else default_root()

    def run(self, config):
        """The folder of a configuration, checked against what is stored there.

        Args:
            config: `RunConfig`.

        Returns:
            `Run`; nothing is created.

        Raises:
            ConfigError: If the folder holds another configuration; every differing field is named.
        """
        run = Run(self.root / config.folder)
        stored = run.path / "config.json"
        if stored.is_file():
            different = differences(read_json(stored), json.loads(json.dumps(config.to_dict())))
            if different:
                raise ConfigError(
                    f"{run.path} holds another configuration: {'; '.join(different)}. Move the folder away, or set "
                    "RFKIT_RUNS to another one"
                )
        return run

    def runs(self):
        """Every finished run.

        Returns:
            List of `Run`, sorted by folder.
        """
        return [Run(done.parent) for done in sorted(self.root.glob(f"*/seed*/{DONE}"))]

    @contextmanager
    def claim(self, config):
        """Work on a run alone.

        Args:
            config: `RunConfig`.

        Yields:
            `Run`, its folder made and its configuration written.

        Raises:
            BusyError: If another process works on it.
        """
        run = self.run(config)
        run.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(run.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise BusyError(f"{run.path} is being worked on by another process") from error
        try:
            for leftover in run.path.rglob("*.tmp*"):  # of a process that was killed while writing
                leftover.unlink()
            if not (run.path / "config.json").is_file():
                write_json(run.path / "config.json", config.to_dict())
            yield run
        finally:
            lock.release()


def _check(folder, name):
    """Compare a file with the checksum in the ``DONE`` file of its folder."""
    expected = read_json(folder / DONE)["sha256"].get(name)
    if expected != file_sha256(folder / name):
        raise StoreError(
            f"{folder / name} was changed or damaged after the run finished (wrong checksum); delete the "
            f"folder {folder} and run rfkit study again"
        )


def finish(folder):
    """Mark a run or an analysis as finished, with the checksum of every file in it.

    Args:
        folder: Path of the run or analysis. Analyses inside a run carry marks of their own.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    kept = [name for name in names if not name.startswith(("analysis/", ".")) and name not in (DONE, "checkpoint.pt")]
    write_json(folder / DONE, {"sha256": {name: file_sha256(folder / name) for name in kept}})


def save_analysis(run, name, key, result):
    """Store the result of an analysis beside its run.

    Args:
        run: `Run`.
        name: Name of the analysis.
        key: Ten-digit hash of its settings.
        result: JSON-able mapping.
    """
    folder = run.analysis_path(name, key)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "result.json", result)
    finish(folder)


def record(run, root, *, weights=False):
    """Copy everything of a finished run but its weights, as a record to commit.

    Of each analysis the newest is copied, of a curve of pruning rates the newest of the longest ones; a longer one that
    was recorded before stays.

    Args:
        run: `Run`.
        root: Folder of the records, such as ``results/study``.
        weights: Copy the final weights too.

    Returns:
        `Run` at its new place.

    Raises:
        StoreError: If a file was changed after the run finished; nothing is copied.
    """
    left_out = ["analysis", ".lock", "*.tmp*", "checkpoint.pt", *(["init.pt", "last.pt"] if weights else ["weights"])]
    for name in read_json(run.path / DONE)["sha256"]:
        if (run.path / name).is_file():  # a record that is recorded again may have no weights
            run.check(name)
    target = Path(root) / run.path.parent.name / run.path.name
    if (target / DONE).is_file() and _final_weights(target) != _final_weights(run.path):
        shutil.rmtree(target)  # of an earlier training, whose weights and analyses are not this one's
    # over what is there, file by file: weights recorded earlier stay, and an interruption loses nothing
    shutil.copytree(run.path, target, ignore=shutil.ignore_patterns(*left_out), dirs_exist_ok=True)
    recorded = Run(target)
    for name in sorted({folder.name.rpartition("-")[0] for folder in run.path.glob("analysis/*")}):
        there, here = recorded._analysis_folders(name), run._analysis_folders(name)
        for folder in sorted([*there, *here], key=_rates)[-1:]:
            if folder in here:
                shutil.copytree(folder, target / "analysis" / folder.name, dirs_exist_ok=True)
            for older in target.glob(f"analysis/{name}-*"):  # two of a name could not be told apart after a checkout
                if older.name != folder.name:
                    shutil.rmtree(older)
    return recorded


def _final_weights(folder):
    return read_json(folder / DONE)["sha256"].get("weights/final.pt")


def _rates(folder):
    return len(read_json(folder / "result.json").get("rates", ()))


def provenance(source, device, seconds):
    """How a run was made: code, versions, device, data. No host name.

    Args:
        source: `rfkit.data.Source` of the images.
        device: `torch.device` or its name.
        seconds: Wall seconds of the training, all sessions together.

    Returns:
        JSON-able mapping.
    """
    about_data = {"name": source.name, "label": source.label, "sha256": source.sha256}
    return environment(device, seconds) | {"data": about_data}


def environment(device, seconds):
    """Code, versions and device of a computation. No host name.

    Args:
        device: `torch.device` or its name.
        seconds: Wall seconds.

    Returns:
        JSON-able mapping.
    """
    import torch

    device = torch.device(device)
    commit, dirty = git_state()
    return {
        "commit": commit,
        "uncommitted_changes": dirty,
        "versions": {"rfkit": __version__, "python": platform.python_version()}
        | {name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")},
        "system": platform.system(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "wall_seconds": round(seconds, 2),
        "peak_memory_mib": _peak_memory_mib(),
    }


def git_state():
    """Commit of this source tree, and whether it has uncommitted changes.

    Returns:
        (commit, dirty); (None, None) where git does not track the package: installed below another project, the commit
        would be that one's.
    """
    folder = Path(__file__).parent
    try:
        tracked = ["git", "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(tracked, cwd=folder, capture_output=True, check=True)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", "."], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None, None
    return head.stdout.strip(), bool(status.stdout.strip())


def _peak_memory_mib():
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
