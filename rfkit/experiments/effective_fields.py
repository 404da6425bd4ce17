"""Analysis: how much of its receptive field each layer uses, before and after training."""

import math

import numpy as np

import rfkit
from rfkit.experiments.analysis import Analysis, inside_block, rows_of
from rfkit.experiments.networks import at_stage


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return {"images": 32, "calibration_images": 1000, "version": 1}


def compute(run, settings, work):
    """Effective field of the middle unit of every activation over test images, and the pattern of the last one.

    Source: Luo et al. (2016).
    """
    from torch import nn

    data = work.data
    few = data.sample(1, settings["images"]).test_images
    result = {}
    for stage in ("init", "final"):
        model = at_stage(run, stage, data, settings["calibration_images"])
        images = rfkit.training.model_inputs(model, few)
        fields = {field.name: field for field in rfkit.receptive_field.trace(model, tuple(images.shape[1:]))}
        last = {name.partition("#")[0]: name for name in fields}  # a module that runs twice counts by its last call
        relus = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU) and name in last]
        layers = []
        for name in map(last.get, relus):
            field = rfkit.receptive_field.effective(model, name, images=images)
            layers.append({
                "name": name, "map": fields[name].shape[-1], "field_px": float(min(max(field.size), 1e9)),
                "half_px": field.side_px(0.5), "most_px": field.side_px(0.9), "border": _border(field.pattern),
            })  # fmt: skip
        result[stage] = layers
        if layers:
            result[f"{stage}_pattern"] = np.asarray(field.pattern / (field.pattern.max() or 1), dtype=np.float32)
    return result


def _border(pattern):
    """Mean of the outermost pixels over the mean of all: 1 where the border counts like any other pixel."""
    inner = pattern[1:-1, 1:-1].sum()
    outer = (pattern.sum() - inner) / (pattern.size - (pattern.shape[0] - 2) * (pattern.shape[1] - 2))
    return float(outer / pattern.mean()) if pattern.any() else math.nan


@rows_of("effective_fields")
def frame(found, run):
    """One row per stage and layer (place: from 1): half_px and most_px hold half and nine tenths of the gradient."""
    for stage in ("init", "final"):
        for place, layer in enumerate(found[stage], start=1):
            about = {"stage": stage, "layer": layer["name"], "inside": inside_block(layer["name"])}
            about |= {"place": place, "image_px": run.config.image_size}
            sizes = {name: layer[name] for name in ("map", "half_px", "most_px", "border")}
            yield about | {"layer_field_px": layer["field_px"]} | sizes


ANALYSIS = Analysis("effective_fields", "run", settings, compute, frame, planned=False, on_cpu=True)
