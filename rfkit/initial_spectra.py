"""Hessian spectra of untrained networks at the paper's full width: what Figures 1 and 2 claim is about these."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from rfkit import records, spectra, store
from rfkit.config import ConfigError, stable_hash
from rfkit.files import read_json, write_json
from rfkit.presets import field_px
from rfkit.published import PAPER_DATASET_BY_SIZE

FOLDER = "initial_spectra"
LEVELS = (4, 3, 2, 1)
"""The cheap ones first."""


@dataclass(frozen=True)
class Setting:
    """One untrained network and what is computed of its Hessian.

    Attributes:
        architecture: As in `rfkit.models.build`.
        level: RF level.
        width: Factor on the channel counts.
        seed: Of the weights.
        k: Largest eigenvalues.
        tol: As in `rfkit.hessian.top_eigenvalues`.
        images: Of the training set, so many.
        probes: Starting vectors of the density.
        steps: Lanczos steps from each.
        calibration_images: Of the training set, so many, for batch norm.
    """

    architecture: str
    level: int
    width: float = 1.0
    seed: int = 0
    k: int = 90
    tol: float = 1e-2
    images: int = 32
    probes: int = 1
    steps: int = 40
    calibration_images: int = 1000


def settings(architectures=("vgg19", "resnet50"), levels=LEVELS, **options):
    """Networks and levels, one setting each.

    Args:
        architectures: Networks.
        levels: RF levels.
        **options: Other fields of `Setting`.

    Returns:
        List of `Setting`, level by level.
    """
    return [Setting(name, level, **options) for level in levels for name in architectures]


def compute(setting, data, *, checkpoint=None, progress=False):
    """The spectrum of one untrained network.

    Args:
        setting: `Setting`.
        data: `rfkit.data.ImageData`.
        checkpoint: As in `rfkit.hessian.top_eigenvalues`.
        progress: Show bars.

    Returns:
        JSON-able mapping: setting, values, residuals, products, left_out, parameters, nodes, weights, zeros,
        image_size, provenance.
    """
    import torch  # here, as what is recorded does not wait for it

    from rfkit import hessian, models, training
    from rfkit.batches import remember_statistics

    start = time.perf_counter()
    model = models.seeded_build(
        setting.architecture, setting.level, width=setting.width, num_classes=data.num_classes, seed=setting.seed
    )
    remember_statistics(model, data.mean, data.std)
    model = training.calibrated(model.eval(), data.sample(setting.calibration_images).train_images)
    few = data.sample(setting.images)
    images, labels = few.train_images, few.train_labels
    top = hessian.top_eigenvalues(
        model, images, labels, setting.k, tol=setting.tol, checkpoint=checkpoint, progress=progress
    )
    density = hessian.spectral_density(
        model, images, labels, probes=setting.probes, steps=setting.steps, progress=progress
    )
    return {
        "setting": asdict(setting), "values": top.values.tolist(), "residuals": top.residuals.tolist(),
        "products": top.products, "left_out": top.left_out, "parameters": top.parameters,
        "nodes": density.nodes.tolist(), "weights": density.weights.tolist(), "zeros": density.zeros,
        "image_size": data.image_size,
        "provenance": store.provenance(data.source, torch.device("cpu"), time.perf_counter() - start),
    }  # fmt: skip


def ensure(wanted, preset, *, root=None, results=records.RESULTS, progress=False):
    """Records of settings: found, or computed one after the other; safe to stop and start again.

    Args:
        wanted: List of `Setting`.
        preset: `rfkit.presets.Preset`; its first data set is used.
        root: Folder to write to; the run store if ``None``.
        results: Folder of the committed records.
        progress: Show bars, and a line a setting.

    Returns:
        List of records, in the order of the settings.
    """
    dataset, made = preset.datasets[0], []
    folder = (Path(root) if root is not None else store.default_root()) / FOLDER
    data = records.load(dataset, preset.image_limit)
    for setting in wanted:
        found = find(setting, preset.name, data.source, root=root, results=results)
        if found is None:
            folder.mkdir(parents=True, exist_ok=True)
            name = _name(data.source.name, setting)
            found = compute(setting, data, checkpoint=folder / f"{name}.checkpoint.pt", progress=progress)
            write_json(folder / f"{name}.json", found)
            if progress:
                print(f"{setting.architecture}, level {setting.level}: {found['values'][0]:.4g}", flush=True)
        made.append(found)
    return made


def record(made, preset_name, results=records.RESULTS):
    """Copy records to where they are committed.

    Args:
        made: As returned by `ensure`.
        preset_name: Preset whose records they become.
        results: Folder of the committed records.
    """
    for each in made:
        name = _name(each["provenance"]["data"]["name"], Setting(**each["setting"]))
        write_json(Path(results) / preset_name / FOLDER / f"{name}.json", each)


def find(setting, preset_name, source=None, *, root=None, results=records.RESULTS):
    """Look for a record, among the committed ones and, of a data set at hand, in the run store.

    Args:
        setting: `Setting`.
        preset_name: Preset whose committed records are searched.
        source: `rfkit.image_files.Source` of the data set; ``None`` for whichever was recorded.
        root: As in `ensure`.
        results: Folder of the committed records.

    Returns:
        The record as `compute` makes it, or None.

    Raises:
        ConfigError: If a file has the name of this setting and the content of another.
    """
    own = [Path(root) if root is not None else store.default_root()] if source is not None else []
    for folder in (*own, Path(results) / preset_name):
        for path in sorted((folder / FOLDER).glob(f"*-{_stem(setting)}.json")):
            record = read_json(path)
            if source is not None and record["provenance"]["data"]["sha256"] != source.sha256:
                continue
            if record["setting"] != json.loads(json.dumps(asdict(setting))):
                raise ConfigError(f"{path} is of another setting; delete it")
            return record
    return None


def recorded(preset_name):
    """The records that are there, of the settings of `settings`.

    Args:
        preset_name: Preset whose records are searched.

    Returns:
        List of records.
    """
    found = [find(setting, preset_name) for setting in settings()]
    return [record for record in found if record is not None]


def _name(data_name, setting):
    return f"{data_name}-{_stem(setting)}"


def _stem(setting):
    return f"{setting.architecture.replace(':', '.')}-level{setting.level}-{stable_hash(asdict(setting))}"


def frame(made):
    """Records as rows of `rfkit.spectra.of_runs`, stage ``init``.

    Args:
        made: Records as made by `compute`.

    Returns:
        Data frame.
    """
    rows = []
    for record in made:
        setting, density = record["setting"], spectra.density_of(record)
        rows.append({
            "data_label": record["provenance"]["data"]["label"],
            "paper_dataset": PAPER_DATASET_BY_SIZE.get(record["image_size"]),
            "architecture": setting["architecture"], "rf_level": setting["level"],
            "field_px": field_px(setting["architecture"], setting["level"]), "seed": setting["seed"], "stage": "init",
            **spectra.summary(record["values"], density), "images": setting["images"],
        })  # fmt: skip
    return pd.DataFrame(rows, columns=list(spectra.of_runs([]).columns)).sort_values(["architecture", "rf_level"])
