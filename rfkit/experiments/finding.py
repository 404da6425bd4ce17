"""Which runs a preset needs, and finding them in the run store or among the committed records."""

import functools
import shlex
import sys
from dataclasses import dataclass, field, replace

from rfkit import data as datasets
from rfkit import presets
from rfkit.config import ConfigError, RunConfig
from rfkit.data import COPIES, PUBLISHED
from rfkit.experiments.analysis import source_sha256
from rfkit.experiments.registry import ANALYSES, named
from rfkit.experiments.store import Run, Store
from rfkit.files import StoreError, home

RESULTS = "results"
"""Folder of the committed records, in the project's top folder."""
WIDTHS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Factors on the channel counts at which the study is looked at; 1 is the paper's."""


@dataclass(frozen=True)
class Unit:
    """One seed of one cell: a training, and the analyses that are asked of it."""

    config: RunConfig  #: `RunConfig`.
    dataset: str  #: As in `rfkit.data.load`.
    asked: dict = field(default_factory=dict, hash=False)  #: Name of an analysis to its settings.

    def __str__(self):
        return self.config.folder


@functools.lru_cache(maxsize=2)
def load(dataset, image_limit=None):
    """A data set cut to at most (training, test) images as a preset uses it, kept in memory by this process."""
    loaded = datasets.load(dataset)
    return loaded if image_limit is None else loaded.sample(*image_limit)


def records_of(preset):
    """Folder of the committed records of a preset."""
    return home() / RESULTS / preset.name


def is_here(dataset):
    """Whether a data set can be loaded without a download: false for the paper's until they are downloaded."""
    return dataset not in PUBLISHED or (datasets.default_root() / PUBLISHED[dataset].file).exists()


def units(preset):
    """Every unit of a preset, data sets loaded, in the order of `seeded_cells`, so that results accumulate."""
    return [unit_of(preset, *cell, load(cell[0], preset.image_limit)) for cell in seeded_cells(preset)]


def unit_of(preset, dataset, architecture, level, seed, data=None):
    """One `Unit` of a preset; data that are not given are loaded if they are on this machine.

    For data that are not here, its configuration has the published sizes and an empty checksum.
    """
    if data is None and is_here(dataset):
        data = load(dataset, preset.image_limit)
    if data is None:
        about, name, sha256 = PUBLISHED[dataset], dataset, ""
        size, classes, counts = about.image_size, about.num_classes, (about.train_images, about.test_images)
        train, test = map(min, counts, preset.image_limit or counts)
    else:
        size, train, test, classes = data.image_size, len(data.train_labels), len(data.test_labels), data.num_classes
        name, sha256 = data.source.name, data.source.sha256
    config = RunConfig(
        dataset=name, data_sha256=sha256, image_size=size, train_images=train, test_images=test,
        architecture=architecture, architecture_sha256=source_sha256(architecture), level=level,
        width=preset.width, num_classes=classes, protocol=preset.protocol,
        train=preset.training(name, architecture), seed=seed,
    )  # fmt: skip
    unit = Unit(config, dataset)
    wanted = {each.name: each.settings(preset, unit) for each in ANALYSES.values() if each.needs != "network"}
    return Unit(config, dataset, {name: settings for name, settings in wanted.items() if settings is not None})


def command(preset):
    """The arguments of ``rfkit study`` that make the runs of a preset, such as ``demo --levels 1,3 --epochs 2``."""
    base, words = presets.get(preset.name), [preset.name]
    if preset.pairs is None and all(name.startswith(presets.CONTRAST_NETS) for name in preset.architectures):
        base, words = presets.of_contrasts(base), [preset.name, "--contrasts"]
    for name, value in presets.changes(preset, base).items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        words.append(f"--{name}" if value is True else f"--{name} {shlex.quote(text)}")
    return " ".join(words)


