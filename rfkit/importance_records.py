"""What the experiment of Section 3.4 computes, and its records: found and saved without PyTorch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rfkit import store
from rfkit.config import ConfigError, one_of, stable_hash, whole, width_factor
from rfkit.files import read_json, replacing, write_json
from rfkit.records import RESULTS, source_sha256

FOLDER = "projection"
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
        """Check the variant, the number of networks and the width, as `ConfigError`."""
        one_of("variant", self.variant, tuple(VARIANTS))
        whole("repeats", self.repeats, 1)
        object.__setattr__(self, "width", width_factor(self.width))

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
    for folder in (folder_of(root), Path(results) / preset_name / FOLDER):
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


def folder_of(root):
    """Where records are while they are not committed.

    Args:
        root: Folder of the run store.

    Returns:
        Path.
    """
    return (Path(root) if root is not None else store.default_root()) / FOLDER


def save(setting, record, patterns, folder):
    """Write a record and its patterns.

    Args:
        setting: `Setting`.
        record: As made by `rfkit.importance.compute`.
        patterns: As made by `rfkit.importance.compute`.
        folder: Folder to write to.
    """
    with replacing(folder / f"{setting.name}.npz") as file:
        np.savez_compressed(file, patterns=patterns)
    write_json(folder / f"{setting.name}.json", record)  # last: a record without patterns is not found


def record(found, preset_name, results=RESULTS):
    """Copy records to where they are committed.

    Args:
        found: As returned by `rfkit.importance.ensure`.
        preset_name: Preset whose records they become.
        results: Folder of the committed records.
    """
    for setting, (each, patterns) in found.items():
        save(setting, each, patterns, Path(results) / preset_name / FOLDER)
