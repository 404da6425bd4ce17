"""The experiment of Section 3.4: which pixels matter at initialisation, for every network, level and definition."""

import functools
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rfkit import data, models, projection, store, training
from rfkit.batches import normalised
from rfkit.config import ConfigError, one_of, stable_hash
from rfkit.files import read_json, replacing, write_json
from rfkit.records import RESULTS, source_sha256

# What is varied; the first two are the definitions behind Tables 3 and 4.
VARIANTS = {
    "linearised": {"backward": "linearised"},
    "true": {"backward": "true"},
    "linearised, Gaussian image": {"backward": "linearised", "image": "gaussian"},
    "true, Gaussian image": {"backward": "true", "image": "gaussian"},
    "true, all colours": {"backward": "true", "colours": "all"},
    "true, Kaiming normal weights": {"backward": "true"},
    "true, calibrated batch norm": {"backward": "true"},
}
MAIN = ("linearised", "true")
SCALES = {  # networks and width of the two definitions, networks of the other variants
    "smoke": (2, 1 / 16, 2),
    "demo": (5, 1 / 8, 3),
    "study": (50, 1.0, 10),
    "paper": (50, 1.0, 10),
}


@dataclass(frozen=True)
class Setting:
    """One network and one definition, over all levels.

    Attributes:
        architecture: As in `rfkit.models.build`.
        variant: One of `VARIANTS`.
        levels: RF levels.
        repeats: Freshly initialised networks; the same seeds at every level.
        width: Factor on the channel counts.
        input_size: Height and width of the image, in pixels.
        calibration_images: Images that set the batch-norm statistics, where they are calibrated.
        architecture_sha256: Checksum of the source of a network of your own.
        algorithm: Raised whenever the same setting would give other numbers.
    """

    architecture: str
    variant: str
    levels: tuple[int, ...] = (1, 2, 3, 4)
    repeats: int = 50
    width: float = 1.0
    input_size: int = 64
    calibration_images: int = 64
    architecture_sha256: str = ""
    algorithm: int = 1

    def __post_init__(self):
        """Check the variant, as `ConfigError`."""
        one_of("variant", self.variant, tuple(VARIANTS))

    @property
    def name(self):
        """File name of its record, without suffix."""
        words = self.variant.replace(",", "").lower().replace(" ", "-")
        return f"{self.architecture.replace(':', '.')}-{words}-{stable_hash(asdict(self))}"


def settings(preset_name, architectures=("vgg19", "resnet50"), levels=(1, 2, 3, 4), repeats=None, width=None):
    """What a preset computes.

    Args:
        preset_name: Name of the preset.
        architectures: Networks.
        levels: RF levels.
        repeats: Networks instead of the preset's.
        width: Width instead of the preset's.

    Returns:
        List of `Setting`, the two definitions first.
    """
    most, preset_width, few = SCALES[one_of("preset", preset_name, tuple(SCALES))]
    networks = {variant: most if variant in MAIN else few for variant in VARIANTS}
    networks["true, calibrated batch norm"] = min(few, 3)  # a pass over images each, the dearest by far
    return [
        Setting(
            name,
            variant,
            tuple(levels),
            _or(repeats, networks[variant]),
            _or(width, preset_width),
            architecture_sha256=source_sha256(name),
        )
        for variant in VARIANTS
        for name in architectures
    ]


def _or(value, default):
    return default if value is None else value


def compute(setting):
    """Project the gradients of one setting at every level.

    Args:
        setting: `Setting`.

    Returns:
        (record, patterns): JSON-able mapping with the maxima and similarities of each level and network; array
        (levels, H, W) of mean patterns. Similarities are to the same network's pattern at the first level.
    """
    start = time.perf_counter()
    options = dict(VARIANTS[setting.variant])
    if options["backward"] == "linearised" and setting.architecture == "resnet50":
        options["keep_first_relu"] = True
    if "calibrated" in setting.variant:
        options["prepare"] = functools.partial(training.calibrated, images=_calibration_images(setting))
    networks = _Networks(setting)
    maxima, likeness = ({level: [] for level in setting.levels} for _ in range(2))
    means = np.zeros((len(setting.levels), setting.input_size, setting.input_size))
    for seed in range(setting.repeats):  # outside, so that all levels use one network
        first = None
        for i, level in enumerate(setting.levels):
            result = projection.gradient_projection(
                functools.partial(networks.make, level), input_size=setting.input_size, repeats=1, seed=seed, **options
            )
            first = result.pattern if first is None else first
            likeness[level].append(float(projection.similarity(result.patterns, first)[0]))
            maxima[level].append(float(result.maxima[0]))
            means[i] += result.pattern / setting.repeats
    record = {
        "setting": asdict(setting),
        "maxima": {str(level): values for level, values in maxima.items()},
        "similarity": {str(level): values for level, values in likeness.items()},
        "provenance": store.environment(torch.device("cpu"), time.perf_counter() - start),
    }
    return record, means.astype(np.float32)


