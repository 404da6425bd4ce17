"""Analysis: accuracy when only the first half of the layers is pruned, or only the second."""

import rfkit
from rfkit.experiments import layer_pruning, pruning_curve
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import build

HALVES = ("first", "second")


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return layer_pruning.settings(preset, unit) | {"method": "global_magnitude"}


def compute(run, settings, work):
    """Of the prunable layers in their order; each half is ranked by itself, while the other stays whole."""
    layers = [name.removesuffix(".weight") for name in rfkit.pruning.prunable(build(run.config), settings["exclude"])]
    middle, found = len(layers) // 2, {}
    for half, whole in zip(HALVES, (layers[middle:], layers[:middle]), strict=True):
        asked = settings | {"exclude": settings["exclude"] + whole, "train_images": 1}  # its results are not kept
        curve = pruning_curve.compute(run, asked, work)
        found[half] = {name: curve[name] for name in ("test_accuracy", "reestimated_accuracy", "usable_kept")}
    return found | {"rates": curve["rates"]}


@rows_of("half_pruning", "half", "pruning_rate", "accuracy", "reestimated_accuracy", "usable_sparsity")
def frame(curves, run):
    """One row per half and rate of its weights, 0 (dense) first: accuracies in percent, sparsity of its usable ones."""
    for half in HALVES:
        curve = curves[half]
        for i in run.places("half_pruning", curves["rates"]):
            yield {
                "half": half, "pruning_rate": curves["rates"][i], "accuracy": curve["test_accuracy"][i],
                "reestimated_accuracy": curve["reestimated_accuracy"][i],
                "usable_sparsity": 1 - curve["usable_kept"][i] / curve["usable_kept"][0],
            }  # fmt: skip


ANALYSIS = Analysis("half_pruning", "run", settings, compute, frame, planned=False)
