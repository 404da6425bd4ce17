"""Analysis: similarity of two trained seeds by the unbiased estimate, which many images a feature do not raise."""

import numpy as np
import pandas as pd

from rfkit.experiments import pair
from rfkit.experiments.analysis import Analysis


def settings(preset, unit):
    """What is computed for the second of a pair of seeds: the similarities of the analysis ``pair``."""
    planned = pair.settings(preset, unit)
    return planned and {key: planned[key] for key in ("images", "other_seed")} | {"version": 1}


def compute(both, settings, work):
    """Linear CKA of each layer to the same layer of the other seed, as usual and unbiased."""
    from rfkit import cka
    from rfkit.experiments.networks import at_stage

    models = [at_stage(run, "final", work.data) for run in both]
    images, result = work.data.sample(1, settings["images"]).test_images, {"other_seed": settings["other_seed"]}
    for name, unbiased in (("biased", False), ("unbiased", True)):
        matrix = cka.layer_similarity(*models, images, unbiased=unbiased).matrix
        (result[name],) = pair.rounded([np.diagonal(matrix)])
    return result


def frame(runs):
    """One row a pair: the columns of a run, seed (the pair as text), and means over the deeper half of the layers."""
    from rfkit.experiments.finding import describe

    found = [(run, values) for run in runs if (values := run.result("unbiased_pair")) is not None]
    rows = [
        describe(run)
        | {"seed": f"{values['other_seed']}-{run.config.seed}"}
        | {name: np.nanmean(np.array(values[name], float)[len(values[name]) // 2 :]) for name in ("biased", "unbiased")}
        for run, values in found
    ]
    return pd.DataFrame(rows)


ANALYSIS = Analysis("unbiased_pair", "pair", settings, compute, frame, pair.cost, planned=False, on_cpu=True)
