"""Analysis: the experiment of Section 3.4, which pixels matter at initialisation, by every definition."""

import functools
import time

import numpy as np
import pandas as pd

import rfkit
from rfkit.config import one_of, whole, width_factor
from rfkit.experiments.analysis import Analysis, source_sha256

# What is varied; the first two are the definitions behind Tables 3 and 4.
VARIANTS = {
    "linearised": {"backward": "linearised"},
    "true": {"backward": "true"},
    "linearised, Gaussian image": {"backward": "linearised", "image": "gaussian"},
    "true, Gaussian image": {"backward": "true", "image": "gaussian"},
    "true, all colours": {"backward": "true", "colours": "all"},
    "linearised, max-pooling": {"backward": "linearised", "pooling": "max"},
    "true, average-pooling": {"backward": "true", "pooling": "average"},
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


def settings(preset, *, repeats=None, width=None):
    """What a preset computes for its networks and levels, the two definitions first; it needs no data set."""
    most, preset_width, few = SCALES[preset.name]
    if repeats is not None:
        whole("repeats", repeats, 1)
    networks = {variant: most if variant in MAIN else few for variant in VARIANTS}
    networks["true, calibrated batch norm"] = min(few, 3)  # a pass over images each, by far the slowest
    return [
        ({
            "architecture": name, "variant": variant, "levels": list(preset.levels),
            "repeats": networks[variant] if repeats is None else repeats,
            "width": width_factor(preset_width if width is None else width),
            "input_size": 64, "calibration_images": 64, "architecture_sha256": source_sha256(name), "algorithm": 1,
        }, None)
        for variant in VARIANTS
        for name in preset.architectures
    ]  # fmt: skip


def compute(_, settings, work):
    """The largest projected gradient of each fresh network at each level, and the mean pattern."""
    options = dict(VARIANTS[one_of("variant", settings["variant"], tuple(VARIANTS))])
    if options["backward"] == "linearised" and settings["architecture"] == "resnet50":
        options["keep_first_relu"] = True
    if "calibrated" in settings["variant"]:
        digits = rfkit.data.load("digits", image_size=settings["input_size"])
        first = digits.train_images[: settings["calibration_images"]]
        images = rfkit.training.normalised(first, digits.mean, digits.std)
        options["prepare"] = functools.partial(rfkit.training.calibrated, images=images)
    levels, repeats, side = settings["levels"], settings["repeats"], settings["input_size"]
    networks = _Networks(settings)
    maxima, likeness = ({level: [] for level in levels} for _ in range(2))
    means = np.zeros((len(levels), side, side))
    for seed in range(repeats):  # outside, so that all levels use one network
        first = None
        for i, level in enumerate(levels):
            result = rfkit.projection.gradient_projection(
                functools.partial(networks.make, level), input_size=side, repeats=1, seed=seed, **options
            )
            first = result.pattern if first is None else first
            likeness[level].append(cosine(result.pattern, first))
            maxima[level].append(float(result.maxima[0]))
            means[i] += result.pattern / repeats
    return {
        "maxima": {str(level): values for level, values in maxima.items()},
        "similarity": {str(level): values for level, values in likeness.items()},
        "patterns": means.astype(np.float32),
    }


class _Networks:
    """Fresh networks; drawing weights is the slowest step, so it is done once per seed for all levels."""

    def __init__(self, settings):
        self.settings, self.seed, self.network, self.state_after = settings, None, None, None

    def make(self, level):
        import torch
        from torch import nn

        name = self.settings["architecture"]
        ours = name in rfkit.models.ARCHITECTURES  # what else a level changes in others is not known
        if ours and self.seed == torch.initial_seed():
            self.network.set_level(level)
            torch.set_rng_state(self.state_after)  # what is drawn next is the same as after a fresh network
            return self.network
        self.network = rfkit.models.build(name, level, width=self.settings["width"])
        if "Kaiming" in self.settings["variant"]:
            for module in self.network.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        self.seed, self.state_after = torch.initial_seed(), torch.get_rng_state()
        return self.network


def seconds(settings, _):
    """Measured on one network at the first level, which takes longest; calibration adds a pass over images."""
    start = time.perf_counter()
    make = functools.partial(_Networks(settings).make, settings["levels"][0])
    rfkit.projection.gradient_projection(make, input_size=settings["input_size"], repeats=1)
    passes = 1 + settings["calibration_images"] / 3 * ("calibrated" in settings["variant"])
    return (time.perf_counter() - start) * settings["repeats"] * len(settings["levels"]) * passes


def frame(results):
    """The largest projected gradients, one row per network."""
    rows = []
    for each in results:
        about = {key: each["settings"][key] for key in ("architecture", "variant", "width")}
        for level, maxima in each["values"]["maxima"].items():
            alike = each["values"]["similarity"][level]
            rows += [
                about | {"rf_level": int(level), "seed": seed, "maximum": value, "similarity": cosine}
                for seed, (value, cosine) in enumerate(zip(maxima, alike, strict=True))
            ]
    return pd.DataFrame(rows, columns=["architecture", "variant", "width", "rf_level", "seed", "maximum", "similarity"])


def cosine(pattern, reference, shift=0):
    """Cosine similarity of two patterns, one of them moved along the diagonal; NaN where one is zero."""
    pattern, reference = np.asarray(pattern, float), np.asarray(reference, float)
    norms = np.linalg.norm(pattern) * np.linalg.norm(reference)
    a, b = pattern[max(0, shift) :, max(0, shift) :], reference[max(0, -shift) :, max(0, -shift) :]
    common = min(len(a), len(b))
    return float((a[:common, :common] * b[:common, :common]).sum() / norms) if norms else np.nan


def fitted_similarity(pattern, reference):
    """How alike two patterns are in shape, wherever the unit's field lies: (cosine, shift)."""
    half = len(pattern) // 2
    fits = [(cosine(pattern, reference, shift), shift) for shift in range(-half, half + 1)]
    return max(fits, key=lambda fit: (np.nan_to_num(fit[0], nan=-1.0), -abs(fit[1])))


def fitted_to_first(result):
    """`fitted_similarity` of each level's mean pattern to the first level's, as {level: (cosine, shift)}."""
    levels, patterns = result["settings"]["levels"], result["values"]["patterns"]
    return {level: fitted_similarity(each, patterns[0]) for level, each in zip(levels, patterns, strict=True)}


ANALYSIS = Analysis("gradient_projection", "network", settings, compute, frame, seconds, planned=False, on_cpu=True)
