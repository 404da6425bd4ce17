"""Analysis: accuracy when the same share is pruned of every layer, instead of the smallest weights of all layers."""

from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.pruning_curve import CALIBRATION_IMAGES
from rfkit.presets import NEVER_PRUNED


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    about = {"method": "layer_magnitude", "exclude": list(NEVER_PRUNED), "calibration_images": CALIBRATION_IMAGES}
    return about | {"version": 1, "rates": list(preset.rates)}


def compute(run, settings, work):
    """Every rate from the final weights, batch norm as trained and re-estimated."""
    import torch

    from rfkit import pruning, training
    from rfkit.experiments.networks import build

    data, dense = work.data, run.weights("final")
    model = build(run.config).to(work.device, memory_format=torch.channels_last)
    training.remember_statistics(model, data.mean, data.std)
    calibration = data.sample(settings["calibration_images"]).train_images
    found = {"rates": [0.0, *(rate for rate in settings["rates"] if rate)], "test_accuracy": [], "reestimated": []}
    for rate in found["rates"]:
        model.load_state_dict(dense)
        pruning.prune(model, rate, settings["method"], exclude=settings["exclude"])
        for name, net in {"test_accuracy": model, "reestimated": training.calibrated(model, calibration)}.items():
            found[name].append(training.evaluate(net, data.test_images, data.test_labels))
    return found


def cost(settings, unit):
    """A forward pass is a third of a training step; each rate is tested twice."""
    return (1 + len(settings["rates"])) * (2 * unit.config.test_images + settings["calibration_images"]) / 3


@rows_of("layer_pruning", "pruning_rate", "accuracy", "reestimated_accuracy")
def frame(curve, run):
    """A row a pruning rate, 0 (dense) first: accuracies in percent."""
    for i in run.places("layer_pruning", curve["rates"]):
        yield {
            "pruning_rate": curve["rates"][i], "accuracy": curve["test_accuracy"][i],
            "reestimated_accuracy": curve["reestimated"][i],
        }  # fmt: skip


ANALYSIS = Analysis("layer_pruning", "run", settings, compute, frame, cost, planned=False)
