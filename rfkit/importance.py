"""The experiment of Section 3.4: which pixels matter at initialisation, for every network, level and definition."""

import functools
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

import numpy as np
import torch
from torch import nn

from rfkit import data, models, projection, store, training
from rfkit.batches import normalised
from rfkit.importance_records import RESULTS, VARIANTS, find, folder_of, save


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
            for setting in pool.map(functools.partial(_store, folder=folder_of(root)), missing):
                if progress:
                    print(f"{setting.architecture}, {setting.variant}", flush=True)
    else:
        for setting in missing:
            _store(setting, folder_of(root))
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
    save(setting, *compute(setting), folder)
    return setting
