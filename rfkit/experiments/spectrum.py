"""Analysis: the Hessian of a run before and after training: largest eigenvalues, density, a slice of the loss."""

import numpy as np

import rfkit
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import at_stage, load_model
from rfkit.stats import DensityResult

STAGES = {"init": "before training", "final": "after training"}
ZERO = 1e-3
"""Eigenvalues below this share of the largest count as zero: a Ritz value stands for a whole bulk of them."""


def settings(preset, unit):
    """What is computed for a unit of a preset; None where no spectrum is planned."""
    wanted = preset.spectrum_of(unit.config.image_size, unit.config.level, unit.config.seed)
    names = ("k", "images", "probes", "steps")
    usual = {"calibration_images": 1_000, "version": 3}
    return wanted and usual | {name: getattr(wanted, name) for name in names}


def compute(run, settings, work):
    """On training images without augmentation, batch norm of the untrained network calibrated."""
    data, device, result = work.data, work.device, {}
    few = data.sample(settings["images"])
    images, labels = few.train_images, few.train_labels
    networks = {stage: at_stage(run, stage, data, settings["calibration_images"]).to(device) for stage in STAGES}
    for stage, model in networks.items():
        result[stage] = measured(model, images, labels, settings)
        result[stage]["loss"] = rfkit.training.loss_and_accuracy(model, images, labels)[0]
    places, losses = rfkit.hessian.surface(model, images, labels)
    return result | {
        "images": len(images), "surface": {"places": places.tolist(), "losses": losses.tolist()},
        "variants": _largest_otherwise(run, networks["init"], data, images, labels, device),
    }  # fmt: skip


def measured(model, images, labels, settings, progress=False, **options):
    """Largest eigenvalues and density of the Hessian of a network."""
    top = rfkit.hessian.top_eigenvalues(model, images, labels, settings["k"], progress=progress, **options)
    lanczos = {name: settings[name] for name in ("probes", "steps")}
    density = rfkit.hessian.spectral_density(model, images, labels, progress=progress, **lanczos)
    return {
        "values": top.values.tolist(), "residuals": top.residuals.tolist(), "products": top.products,
        "left_out": top.left_out, "parameters": top.parameters, "nodes": density.nodes.tolist(),
        "weights": density.weights.tolist(), "zeros": density.zeros,
    }  # fmt: skip


def _largest_otherwise(run, calibrated, data, images, labels, device):
    """The largest eigenvalue before training, under other choices than ours."""
    half = len(images) // 2
    plain = load_model(run, "init", data).to(device)
    seed, augmentation = run.config.seed, run.config.train.augmentation
    augmented = rfkit.training.TrainingBatches(data, len(images), augmentation, seed, device)
    cases = {
        "evaluation mode, statistics from images (ours)": (calibrated, images, labels, "eval"),
        "half the images": (calibrated, images[:half], labels[:half], "eval"),
        "other images, augmented": (calibrated, *next(iter(augmented)), "eval"),
        "train mode, batches of at most 128": (plain, images, labels, "train"),
        "evaluation mode, uncalibrated": (plain, images, labels, "eval"),
    }
    rough = {"k": 1, "tol": 0.02, "basis": 8}  # these differ by far more
    return {
        name: float(rfkit.hessian.top_eigenvalues(*case, mode=mode, **rough).values[0])
        for name, (*case, mode) in cases.items()
    }


def cost(settings, unit):
    """Eigenvalues (five products each) and density of two networks, and five rough ones; a product is two steps."""
    products = 2 * (5 * settings["k"] + settings["probes"] * settings["steps"]) + 5 * 20
    return 2 * products * settings["images"]


def summary(stored):
    """What is compared between spectra: largest eigenvalue, smallest node of the density, width and negative mass."""
    density = DensityResult(np.array(stored["nodes"]), np.array(stored["weights"]), stored["zeros"])
    values = np.array(stored["values"])
    return {
        "top": stored["values"][0], "smallest": float(density.nodes.min()), "width": density.width(),
        "negative_mass": density.mass_below(-ZERO * abs(values[0])), "values": values, "density": density,
    }  # fmt: skip


COMPARED = ("stage", "loss", "top", "smallest", "width", "negative_mass", "values", "density", "images")


@rows_of("spectrum", *COMPARED)
def frame(spectrum, run):
    """One row per stage: its loss, and what `summary` has."""
    for stage in STAGES:
        part = spectrum[stage]
        yield {"stage": stage, "loss": part["loss"], "images": spectrum["images"]} | summary(part)


ANALYSIS = Analysis("spectrum", "run", settings, compute, frame, cost)
