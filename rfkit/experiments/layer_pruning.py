"""Analysis: accuracy when the same share is pruned of every layer, instead of the smallest weights of all layers."""

from rfkit.experiments import pruning_curve
from rfkit.experiments.analysis import Analysis, rows_of


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    planned = pruning_curve.settings(preset, unit) | {"method": "layer_magnitude", "version": 1}
    return {name: planned[name] for name in planned if name != "train_images"}


def compute(run, settings, work):
    """Every rate from the final weights, batch norm as trained and re-estimated."""
    curve = pruning_curve.compute(run, settings | {"train_images": 1}, work)  # these results are not kept
    return {"reestimated": curve["reestimated_accuracy"]} | {name: curve[name] for name in ("rates", "test_accuracy")}


@rows_of("layer_pruning", "pruning_rate", "accuracy", "reestimated_accuracy")
def frame(curve, run):
    """One row per pruning rate, 0 (dense) first: accuracies in percent."""
    for i in run.places("layer_pruning", curve["rates"]):
        yield {
            "pruning_rate": curve["rates"][i], "accuracy": curve["test_accuracy"][i],
            "reestimated_accuracy": curve["reestimated"][i],
        }  # fmt: skip


ANALYSIS = Analysis("layer_pruning", "run", settings, compute, frame, planned=False)
