"""Analysis: how much of its receptive field each layer uses, before and after training."""

import numpy as np
import pandas as pd

from rfkit.experiments.analysis import Analysis


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return {"images": 32, "calibration_images": 1000, "version": 1}


def compute(run, settings, work):
    """Effective field of the middle unit of every activation over test images; of the last one, its pattern.

    Source: Luo et al. (2016).
    """
    from torch import nn

    from rfkit import receptive_field, training
    from rfkit.experiments.networks import at_stage

    data = work.data
    few = data.sample(1, settings["images"]).test_images
    result = {}
    for stage in ("init", "final"):
        model = at_stage(run, stage, data, settings["calibration_images"])
        images = training.model_inputs(model, few)
        fields = {field.name: field for field in receptive_field.trace(model, (3, data.image_size, data.image_size))}
        names = [name for name, module in model.named_modules() if isinstance(module, nn.ReLU) and name in fields]
        layers = []
        for name in names:
            # of a module that runs twice, the last time
            name = next((f"{name}#{call}" for call in (3, 2) if f"{name}#{call}" in fields), name)
            field = receptive_field.effective(model, name, images=images)
            layers.append({
                "name": name, "map": fields[name].shape[-1], "field_px": float(min(max(field.size), 1e9)),
                "half_px": field.side_px(0.5), "most_px": field.side_px(0.9), "border": _border(field.pattern),
            })  # fmt: skip
        result[stage] = layers
        result[f"{stage}_pattern"] = np.asarray(field.pattern / field.pattern.max(), dtype=np.float32)
    return result


def _border(pattern):
    """Mean of the outermost pixels over the mean of all: 1 where the border counts like any other pixel."""
    inner = pattern[1:-1, 1:-1].sum()
    outer = (pattern.sum() - inner) / (pattern.size - (pattern.shape[0] - 2) * (pattern.shape[1] - 2))
    return float(outer / pattern.mean())


def cost(settings, unit):
    """About forty layers, in float64, twice."""
    return 2 * 40 * 3 * settings["images"]


def frame(runs):
    """Effective field of every activation.

    Args:
        runs: List of `Run`; those without this analysis are left out.

    Returns:
        Data frame, one row a run, stage and layer: the columns of a run, stage (``init`` or ``final``), layer, place
        (from 1), map (side), layer_field_px, image_px, half_px and most_px (side of the smallest square around the
        middle with half and nine tenths of the gradient), border (mean gradient of the outermost pixels over that of
        all).
    """
    from rfkit.experiments.finding import describe

    rows = []
    for run in runs:
        found = run.result("effective_fields")
        for stage in ("init", "final") if found else ():
            for place, layer in enumerate(found[stage], start=1):
                about = {"stage": stage, "layer": layer["name"], "place": place, "image_px": run.config.image_size}
                sizes = {name: layer[name] for name in ("map", "half_px", "most_px", "border")}
                rows.append(describe(run) | about | {"layer_field_px": layer["field_px"]} | sizes)
    return pd.DataFrame(rows)


def mean_patterns(runs):
    """Mean pattern of the last activation after training over the seeds, by (architecture, level)."""
    found = {}
    for run in runs:
        result = run.result("effective_fields")
        if result:
            cell = run.config.architecture, run.config.level
            found.setdefault(cell, []).append(np.asarray(result["final_pattern"]))
    return {cell: np.mean(each, 0) for cell, each in found.items()}


ANALYSIS = Analysis("effective_fields", "run", settings, compute, frame, cost, planned=False, on_cpu=True)
