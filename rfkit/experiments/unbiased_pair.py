"""Analysis: similarity of two trained seeds by the unbiased estimate, which many features do not raise."""

import numpy as np

import rfkit
from rfkit.experiments import pair
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import at_stage


def settings(preset, unit):
    """What is computed for the second of a pair of seeds: the similarities of the analysis ``pair``."""
    planned = pair.settings(preset, unit)
    return planned and {key: planned[key] for key in ("images", "other_seed")} | {"version": 1}


def compute(both, settings, work):
    """Linear CKA of each layer to the same layer of the other seed, as usual and unbiased."""
    models = [at_stage(run, "final", work.data) for run in both]
    images, result = work.data.sample(1, settings["images"]).test_images, {"other_seed": settings["other_seed"]}
    for name, unbiased in (("biased", False), ("unbiased", True)):
        matrix = rfkit.cka.layer_similarity(*models, images, unbiased=unbiased).matrix
        (result[name],) = pair.rounded([np.diagonal(matrix)])
    return result


@rows_of("unbiased_pair")
def frame(found, run):
    """One row per pair (seed, as text): means over the deeper half of the layers."""
    halves = {name: np.array(found[name], float)[len(found[name]) // 2 :] for name in ("biased", "unbiased")}
    means = {name: np.nanmean(half) for name, half in halves.items()}
    yield {"seed": f"{found['other_seed']}-{run.config.seed}"} | means


ANALYSIS = Analysis("unbiased_pair", "pair", settings, compute, frame, planned=False, on_cpu=True)
