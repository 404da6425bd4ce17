"""What an analysis is: one file each says its name, settings, computation, cost and frame."""

import functools
import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from rfkit.config import ConfigError, one_of
from rfkit.data import PAPER_DATASET_BY_SIZE
from rfkit.files import importing_from_home

CELL = ["paper_dataset", "architecture", "rf_level"]
"""Columns of every frame that identify a cell of the paper's tables."""
DESCRIBED = ("data_label", "paper_dataset", "architecture", "rf_level", "field_px", "seed")


@dataclass(frozen=True)
class Analysis:
    """One kind of measurement, from its settings to the tidy frame it is read into."""

    name: str  #: Unique; part of the folder of every result.
    #: ``"run"``, a trained network; ``"pair"``, two seeds of one; ``"network"``, one that the analysis makes itself, so
    #: that nothing is trained for it.
    needs: str
    #: Function of (preset, unit): what is computed, a mapping, or None where the preset does not plan it; for
    #: ``"network"`` of (preset), a list of (mapping, data set or None). Settings are hashed into the folder of the
    #: result, except ``rates``: a curve of more rates serves where fewer are asked for.
    settings: Callable
    #: Function of (subject, settings, `Work`): the result, a mapping of JSON-able values and numpy arrays. The subject
    #: is a `Run`, a pair of them, or None.
    compute: Callable
    frame: Callable  #: Function of finished runs (of stored results, for ``"network"``): a data frame.
    #: Function of (settings, unit): its work in training steps on one image; for ``"network"`` of (settings, data),
    #: its seconds on one core. Negligible by default.
    cost: Callable = lambda settings, unit: 0
    planned: bool = True  #: Whether a study makes it unless other analyses are named.
    on_cpu: bool = False  #: Whether it computes on the CPU wherever the networks were trained.

    def __post_init__(self):
        one_of(f"needs of analysis {self.name!r}:", self.needs, ("run", "pair", "network"))


@dataclass(frozen=True)
class Work:
    """What a computation is given beside its subject and settings."""

    data: Any  #: `rfkit.data.ImageData`, or None for an analysis without a data set.
    device: Any  #: `torch.device`.
    progress: bool = False  #: Whether to show bars.


def describe(run):
    """What a `Run` is, as the columns that every frame of results begins with.

    Returns:
        Mapping: data_label, paper_dataset (the data set's own name where its images have another size than the
        paper's), architecture, rf_level, field_px, seed.
    """
    config, label = run.config, run.provenance["data"]["label"]
    return {
        "data_label": label, "paper_dataset": paper_dataset(config) or config.dataset,
        "architecture": config.architecture, "rf_level": config.level, "field_px": run.summary["field_px"],
        "seed": config.seed,
    }  # fmt: skip


def paper_dataset(config):
    """Which of the paper's data sets a run is set beside, by its image size, or None."""
    return PAPER_DATASET_BY_SIZE.get(config.image_size)


def refuse_same_size(pairs):
    """Check that no two data sets stand beside one of the paper's: pairs of its name and theirs."""
    beside = {}
    for place, name in pairs:
        beside.setdefault(place, set()).add(name)
    for names in beside.values():
        if len(names) > 1:
            mixed = f"runs on {', '.join(sorted(names))} have images of one size and would be averaged"
            raise ConfigError(f"{mixed}; choose one of these data sets")


def inside_block(layer):
    """Whether a layer lies inside a residual block of ResNet50, and is not the block's output."""
    return layer.count(".") > 1 and layer.endswith(("relu1", "relu2"))


def rows_of(name, *columns):
    """Turn a function that yields rows of (result, run) into the frame of an analysis, each row beside its run."""

    def of_runs(rows):
        @functools.wraps(rows)
        def frame(runs):
            found = ((run, run.result(name)) for run in runs)
            made = [describe(run) | row for run, result in found if result is not None for row in rows(result, run)]
            return pd.DataFrame(made, columns=[*DESCRIBED, *columns] if columns else None)

        return frame

    return of_runs


def source_sha256(architecture):
    """Checksum of the file of a user's own network, which may change under the same name; empty for ours."""
    if ":" not in architecture or architecture.startswith("rfkit."):
        return ""  # ours change with `rfkit.config.ALGORITHM`
    try:
        with importing_from_home():
            spec = importlib.util.find_spec(architecture.partition(":")[0])
    except (ImportError, ValueError):  # of a package that is not there; of no name at all
        spec = None
    if spec is None or not spec.has_location:  # nor built into Python
        raise ConfigError(f"cannot find the module of architecture {architecture!r}; expected 'module:callable'")
    return hashlib.sha256(b"is given its width\n" + Path(spec.origin).read_bytes()).hexdigest()


def of_source(architecture):
    """Settings that name the source of a user's own network; none for ours, whose results were stored without."""
    sha256 = source_sha256(architecture)
    return {"architecture_sha256": sha256} if sha256 else {}
