"""Analysis: what the author's code calls the spectrum, Ritz values of an operator that changes at every step."""

import numpy as np
import pandas as pd

from rfkit.experiments.analysis import Analysis
from rfkit.experiments.spectrum import STAGES
from rfkit.files import read_reference
from rfkit.stats import DensityResult

BATCH = 10
"""Images in a batch of the author's Hessian."""


def settings(preset, unit):
    """What is computed for a unit of a preset; None where no spectrum is planned."""
    wanted = preset.spectrum_of(unit.config.image_size, unit.config.level, unit.config.seed)
    return wanted and {"steps": wanted["author_steps"], "images": wanted["images"], "batch": BATCH}


def compute(run, settings, work):
    """Train mode in small batches, drawn and augmented anew for each product; all entries of the start are equal."""
    from rfkit import hessian, training
    from rfkit.experiments.networks import load_model

    few, result = work.data.sample(settings["images"]), {}
    train, seed = run.config.train, run.config.seed
    batches = training.TrainingBatches(few, len(few.train_labels), train.augmentation, seed, work.device)
    for stage in STAGES:
        model = load_model(run, stage).to(work.device)
        training.remember_statistics(model, few.mean, few.std)
        density = hessian.spectral_density(
            model, lambda: next(iter(batches)), None, probes=1, steps=settings["steps"], mode="train",
            start="constant", batch_size=settings["batch"],
        )  # fmt: skip
        result[stage] = {"nodes": density.nodes[0].tolist(), "weights": density.weights[0].tolist()}
    return result | {"images": len(few.train_labels), "batch": settings["batch"]}


def cost(settings, unit):
    """A product costs two training steps."""
    return 2 * 2 * settings["steps"] * settings["images"]


def frame(runs):
    """Spectra by the author's construction.

    Args:
        runs: List of `Run`.

    Returns:
        Data frame, one row a run and stage: data_label, paper_dataset, architecture, rf_level, field_px, seed, stage,
        smallest and largest Ritz value, density (`rfkit.stats.DensityResult`), images. Empty where no run has it.
    """
    from rfkit.experiments.finding import describe

    rows = []
    for run in runs:
        ritz = run.result("author_ritz")
        for stage in STAGES if ritz is not None else ():
            nodes, weights = (np.array([ritz[stage][name]]) for name in ("nodes", "weights"))
            rows.append(describe(run) | {
                "stage": stage,
                "smallest": float(nodes.min()),
                "largest": float(nodes.max()),
                "density": DensityResult(nodes, weights),
                "images": ritz["images"],
            })  # fmt: skip
    columns = ("data_label", "paper_dataset", "architecture", "rf_level", "field_px", "seed", "stage")
    return pd.DataFrame(rows, columns=[*columns, "smallest", "largest", "density", "images"])


def of_author():
    """Summary of the Ritz values in the author's public files, one row a run.

    Returns:
        Data frame: source_file, dataset, architecture, rf_level, seed, stage, random_augmentation, n_ritz_values,
        min_ritz, max_ritz, n_negative, median_abs_ritz, sum_of_weights, weighted_std.

    Source:
        The author's public repository, https://github.com/Elluito/sparse_ensemble.
    """
    return read_reference("author_hessian_summary.csv")


ANALYSIS = Analysis("author_ritz", "run", settings, compute, frame, cost)
