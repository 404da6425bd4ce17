"""Analysis: two seeds of one network beside each other: similarity of their layers, and the line between them."""

import math

import numpy as np
import pandas as pd

import rfkit
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import at_stage
from rfkit.experiments.pruning_curve import CALIBRATION_IMAGES
from rfkit.experiments.spectrum import STAGES
from rfkit.files import read_reference


def settings(preset, unit):
    """What is computed for a unit that is the second of a pair of seeds of the preset; None for others."""
    wanted, other = preset.pairs, {second: first for first, second in preset.seed_pairs}.get(unit.config.seed)
    if other is None or (wanted.levels is not None and unit.config.level not in wanted.levels):
        return None
    sizes = {name: getattr(wanted, name) for name in ("images", "points", "line_images")}
    return sizes | {"other_seed": other, "version": 2}


def compute(pair, settings, work):
    """At both stages the matrix between the networks and that of the first with itself; then the line between them."""
    few, result = work.data.sample(settings["line_images"], settings["images"]), {}
    images = few.test_images
    for stage in STAGES:
        a, b = (at_stage(run, stage, work.data) for run in pair)
        found, own = rfkit.cka.layer_similarity(a, b, images), rfkit.cka.layer_similarity(a, a, images)
        result[stage] = {"matrix": rounded(found.matrix), "self": rounded(own.matrix)}
        result[stage] |= {"dead_a": found.dead_a, "dead_b": found.dead_b}
    places, losses, accuracies = rfkit.hessian.line(
        a, b, few.train_images, few.train_labels, points=settings["points"],
        calibration=work.data.sample(CALIBRATION_IMAGES).train_images,
    )  # fmt: skip
    line = {"places": places.tolist(), "losses": losses.tolist(), "accuracies": accuracies.tolist()}
    line["images"] = len(few.train_images)
    about = {"other_seed": settings["other_seed"], "layers": found.layers_a, "images": len(images)}
    return result | about | {"line": line}


def rounded(matrix):
    """A matrix for JSON, None where a layer is dead."""
    return [[None if math.isnan(value) else round(float(value), 6) for value in row] for row in matrix]


def cost(settings, unit):
    """Both networks pass all images twice at both stages; Gram matrices take about as long again."""
    line = settings["points"] * (settings["line_images"] + CALIBRATION_IMAGES)
    return (2 * 2 * 4 * settings["images"] + line) / 3


@rows_of(
    "pair", "stage", "similarity", "deep_similarity", "dead", "matrix", "own", "layers", "barrier", "line", "images"
)
def frame(pair, run):
    """One row per pair (seed, as text) and stage: means of the diagonal and of its deeper half, live layers only."""
    losses = np.array(pair["line"]["losses"])
    for stage in STAGES:
        matrix = np.array(pair[stage]["matrix"], float)
        yield {
            "seed": f"{pair['other_seed']}-{run.config.seed}", "stage": stage,
            "similarity": pd.Series(np.diagonal(matrix)).mean(),
            "deep_similarity": pd.Series(np.diagonal(matrix)[len(matrix) // 2 :]).mean(),
            "dead": len(pair[stage]["dead_a"]) + len(pair[stage]["dead_b"]),
            "matrix": matrix, "own": np.array(pair[stage]["self"], float), "layers": pair["layers"],
            "barrier": barrier(losses), "line": (np.array(pair["line"]["places"]), losses), "images": pair["images"],
        }  # fmt: skip


def barrier(losses):
    """Greatest rise of the loss on a line above the straight way between its ends; 0 where it nowhere rises."""
    return float(max(0.0, (losses - np.linspace(losses[0], losses[-1], len(losses))).max()))


def of_author():
    """Mean diagonals of the author's published matrices between two seeds of trained ResNet50.

    Returns:
        Data frame, one row per level: architecture, rf_level, similarity, deep_similarity. Exact zeros are dead layers;
        they are left out as ours are.

    Source: The author's public repository, https://github.com/Elluito/sparse_ensemble.
    """
    rows = read_reference("author_cka.csv").replace({"linear_cka": {0.0: float("nan")}})
    own = rows[rows["layer_model_a"] == rows["layer_model_b"]].sort_values("layer_model_a")
    layers = own.groupby(["architecture", "rf_level"])["linear_cka"]
    halves = {"similarity": "mean", "deep_similarity": lambda values: values.iloc[len(values) // 2 :].mean()}
    return layers.agg(**halves).reset_index()


ANALYSIS = Analysis("pair", "pair", settings, compute, frame, cost, on_cpu=True)
