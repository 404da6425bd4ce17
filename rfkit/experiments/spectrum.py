"""Analysis: the Hessian of a run before and after training: largest eigenvalues, density, a slice of the loss."""

import numpy as np

from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.stats import DensityResult

CALIBRATION_IMAGES = 1_000
STAGES = {"init": "before training", "final": "after training"}
ZERO = 1e-3
"""Eigenvalues below this share of the largest count as zero: a Ritz value stands for a whole bulk of them."""
MATVECS_PER_EIGENVALUE = 5
"""About as many Hessian-vector products as are needed; each costs two training steps."""


def settings(preset, unit):
    """What is computed for a unit of a preset; None where no spectrum is planned."""
    wanted = preset.spectrum_of(unit.config.image_size, unit.config.level, unit.config.seed)
    if wanted is None:
        return None
    del wanted["author_steps"]
    return {"calibration_images": CALIBRATION_IMAGES, "version": 3} | wanted


def compute(run, settings, work):
    """On training images without augmentation, batch norm of the untrained network calibrated."""
    from rfkit import hessian, training
    from rfkit.experiments.networks import at_stage

    data, device, result = work.data, work.device, {}
    few = data.sample(settings["images"])
    images, labels = few.train_images, few.train_labels
    networks = {stage: at_stage(run, stage, data, settings["calibration_images"]).to(device) for stage in STAGES}
    for stage, model in networks.items():
        top = hessian.top_eigenvalues(model, images, labels, settings["k"])
        density = hessian.spectral_density(model, images, labels, probes=settings["probes"], steps=settings["steps"])
        result[stage] = {
            "values": top.values.tolist(), "residuals": top.residuals.tolist(), "products": top.products,
            "nodes": density.nodes.tolist(), "weights": density.weights.tolist(), "zeros": density.zeros,
            "loss": training.loss_and_accuracy(model, images, labels)[0],
        }  # fmt: skip
    places, losses = hessian.surface(model, images, labels)
    return result | {
        "images": len(images), "parameters": top.parameters, "left_out": top.left_out,
        "surface": {"places": places.tolist(), "losses": losses.tolist()},
        "variants": _largest_otherwise(run, networks["init"], data, images, labels, device),
    }  # fmt: skip


def _largest_otherwise(run, calibrated, data, images, labels, device):
    """The largest eigenvalue before training, under other choices than ours."""
    from rfkit import hessian, training
    from rfkit.experiments.networks import load_model

    half = len(images) // 2
    plain = load_model(run, "init").to(device)
    training.remember_statistics(plain, data.mean, data.std)
    augmented = training.TrainingBatches(data, len(images), run.config.train.augmentation, run.config.seed, device)
    cases = {
        "evaluation mode, statistics from images (ours)": (calibrated, images, labels, "eval"),
        "half the images": (calibrated, images[:half], labels[:half], "eval"),
        "other images, augmented": (calibrated, *next(iter(augmented)), "eval"),
        "train mode, batches of at most 128": (plain, images, labels, "train"),
        "evaluation mode, uncalibrated": (plain, images, labels, "eval"),
    }
    rough = {"k": 1, "tol": 0.02, "basis": 8}  # these differ by far more
    return {
        name: float(hessian.top_eigenvalues(*case, mode=mode, **rough).values[0])
        for name, (*case, mode) in cases.items()
    }


def cost(settings, unit):
    """Two networks, each with its eigenvalues and its density, and five rough eigenvalues."""
    products = 2 * (MATVECS_PER_EIGENVALUE * settings["k"] + settings["probes"] * settings["steps"]) + 5 * 20
    return 2 * products * settings["images"]


def summary(stored):
    """What is compared between spectra: largest eigenvalue, smallest node of the density, width and negative mass."""
    density = DensityResult(np.array(stored["nodes"]), np.array(stored["weights"]), stored["zeros"])
    values = stored["values"]
    return {
        "top": values[0],
        "smallest": float(density.nodes.min()),
        "width": density.width()[0],
        "negative_mass": density.mass_below(-ZERO * abs(values[0]))[0],
        "values": np.array(values),
        "density": density,
    }


COMPARED = ("stage", "loss", "top", "smallest", "width", "negative_mass", "values", "density", "images")


@rows_of("spectrum", *COMPARED)
def frame(spectrum, run):
    """A row a stage: its loss, and what `summary` has."""
    for stage in STAGES:
        part = spectrum[stage]
        yield {"stage": stage, "loss": part["loss"], "images": spectrum["images"]} | summary(part)


ANALYSIS = Analysis("spectrum", "run", settings, compute, frame, cost)
