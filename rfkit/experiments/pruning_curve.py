"""Analysis: dense and one-shot pruned accuracy at every rate."""

import copy

import rfkit
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import trained
from rfkit.presets import NEVER_PRUNED

CALIBRATION_IMAGES = 512
"""Number of training images on which batch norm of pruned networks is re-estimated."""
SAME = ("test_loss", "train_accuracy", "train_loss", "reestimated_accuracy")
"""Columns that are called in the frame as they are in the result."""


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return {
        "method": "global_magnitude", "exclude": list(NEVER_PRUNED), "train_images": 5_000,
        "calibration_images": CALIBRATION_IMAGES, "version": 2, "rates": list(preset.rates),
    }  # fmt: skip


def compute(run, settings, work):
    """Every rate from the final weights; batch norm keeps the dense network's statistics unless re-estimated."""
    data, model, rows = work.data, trained(run, work), []
    dense = copy.deepcopy(model.state_dict())
    shape = (3, data.image_size, data.image_size)
    usable, times = rfkit.pruning.usable_weights(model, shape), rfkit.pruning.multiplications(model, shape)
    few = data.sample(min(len(data.test_images), settings["train_images"]))  # for accuracy beside the test accuracy
    calibration = data.sample(settings["calibration_images"]).train_images
    for rate in (0.0, *(rate for rate in settings["rates"] if rate)):
        model.load_state_dict(dense)
        masks = rfkit.pruning.prune(model, rate, settings["method"], exclude=settings["exclude"])
        test_loss, test_accuracy = rfkit.training.loss_and_accuracy(model, data.test_images, data.test_labels)
        train_loss, train_accuracy = rfkit.training.loss_and_accuracy(model, few.train_images, few.train_labels)
        again = rfkit.training.calibrated(model, calibration)
        weights = {name: p for name, p in model.named_parameters() if name in times}
        rows.append({
            "rates": rate, "test_accuracy": test_accuracy, "test_loss": test_loss,
            "train_accuracy": train_accuracy, "train_loss": train_loss,
            "reestimated_accuracy": rfkit.training.evaluate(again, data.test_images, data.test_labels),
            "usable_kept": sum(int((mask & usable[name]).sum()) for name, mask in masks.items()),
            "multiplications": sum(int(w.count_nonzero()) * times[name] for name, w in weights.items()),
            "parameters": sum(int(p.count_nonzero()) for p in model.parameters()),
            "layer_sparsity": [1 - int(mask.sum()) / mask.numel() for mask in masks.values()],
        })  # fmt: skip
    return {key: [row[key] for row in rows] for key in rows[0]} | {
        "layers": list(usable),
        "usable": [int(mask.sum()) for mask in usable.values()],
        "prunable": [mask.numel() for mask in usable.values()],
        "train_images": len(few.train_images),
        "calibration_images": len(calibration),
    }


def cost(settings, unit):
    """A forward pass is a third of a training step; each rate is tested twice."""
    config = unit.config
    train = min(config.test_images, settings["train_images"])
    return (1 + len(settings["rates"])) * (2 * config.test_images + train + settings["calibration_images"]) / 3


@rows_of(
    "pruning", "dataset", "chance", "test_images", "dense", "pruning_rate", "accuracy", *SAME, "usable_sparsity",
    "compression", "speed_up",
)  # fmt: skip
def frame(curve, run):
    """One row per pruning rate, 0 (dense) first: accuracies in percent, usable_sparsity of the weights that can matter.

    Compression (parameters) and speed_up (multiplications, theoretical) are ratios of dense over pruned.
    """
    config = run.config
    for i in run.places("pruning", curve["rates"]):
        yield {
            "dataset": config.dataset, "chance": 100 / config.num_classes, "test_images": config.test_images,
            "dense": run.summary["test_accuracy"], "pruning_rate": curve["rates"][i],
            "accuracy": curve["test_accuracy"][i], **{name: curve[name][i] for name in SAME},
            "usable_sparsity": 1 - curve["usable_kept"][i] / sum(curve["usable"]),
            "compression": curve["parameters"][0] / curve["parameters"][i],
            "speed_up": curve["multiplications"][0] / curve["multiplications"][i],
        }  # fmt: skip


ANALYSIS = Analysis("pruning", "run", settings, compute, frame, cost)
