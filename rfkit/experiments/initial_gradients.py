"""Analysis: how large the gradient of the loss is after each layer of an untrained network, one change at a time."""

import pandas as pd

import rfkit
from rfkit.experiments import initial_curvature
from rfkit.experiments.analysis import Analysis


def settings(preset, **chosen):
    """The networks of the analysis ``initial_curvature``."""
    planned = initial_curvature.settings(preset, **chosen)
    return [({name: each[name] for name in each if name != "tol"}, dataset) for each, dataset in planned]


def compute(_, settings, work):
    """Norm of an image's gradient with respect to the output of each ReLU, root mean square over the images."""
    import torch
    from torch import nn

    model, few, squares = initial_curvature.network(settings, work.data), work.data.sample(settings["images"]), {}
    relus = {name: each for name, each in model.named_modules() if isinstance(each, nn.ReLU)}

    def keep(name, _, out):
        out.register_hook(lambda gradient: squares.setdefault(name, []).append(gradient.square().flatten(1).sum(1)))

    with rfkit.training.watched(relus, keep):
        for begin in range(0, settings["images"], 32):  # as many images as fit in memory with all their maps
            part = slice(begin, begin + 32)
            logits = model(rfkit.training.model_inputs(model, few.train_images[part]))
            nn.functional.cross_entropy(logits, torch.from_numpy(few.train_labels[part]), reduction="sum").backward()
    return {"norms": {name: float(torch.cat(squares[name]).mean().sqrt()) for name in relus if name in squares}}


def seconds(settings, _):
    """A step on each image."""
    return settings["images"] * 1e-3 * (8 * settings["width"]) ** 2


def frame(results):
    """One row per layer (place: from 1): norm of the gradient with respect to its output."""
    return pd.DataFrame([
        initial_curvature.about(each) | {"layer": layer, "place": place, "norm": norm}
        for each in results
        for place, (layer, norm) in enumerate(each["values"]["norms"].items(), start=1)
    ])


ANALYSIS = Analysis("initial_gradients", "network", settings, compute, frame, seconds, planned=False, on_cpu=True)