class _Networks:
    """Fresh networks of a setting; drawing weights is the dearest step, so a seed's are drawn once for all levels."""

    def __init__(self, setting):
        self.setting, self.seed, self.network, self.state_after = setting, None, None, None

    def make(self, level):
        if self.seed == torch.initial_seed() and isinstance(self.network, models.LevelNet):
            self.network.set_level(level)
            torch.set_rng_state(self.state_after)  # what is drawn next is the same as after a fresh network
            return self.network
        self.network = models.build(self.setting.architecture, level, width=self.setting.width)
        if "Kaiming" in self.setting.variant:
            for module in self.network.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.seed, self.state_after = torch.initial_seed(), torch.get_rng_state()
        return self.network


@functools.lru_cache(maxsize=1)
def _calibration_images(setting):
    digits = data.load("digits", image_size=setting.input_size)
    return normalised(digits.train_images[: setting.calibration_images], digits.mean, digits.std)


def find(setting, preset_name, root=None, results=RESULTS):
    """Look for a stored record, in the run store and then among the committed ones.

    Args:
        setting: `Setting`.
        preset_name: Preset whose committed records are searched.
        root: Folder of the run store.
        results: Folder of the committed records.

    Returns:
        (record, patterns), or None.

    Raises:
        ConfigError: If a record with this name is of another setting.
    """
    for folder in (_folder(root), Path(results) / preset_name / "projection"):
        path = folder / f"{setting.name}.json"
        if path.is_file() and path.with_suffix(".npz").is_file():
            record = read_json(path)
            if record["setting"] != json.loads(json.dumps(asdict(setting))):
                raise ConfigError(f"{path} is of another setting; delete it")
            with np.load(path.with_suffix(".npz")) as arrays:
                return record, arrays["patterns"]
    return None


def recorded(preset_name):
    """Everything a preset computes that is there already.

    Args:
        preset_name: Name of the preset.

    Returns:
        Mapping of `Setting` to (record, patterns); empty where nothing was recorded.
    """
    found = {setting: find(setting, preset_name) for setting in settings(preset_name)}
    return {setting: each for setting, each in found.items() if each is not None}


def _folder(root):
    return (Path(root) if root is not None else store.default_root()) / "projection"


def ensure(wanted, preset_name, *, jobs=None, root=None, results=RESULTS, progress=False, max_minutes=None):
    """Records of settings: found, or computed by a pool of single-thread processes and stored.

    Args:
        wanted: List of `Setting`.
        preset_name: As in `find`.
        jobs: Number of processes; by default one a core.
        root: Folder of the run store.
        results: Folder of the committed records.
        progress: Print a line a setting.
        max_minutes: Longest computation to start, by an estimate from one network; ``None`` for any.

    Returns:
        Mapping of `Setting` to (record, patterns).

    Raises:
        RuntimeError: If computing what is missing would take longer; names the command to run.
    """
    missing = [setting for setting in wanted if find(setting, preset_name, root, results) is None]
    jobs = min(jobs or os.cpu_count() or 1, len(missing))
    if missing and max_minutes is not None:
        minutes = sum(map(_estimate_seconds, missing)) / 60 / jobs
        if minutes > max_minutes:
            raise RuntimeError(
                f"{len(missing)} of {len(wanted)} projections of preset {preset_name!r} are missing and take about "
                f"{minutes:.0f} minutes here (max_minutes={max_minutes}). Run: rfkit importance {preset_name}"
            )
    if jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
            for setting in pool.map(functools.partial(_store, folder=_folder(root)), missing):
                if progress:
                    print(f"{setting.architecture}, {setting.variant}", flush=True)
    else:
        for setting in missing:
            _store(setting, _folder(root))
            if progress:
                print(f"{setting.architecture}, {setting.variant}", flush=True)
    return {setting: find(setting, preset_name, root, results) for setting in wanted}


def _estimate_seconds(setting):
    """From one network at the first level, the dearest; one pass over images more for each that is calibrated."""
    start = time.perf_counter()
    projection.gradient_projection(
        functools.partial(_Networks(setting).make, setting.levels[0]), input_size=setting.input_size, repeats=1
    )
    passes = 1 + setting.calibration_images / 3 * ("calibrated" in setting.variant)
    return (time.perf_counter() - start) * setting.repeats * len(setting.levels) * passes


def _store(setting, folder):
    torch.set_num_threads(1)
    record, patterns = compute(setting)
    with replacing(folder / f"{setting.name}.npz") as file:
        np.savez_compressed(file, patterns=patterns)
    write_json(folder / f"{setting.name}.json", record)  # last: a record without patterns is not found
    return setting
