"""Analysis: what the author's code calls the spectrum, Ritz values of an operator that changes at every step."""

import numpy as np

import rfkit
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import load_model
from rfkit.experiments.spectrum import STAGES
from rfkit.stats import DensityResult


def settings(preset, unit):
    """What is computed for a unit of a preset; None where no spectrum is planned."""
    wanted = preset.spectrum_of(unit.config.image_size, unit.config.level, unit.config.seed)
    return wanted and {"steps": wanted.author_steps, "images": wanted.images, "batch": 10}


def compute(run, settings, work):
    """Train mode in small batches, drawn and augmented anew for each product; all entries of the start are equal."""
    count = min(settings["images"], len(work.data.train_labels))
    few, result = work.data.sample(count - (count % settings["batch"] == 1)), {}  # batch norm refuses a batch of one
    train, seed = run.config.train, run.config.seed
    batches = rfkit.training.TrainingBatches(few, len(few.train_labels), train.augmentation, seed, work.device)
    for stage in STAGES:
        model = load_model(run, stage, few).to(work.device)
        density = rfkit.hessian.spectral_density(
            model, lambda: next(iter(batches)), None, probes=1, steps=settings["steps"], mode="train",
            start="constant", batch_size=settings["batch"],
        )  # fmt: skip
        result[stage] = {"nodes": density.nodes[0].tolist(), "weights": density.weights[0].tolist()}
    return result | {"images": len(few.train_labels), "batch": settings["batch"]}


def cost(settings, unit):
    """A product costs two training steps."""
    return 2 * 2 * settings["steps"] * settings["images"]


@rows_of("author_ritz", "stage", "smallest", "largest", "density", "images")
def frame(ritz, run):
    """Spectra by the author's construction: extreme Ritz values and density, one row per stage."""
    for stage in STAGES:
        nodes, weights = (np.array([ritz[stage][name]]) for name in ("nodes", "weights"))
        ends = {"stage": stage, "smallest": float(nodes.min()), "largest": float(nodes.max())}
        yield ends | {"density": DensityResult(nodes, weights), "images": ritz["images"]}


ANALYSIS = Analysis("author_ritz", "run", settings, compute, frame, cost)
