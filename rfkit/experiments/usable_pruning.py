"""Analysis: accuracy at rates of the usable weights, the dead ones set to zero before."""

import copy

from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.presets import NEVER_PRUNED

PROBED_IMAGES = 512
"""Of the test set, on which the outputs are compared with and without dead weights."""


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return {"method": "global_magnitude", "exclude": list(NEVER_PRUNED), "rates": list(preset.rates)}


def compute(run, settings, work):
    """Without dead weights only their number, 0: the curve is that of all weights then."""
    import torch

    from rfkit import pruning, training
    from rfkit.experiments.networks import at_stage

    data, rates = work.data, settings["rates"]
    model = at_stage(run, "final", data).to(work.device, memory_format=torch.channels_last)
    usable = pruning.usable_weights(model, (3, data.image_size, data.image_size))
    total, kept = pruning.counts(usable)
    result = {"usable": kept, "dead": total - kept}
    if kept == total:
        return result
    images = data.sample(1, PROBED_IMAGES).test_images
    before = torch.cat(list(training.outputs(model, images)))
    pruning.apply_masks(model, usable)
    change = float((torch.cat(list(training.outputs(model, images))) - before).abs().max())
    dense, accuracies = copy.deepcopy(model.state_dict()), []
    for rate in rates:
        model.load_state_dict(dense)
        share = (total - kept + round(rate * kept)) / total  # the dead ones go first: they are zero
        pruning.prune(model, share, settings["method"], exclude=settings["exclude"])
        accuracies.append(training.evaluate(model, data.test_images, data.test_labels))
    return result | {"rates": rates, "test_accuracy": accuracies, "largest_change": change}


def cost(settings, unit):
    """A forward pass is a third of a training step."""
    return len(settings["rates"]) * unit.config.test_images / 3


@rows_of("usable_pruning", "dense", "dead", "usable_sparsity", "accuracy", "kept")
def frame(again, run):
    """A row a rate (0: dense) of the usable weights, of which `kept` are left; without dead ones the curve of all."""
    name = "usable_pruning" if again["dead"] else "pruning"
    source = run.result(name)
    points = {source["rates"][i]: source["test_accuracy"][i] for i in run.places(name, source["rates"])}
    points[0.0] = dense = run.summary["test_accuracy"]
    about = {"dense": dense, "dead": again["dead"] / (again["dead"] + again["usable"])}
    for rate in sorted(points):
        kept = round((1 - rate) * again["usable"])
        yield about | {"usable_sparsity": rate, "accuracy": points[rate], "kept": kept}


ANALYSIS = Analysis("usable_pruning", "run", settings, compute, frame, cost)