def find(preset, root=None, *, complete=True):
    """Look for the runs of a preset, in the run store (`root`) and then in the committed records.

    A run of this machine counts if it has all analyses of the preset (or the pruning curve, if not `complete`), a
    committed record whatever it has beside the pruning curve.

    Returns:
        (found, missing): list of `Run`, each with what is asked of it; list of (dataset, architecture, level, seed).
    """
    own, committed = (_stored(folder) for folder in (root, records_of(preset)))
    found, missing = [], []
    # nothing stored fits nothing: then the data sets need not be loaded to say so
    if not own and not committed:
        return [], seeded_cells(preset)
    for cell in seeded_cells(preset):
        unit = unit_of(preset, *cell)
        # what a study plans for one run; pairs belong to two
        needed = [name for name in unit.asked if ANALYSES[name].needs == "run" and ANALYSES[name].planned]
        run = _first(unit, own, needed if complete else ["pruning"], copies=not unit.config.data_sha256)
        run = run or _first(unit, committed, ["pruning"], copies=unit.dataset in PUBLISHED)
        found.append(run) if run else missing.append(cell)
    return found, missing


def recorded(preset):
    """The committed records of a preset, a list of `Run`; empty where nothing was recorded."""
    return _fitting(preset, _stored(records_of(preset)))


def _fitting(preset, stored):
    if not stored:
        return []
    wanted = (unit_of(preset, *cell) for cell in seeded_cells(preset))
    found = [_first(unit, stored, ["pruning"], copies=unit.dataset in PUBLISHED) for unit in wanted]
    return [run for run in found if run]


def recorded_at_widths(preset, widths=WIDTHS):
    """The committed records of a preset at every width and precision, a list of `Run`, narrow networks first."""
    stored = _stored(records_of(preset))
    chosen = [preset.select(width=width, precision=name) for width in widths for name in ("float32", "bfloat16")]
    return [run for each in chosen for run in _fitting(each, stored)]


def seeded_cells(preset):
    """The (data set, architecture, level, seed) of every unit: one seed of every cell first, then the next."""
    return [(*cell, seed) for seed in preset.seeds for cell in preset.cells()]


def _stored(root):
    """Every finished run of a store with its stored configuration; one that is damaged is named and left out."""
    found = []
    for run in Store(root).runs():
        try:
            found.append((run, run.stored_config))
        except (StoreError, ConfigError) as error:
            print(f"rfkit: left out: {error}", file=sys.stderr)
    return found


def _first(unit, stored, names, copies):
    """The first stored run that is this unit, perhaps on a copy of its data, and has the named analyses."""
    wanted = unit.config.to_dict()
    if copies:  # of which these may differ
        for field in ("dataset", "data_sha256", "train_images", "test_images", "num_classes"):
            del wanted[field]
    for run, config in stored:
        same_data = not copies or COPIES.get(config["dataset"], config["dataset"]) == unit.dataset
        if same_data and wanted.items() <= config.items():
            run = Run(run.path, unit.asked)
            if all(run.result(name) is not None for name in names):
                return run
    return None


def frame(name, runs):
    """Finished runs (or the results of an analysis that needs none) as the tidy data frame of an analysis."""
    return named([name])[0].frame(runs)


def find_contrasts(preset):
    """The runs of the contrasts and of the levels beside them, from a preset if its changed networks are trained.

    Returns:
        (name, runs): ``"this build"``, or ``"recorded study"`` where the preset has none; list of `Run`.
    """
    name, wanted = "this build", presets.of_contrasts(preset)
    changed = find(wanted, complete=False)[0]
    if not changed:
        name, preset = "recorded study", presets.get("study")
        wanted = presets.of_contrasts(preset)
        changed = find(wanted, complete=False)[0]
    # the levels of the network that is changed, on the data sets of its changes
    beside = replace(preset, datasets=wanted.datasets, architectures=(presets.CONTRAST_NETWORK,))
    return name, changed + find(beside, complete=False)[0]
