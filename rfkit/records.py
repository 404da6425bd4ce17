"""Which runs a preset needs, and finding them in the run store or among the committed records."""

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from rfkit import data as datasets
from rfkit import store
from rfkit.config import ConfigError, RunConfig
from rfkit.files import read_json
from rfkit.presets import PAPER_DATASET_BY_SIZE

# What must be known of a data set that is not on this machine yet:
# image size, training images, test images, classes.
PUBLISHED_SIZES = {"cifar10": (32, 50_000, 10_000, 10), "tiny_imagenet": (64, 100_000, 10_000, 200)}
RESULTS = Path("results")


@dataclass(frozen=True)
class Unit:
    """One seed of one cell: a training and its analyses."""

    config: RunConfig
    dataset: str
    rates: tuple[float, ...]


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
    return loaded if image_limit is None else loaded.first(*image_limit)


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
        size, train, test, classes = PUBLISHED_SIZES[dataset]
        name, sha256 = dataset, ""
    else:
        size, train, test, classes = data.image_size, len(data.train_labels), len(data.test_labels), data.num_classes
        name, sha256 = data.source.name, data.source.sha256
    config = RunConfig(
        dataset=name, data_sha256=sha256, image_size=size, train_images=train, test_images=test,
        architecture=architecture, architecture_sha256=source_sha256(architecture), level=level,
        width=preset.width, num_classes=classes, protocol=preset.protocol,
        train=preset.training(name, architecture), seed=seed,
    )  # fmt: skip
    return Unit(config, dataset, preset.rates)


def source_sha256(architecture):
    """Checksum of the file of a user's own network, which may change under the same name.

    Args:
        architecture: As in `rfkit.models.build`.

    Returns:
        Hexadecimal sha256; empty for the built-in networks.

    Raises:
        ConfigError: If its module cannot be found.
    """
    if ":" not in architecture:
        return ""
    spec = importlib.util.find_spec(architecture.partition(":")[0])
    if spec is None or spec.origin is None:
        raise ConfigError(f"cannot find the module of architecture {architecture!r}; expected 'module:callable'")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def find(preset, root=None, results=RESULTS):
    """Look for the runs of a preset, in the run store and then in the committed records.

    A data set named in the preset but absent from this machine is matched by its records: any data set
    of the same image size stands for it, and its label goes with every number.

    Args:
        preset: `Preset`.
        root: Folder of the run store.
        results: Folder of the committed records.

    Returns:
        (found, missing): list of `rfkit.store.Run`; list of (dataset, architecture, level, seed).
    """
    return _match(preset, [store.Store(root), store.Store(Path(results) / preset.name)])


def recorded(preset, results=RESULTS):
    """The committed records of a preset.

    Args:
        preset: `Preset`.
        results: Folder of the committed records.

    Returns:
        List of `rfkit.store.Run`; empty where nothing was recorded.
    """
    return _match(preset, [store.Store(Path(results) / preset.name)])[0]


def _match(preset, stores):
    stored = [(_match_key(content), run) for each in stores for run, content in _current(each, preset.rates)]
    found, missing = [], []
    for seed in preset.seeds:
        for dataset, architecture, level in preset.cells() if stored else ():
            key = _match_key(unit_of_what_is_here(preset, dataset, architecture, level, seed).config.to_dict())
            run = next((run for stored_key, run in stored if _fits(key, stored_key)), None)
            if run:
                found.append(run)
            else:
                missing.append((dataset, architecture, level, seed))
    return found, missing if stored else [(*cell, seed) for seed in preset.seeds for cell in preset.cells()]


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
    absent = dataset in PUBLISHED_SIZES and not _is_downloaded(dataset)
    data = None if absent else load(dataset, preset.image_limit)
    return unit_of(preset, dataset, architecture, level, seed, data)


def _is_downloaded(dataset):
    name = {"cifar10": "cifar-10-batches-py", "tiny_imagenet": "tiny-imagenet-200.zip"}[dataset]
    return (datasets.default_root() / name).exists()


def _current(each, rates):
    """Runs of a store with a pruning curve at these rates, and their stored configuration as it is."""
    for run in each.runs():
        if any(set(rates) <= set(analysis["rates"]) for analysis in run.analyses("one_shot")):
            yield run, read_json(run.path / "config.json")


def _match_key(content):
    """Every field, schema and algorithm version too: what an older algorithm trained is another run."""
    return {key: str(value) for key, value in content.items()}


def _fits(wanted, stored):
    """Equal in every field, or, for a data set that is not here, in every field but the data's own."""
    about_data = (
        () if wanted["data_sha256"] else ("dataset", "data_sha256", "train_images", "test_images", "num_classes")
    )
    return all(wanted[key] == stored[key] for key in wanted if key not in about_data)


def paper_dataset(config):
    """Which of the paper's data sets a run is set beside, by its image size.

    Args:
        config: `RunConfig`.

    Returns:
        ``"cifar10"``, ``"tiny_imagenet"``, or None.
    """
    return PAPER_DATASET_BY_SIZE.get(config.image_size)
