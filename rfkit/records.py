"""Which runs a preset needs, and finding them in the run store or among the committed records."""

import functools
import hashlib
import importlib.util
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rfkit import data as datasets
from rfkit import store
from rfkit.config import ConfigError, RunConfig, stable_hash
from rfkit.files import read_json
from rfkit.presets import NEVER_PRUNED, FineTuning
from rfkit.published import COPIES, PAPER_DATASET_BY_SIZE, PUBLISHED

RESULTS = Path("results")
TRAIN_IMAGES = 5_000
"""Of the training set, for accuracy beside the test accuracy; never more than test images."""
CALIBRATION_IMAGES, SPECTRUM_CALIBRATION_IMAGES = 512, 1_000
"""Of the training set, for batch norm of pruned and of untrained networks."""
AUTHOR_BATCH = 10
"""Images in a batch of the author's Hessian."""
CURVES = ("pruning", "usable_pruning")
"""Analyses at every pruning rate of a preset."""


@dataclass(frozen=True)
class Unit:
    """One seed of one cell: a training and its analyses."""

    config: RunConfig
    dataset: str
    rates: tuple[float, ...]
    fine_tuning: FineTuning | None = None
    spectrum: dict | None = None

    def analyses(self):
        """The analyses of this unit.

        Returns:
            Mapping of name to the hash of its settings, ten characters.
        """
        pruned = {"method": "global_magnitude", "exclude": list(NEVER_PRUNED)}
        images = {"train_images": TRAIN_IMAGES, "calibration_images": CALIBRATION_IMAGES}
        rates = {"rates": list(self.rates)}
        settings = {"pruning": pruned | images | rates | {"version": 2}, "usable_pruning": pruned | rates}
        if self.fine_tuning is not None:
            settings["fine_tune"] = pruned | asdict(self.fine_tuning) | {"train": self.fine_tuning.train.to_dict()}
        if self.spectrum is not None:
            wanted = dict(self.spectrum)
            ritz = {"steps": wanted.pop("author_steps"), "images": wanted["images"], "batch": AUTHOR_BATCH}
            settings["spectrum"] = {"calibration_images": SPECTRUM_CALIBRATION_IMAGES, "version": 3} | wanted
            settings["author_ritz"] = ritz
        return {name: stable_hash(each) for name, each in settings.items()}

    def missing(self, run):
        """The analyses that a run does not have; a curve of more pruning rates will do.

        Args:
            run: Its `rfkit.store.Run`.

        Returns:
            Mapping as of `analyses`.
        """
        wider = [name for name in CURVES if _covers(run, self.rates, name)]
        return {n: key for n, key in self.analyses().items() if n not in wider and not run.analysis_done(n, key)}

    def is_complete(self, run):
        """Whether this unit needs no more work.

        Args:
            run: Its `rfkit.store.Run`.

        Returns:
            True if it is trained and every analysis is there.
        """
        return run.done and not self.missing(run)


@functools.lru_cache(maxsize=2)
def load(dataset, image_limit=None):
    """A data set as a preset uses it, kept in memory by this process.

    Args:
        dataset: As in `rfkit.data.load`.
        image_limit: Largest number of (training, test) images; ``None`` for all.

    Returns:
        `rfkit.data.ImageData`.
    """
    loaded = datasets.load(dataset)
    return loaded if image_limit is None else loaded.sample(*image_limit)


def units(preset):
    """Every unit of a preset, data sets loaded.

    Args:
        preset: `Preset`.

    Returns:
        List of `Unit`: one seed of every cell first, then the next seed, as results accumulate.
    """
    return [
        unit_of(preset, dataset, architecture, level, seed, load(dataset, preset.image_limit))
        for seed in preset.seeds
        for dataset, architecture, level in preset.cells()
    ]


def unit_of(preset, dataset, architecture, level, seed, data=None):
    """One unit of a preset.

    Args:
        preset: `Preset`.
        dataset: As in `rfkit.data.load`.
        architecture: As in `rfkit.models.build`.
        level: RF level.
        seed: Seed.
        data: The data set; ``None`` takes the published size of one that is not on this machine.

    Returns:
        `Unit`; without data, its configuration has an empty checksum.
    """
    if data is None:
        about, name, sha256 = PUBLISHED[dataset], dataset, ""
        size, train, test, classes = about.image_size, about.train_images, about.test_images, about.num_classes
    else:
        size, train, test, classes = data.image_size, len(data.train_labels), len(data.test_labels), data.num_classes
        name, sha256 = data.source.name, data.source.sha256
    kind = name if name in COPIES else dataset
    config = RunConfig(
        dataset=name, data_sha256=sha256, image_size=size, train_images=train, test_images=test,
        architecture=architecture, architecture_sha256=source_sha256(architecture), level=level,
        width=preset.width, num_classes=classes, protocol=preset.protocol,
        train=preset.training(kind, architecture), seed=seed,
    )  # fmt: skip
    spectrum = preset.spectrum_of(size, level, seed)
    return Unit(config, dataset, preset.rates, preset.fine_tuning(kind, seed), spectrum)


