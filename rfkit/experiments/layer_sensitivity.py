"""Analysis: what each layer costs when most of its weights are pruned and all others stay."""

import rfkit
from rfkit.experiments import pruning_curve
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import trained
from rfkit.presets import NEVER_PRUNED


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    calibration = pruning_curve.CALIBRATION_IMAGES
    return {"exclude": list(NEVER_PRUNED), "rate": 0.9, "test_images": 2_000, "calibration_images": calibration}


def compute(run, settings, work):
    """One layer after the other, by magnitude, batch norm as trained and re-estimated.

    Source: Li et al. (2017), Pruning Filters for Efficient ConvNets, Sec. 3.2: sensitivity of layers to pruning.
    """
    data = work.data
    few = data.sample(settings["calibration_images"], min(len(data.test_images), settings["test_images"]))
    model = trained(run, work)
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = rfkit.pruning.prunable(model, settings["exclude"])
    names = [name.removesuffix(".weight") for name in weights]
    found = {"layers": names, "accuracy": [], "reestimated_accuracy": []}
    for name in (None, *names):  # first the dense network
        model.load_state_dict(dense)
        if name is not None:
            others = [other for other in names if other != name]
            rfkit.pruning.prune(model, settings["rate"], exclude=settings["exclude"] + others)
        again = rfkit.training.calibrated(model, few.train_images)
        for key, each in (("accuracy", model), ("reestimated_accuracy", again)):
            found[key].append(rfkit.training.evaluate(each, few.test_images, few.test_labels))
    return found


@rows_of("layer_sensitivity", "layer", "place", "lost", "lost_reestimated")
def frame(found, run):
    """One row per prunable layer (place: from 1): points lost, batch norm as trained and re-estimated in both."""
    dense, *accuracies = zip(found["accuracy"], found["reestimated_accuracy"], strict=True)
    for place, (layer, after) in enumerate(zip(found["layers"], accuracies, strict=True), start=1):
        lost, again = (before - pruned for before, pruned in zip(dense, after, strict=True))
        yield {"layer": layer, "place": place, "lost": lost, "lost_reestimated": again}


ANALYSIS = Analysis("layer_sensitivity", "run", settings, compute, frame, planned=False)
