"""Analysis: Hessian spectra of untrained networks at full width: the claim of Figures 1 and 2 is about them."""

import pandas as pd

import rfkit
from rfkit.data import PAPER_DATASET_BY_SIZE
from rfkit.experiments import networks, spectrum
from rfkit.experiments.analysis import DESCRIBED, Analysis, of_source
from rfkit.presets import field_px


def settings(preset, *, width=1.0, **options):
    """One network and level each, the cheap levels first, on the preset's first data set."""
    usual = {"seed": 0, "k": 90, "tol": 1e-2, "images": 32, "probes": 1, "steps": 40, "calibration_images": 1000}
    return [
        ({"architecture": name, "level": level, "width": width} | of_source(name) | usual | options, preset.datasets[0])
        for level in sorted(preset.levels, reverse=True)
        for name in preset.architectures
    ]


def compute(_, settings, work):
    """The largest eigenvalues and the density, batch norm calibrated."""
    data = work.data
    options = {"width": settings["width"], "num_classes": data.num_classes, "seed": settings["seed"]}
    model = rfkit.models.seeded_build(settings["architecture"], settings["level"], **options)
    model = networks.calibrated(model, data, settings["calibration_images"])
    few = data.sample(settings["images"])
    found = spectrum.measured(model, few.train_images, few.train_labels, settings, work.progress, tol=settings["tol"])
    return found | {"image_size": data.image_size}


def frame(results):
    """Spectra of untrained networks, as rows of the frame of the analysis ``spectrum``, stage ``init``."""
    rows = [
        {
            "data_label": each["provenance"]["data"]["label"],
            "paper_dataset": PAPER_DATASET_BY_SIZE.get(each["values"]["image_size"]),
            "architecture": s["architecture"], "rf_level": s["level"], "seed": s["seed"], "images": s["images"],
            "field_px": field_px(s["architecture"], s["level"]), "stage": "init", **spectrum.summary(each["values"]),
        }
        for each, s in ((each, each["settings"]) for each in results)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*DESCRIBED, *spectrum.COMPARED]).sort_values(["architecture", "rf_level"])


def seconds(settings, _):
    """By forward and backward passes measured here, five products an eigenvalue."""
    from rfkit.experiments.finding import unit_of

    preset = rfkit.presets.get("paper").select(width=settings["width"])
    unit = unit_of(preset, "cifar10", settings["architecture"], settings["level"], settings["seed"])
    products = 5 * settings["k"] + settings["probes"] * settings["steps"]
    return 2 * products * settings["images"] * rfkit.training.seconds_per_image(unit.config)


ANALYSIS = Analysis("untrained_spectrum", "network", settings, compute, frame, seconds, planned=False, on_cpu=True)
