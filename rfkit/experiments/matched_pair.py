"""Analysis: the line between two seeds of one network after the channels of the second are put in the first's order."""

import numpy as np

import rfkit
from rfkit.experiments import pair
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import at_stage
from rfkit.experiments.pruning_curve import CALIBRATION_IMAGES


def settings(preset, unit):
    """What is computed for the second of a pair of seeds: the line of the analysis ``pair``, without its matrices."""
    planned = pair.settings(preset, unit)
    if planned is None or unit.config.architecture not in ("vgg19", "resnet50"):
        return None
    return {key: planned[key] for key in ("points", "line_images", "other_seed")} | {"match_images": 512, "version": 1}


def compute(both, settings, work):
    """Loss between the two networks as they are and after matching, both with batch norm calibrated at every point."""
    a, b = (at_stage(run, "final", work.data) for run in both)
    few = work.data.sample(settings["line_images"])
    calibration = work.data.sample(CALIBRATION_IMAGES).train_images
    ordered = rfkit.hessian.matched(a, b, work.data.sample(settings["match_images"]).train_images)
    result = {"other_seed": settings["other_seed"]}
    for name, end in (("as_trained", b), ("matched", ordered)):
        _, losses, accuracies = rfkit.hessian.line(
            a, end, few.train_images, few.train_labels, points=settings["points"], calibration=calibration
        )
        result[name] = {"losses": losses.tolist(), "accuracies": accuracies.tolist()}
    return result


@rows_of("matched_pair", "as_trained_barrier", "as_trained_least", "matched_barrier", "matched_least")
def frame(found, run):
    """One row per pair (seed, as text): the barrier of both lines and the least accuracy on the way, in percent."""
    row = {"seed": f"{found['other_seed']}-{run.config.seed}"}
    for name in ("as_trained", "matched"):
        row[f"{name}_barrier"] = pair.barrier(np.array(found[name]["losses"]))
        row[f"{name}_least"] = min(found[name]["accuracies"])
    yield row


ANALYSIS = Analysis("matched_pair", "pair", settings, compute, frame, planned=False, on_cpu=True)
