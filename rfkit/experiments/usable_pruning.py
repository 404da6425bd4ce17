"""Analysis: accuracy at rates of the usable weights, the dead ones set to zero before."""

import copy

import rfkit
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import trained
from rfkit.presets import NEVER_PRUNED


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return {"method": "global_magnitude", "exclude": list(NEVER_PRUNED), "rates": list(preset.rates)}


def compute(run, settings, work):
    """Without dead weights, only their number, 0: the curve is then that of all weights."""
    data, rates = work.data, settings["rates"]
    model = trained(run, work)
    usable = rfkit.pruning.usable_weights(model, (3, data.image_size, data.image_size))
    total, kept = rfkit.pruning.counts(usable)
    result = {"usable": kept, "dead": total - kept}
    if kept == total:
        return result
    rfkit.pruning.apply_masks(model, usable)
    dense, accuracies = copy.deepcopy(model.state_dict()), []
    for rate in rates:
        model.load_state_dict(dense)
        share = (total - kept + round(rate * kept)) / total  # the dead ones go first: they are zero
        rfkit.pruning.prune(model, share, settings["method"], exclude=settings["exclude"])
        accuracies.append(rfkit.training.evaluate(model, data.test_images, data.test_labels))
    return result | {"rates": rates, "test_accuracy": accuracies}


def cost(settings, unit):
    """A forward pass is a third of a training step."""
    return len(settings["rates"]) * unit.config.test_images / 3


@rows_of("usable_pruning", "dense", "dead", "usable_sparsity", "accuracy", "kept")
def frame(again, run):
    """One row per rate (0: dense) of the usable weights, `kept` of them left; without dead ones the curve of all."""
    name = "usable_pruning" if again["dead"] else "pruning"
    source = run.result(name)
    points = {source["rates"][i]: source["test_accuracy"][i] for i in run.places(name, source["rates"])}
    points[0.0] = dense = run.summary["test_accuracy"]
    about = {"dense": dense, "dead": again["dead"] / (again["dead"] + again["usable"])}
    for rate in sorted(points):
        kept = round((1 - rate) * again["usable"])
        yield about | {"usable_sparsity": rate, "accuracy": points[rate], "kept": kept}


ANALYSIS = Analysis("usable_pruning", "run", settings, compute, frame, cost)