def source_sha256(architecture):
    """Checksum of the file of a user's own network, which may change under the same name.

    Args:
        architecture: As in `rfkit.models.build`.

    Returns:
        Hexadecimal sha256; empty for networks of this library.

    Raises:
        ConfigError: If its module cannot be found.
    """
    if ":" not in architecture or architecture.startswith("rfkit."):
        return ""  # ours change with `rfkit.config.ALGORITHM`
    try:
        spec = importlib.util.find_spec(architecture.partition(":")[0])
    except (ImportError, ValueError):  # of a package that is not there; of no name at all
        spec = None
    if spec is None or not spec.has_location:  # nor built into Python
        raise ConfigError(f"cannot find the module of architecture {architecture!r}; expected 'module:callable'")
    return hashlib.sha256(b"is given its width\n" + Path(spec.origin).read_bytes()).hexdigest()


def find(preset, root=None, results=RESULTS, *, complete=True):
    """Look for the runs of a preset, in the run store and then in the committed records.

    A run of this machine counts if it has all analyses of the preset, a committed record whatever it has.

    Args:
        preset: `Preset`.
        root: Folder of the run store.
        results: Folder of the committed records.
        complete: Whether a run of this machine needs all analyses, or the pruning curve will do.

    Returns:
        (found, missing): list of `rfkit.store.Run`; list of (dataset, architecture, level, seed).
    """
    trained, committed = (_with_keys(folder) for folder in (root, Path(results) / preset.name))
    found, missing = [], []
    # nothing stored fits nothing: then the data sets need not be loaded to say so
    wanted = [(*cell, seed) for seed in preset.seeds for cell in preset.cells()]
    if not trained and not committed:
        return [], wanted
    for cell in wanted:
        unit = unit_of_what_is_here(preset, *cell)
        run = _own(unit, trained, complete) or _recorded(unit, committed)
        found.append(run) if run else missing.append(cell)
    return found, missing


def recorded(preset, results=RESULTS):
    """The committed records of a preset.

    Args:
        preset: `Preset`.
        results: Folder of the committed records.

    Returns:
        List of `rfkit.store.Run`; empty where nothing was recorded.
    """
    committed = _with_keys(Path(results) / preset.name)
    wanted = [(*cell, seed) for seed in preset.seeds for cell in preset.cells()] if committed else []
    found = [_recorded(unit_of_what_is_here(preset, *cell), committed) for cell in wanted]
    return [run for run in found if run]


def _own(unit, runs, complete):
    """A run of this machine with every analysis of the unit."""
    for run, stored in runs:
        if _fits(unit, stored, copies=not unit.config.data_sha256):
            if not unit.missing(run) if complete else _covers(run, unit.rates):
                return replace(run, rates=unit.rates)
    return None


def _recorded(unit, runs):
    """A committed record, whatever analyses it has beside the pruning curve."""
    copies = unit.dataset in PUBLISHED
    fitting = (run for run, stored in runs if _fits(unit, stored, copies=copies) and _covers(run, unit.rates))
    return next((replace(run, rates=unit.rates) for run in fitting), None)


_DATA_FIELDS = ("dataset", "data_sha256", "train_images", "test_images", "num_classes")


def _with_keys(root):
    """Every finished run of a store with its stored configuration as it is."""
    return [(run, _match_key(read_json(run.path / "config.json"))) for run in store.Store(root).runs()]


def _covers(run, rates, name="pruning"):  # without rates where none was needed: no weight is dead
    return any(set(rates) <= set(analysis.get("rates", rates)) for analysis in run.analyses(name))


def unit_of_what_is_here(preset, dataset, architecture, level, seed):
    """A unit whose data set may not be on this machine; nothing is downloaded.

    Args:
        preset: As in `unit_of`.
        dataset: As in `unit_of`.
        architecture: As in `unit_of`.
        level: As in `unit_of`.
        seed: As in `unit_of`.

    Returns:
        `Unit`, as in `unit_of`.
    """
    data = load(dataset, preset.image_limit) if is_here(dataset) else None
    return unit_of(preset, dataset, architecture, level, seed, data)


def is_here(dataset):
    """Whether a data set can be loaded without a download.

    Args:
        dataset: As in `rfkit.data.load`.

    Returns:
        False for CIFAR-10 and Tiny ImageNet until they are downloaded.
    """
    return dataset not in PUBLISHED or (datasets.default_root() / PUBLISHED[dataset].file).exists()


def _match_key(content):
    """Every field, schema and algorithm version too: what an older algorithm trained is another run."""
    return {key: str(value) for key, value in content.items()}


def _fits(unit, stored, copies):
    """Whether a stored configuration is that of a unit, perhaps on a copy of its data, whose label goes with it."""
    wanted, name = _match_key(unit.config.to_dict()), stored["dataset"]
    same_data = not copies or COPIES.get(name, name) == unit.dataset
    return same_data and all(wanted[k] == stored.get(k) for k in wanted if not (copies and k in _DATA_FIELDS))


def describe(run):
    """What a run is, as the columns that every frame of results begins with.

    Args:
        run: `rfkit.store.Run`.

    Returns:
        Mapping: data_label, paper_dataset (the data set's own name where its images have another size than the
        paper's), architecture, rf_level, field_px, seed.
    """
    return {
        "data_label": run.provenance["data"]["label"],
        "paper_dataset": paper_dataset(run.config) or run.config.dataset,
        "architecture": run.config.architecture,
        "rf_level": run.config.level,
        "field_px": run.summary["field_px"],
        "seed": run.config.seed,
    }


def paper_dataset(config):
    """Which of the paper's data sets a run is set beside, by its image size.

    Args:
        config: `RunConfig`.

    Returns:
        ``"cifar10"``, ``"tiny_imagenet"``, or None.
    """
    return PAPER_DATASET_BY_SIZE.get(config.image_size)
