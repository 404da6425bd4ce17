"""Analysis: Hessian spectra of untrained networks at the paper's full width, what Figures 1 and 2 claim is about."""

from dataclasses import replace

import pandas as pd

from rfkit.data import PAPER_DATASET_BY_SIZE
from rfkit.experiments.analysis import DESCRIBED, Analysis, of_source
from rfkit.experiments.spectrum import COMPARED, summary
from rfkit.presets import field_px


def settings(preset, *, width=1.0, **options):
    """One network and level each, the cheap levels first, on the preset's first data set."""
    usual = {
        "seed": 0, "k": 90, "tol": 1e-2, "images": 32, "probes": 1, "steps": 40, "calibration_images": 1000,
    }  # fmt: skip
    return [
        ({"architecture": name, "level": level, "width": width} | of_source(name) | usual | options, preset.datasets[0])
        for level in sorted(preset.levels, reverse=True)
        for name in preset.architectures
    ]


def compute(_, settings, work):
    """The largest eigenvalues and the density, batch norm calibrated; goes on from a checkpoint after a stop."""
    from rfkit import hessian, models, training

    data = work.data
    model = models.seeded_build(
        settings["architecture"], settings["level"], width=settings["width"], num_classes=data.num_classes,
        seed=settings["seed"],
    )  # fmt: skip
    training.remember_statistics(model, data.mean, data.std)
    model = training.calibrated(model.eval(), data.sample(settings["calibration_images"]).train_images)
    few = data.sample(settings["images"])
    images, labels = few.train_images, few.train_labels
    top = hessian.top_eigenvalues(
        model, images, labels, settings["k"], tol=settings["tol"], progress=work.progress,
        checkpoint=work.scratch / "eigenvalues.checkpoint.pt",
    )  # fmt: skip
    density = hessian.spectral_density(
        model, images, labels, probes=settings["probes"], steps=settings["steps"], progress=work.progress
    )
    return {
        "values": top.values.tolist(), "residuals": top.residuals.tolist(), "products": top.products,
        "left_out": top.left_out, "parameters": top.parameters, "nodes": density.nodes.tolist(),
        "weights": density.weights.tolist(), "zeros": density.zeros, "image_size": data.image_size,
    }  # fmt: skip


def frame(results):
    """Spectra of untrained networks, as rows of the frame of the analysis ``spectrum``, stage ``init``."""
    rows = [
        {
            "data_label": each["provenance"]["data"]["label"],
            "paper_dataset": PAPER_DATASET_BY_SIZE.get(each["values"]["image_size"]),
            "architecture": (wanted := each["settings"])["architecture"],
            "rf_level": wanted["level"],
            "field_px": field_px(wanted["architecture"], wanted["level"]),
            "seed": wanted["seed"],
            "stage": "init",
            "images": wanted["images"],
            **summary(each["values"]),
        }
        for each in results
    ]
    return pd.DataFrame(rows, columns=[*DESCRIBED, *COMPARED]).sort_values(["architecture", "rf_level"])


def seconds(settings, _):
    """By forward and backward passes measured here, five products an eigenvalue."""
    from rfkit import presets, training
    from rfkit.experiments.finding import unit_of

    unit = unit_of(presets.get("paper"), "cifar10", settings["architecture"], settings["level"], settings["seed"])
    config = replace(unit.config, width=settings["width"])
    products = 5 * settings["k"] + settings["probes"] * settings["steps"]
    return 2 * products * settings["images"] * training.seconds_per_image(config)


ANALYSIS = Analysis("untrained_spectrum", "network", settings, compute, frame, seconds, planned=False, on_cpu=True)
