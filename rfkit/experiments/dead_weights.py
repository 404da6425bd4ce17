"""Analysis: how many weights cannot change the output, by geometry alone, at the paper's full width."""

import pandas as pd

from rfkit.experiments.analysis import Analysis

IMAGE_PX = (32, 64)


def settings(preset):
    """Both image sizes of the paper, for a preset's networks and levels; it needs no data set."""
    return [
        ({"architecture": name, "level": level, "width": 1.0, "image_px": px}, None)
        for name in preset.architectures
        for level in preset.levels
        for px in IMAGE_PX
    ]


def compute(_, settings, work):
    """The prunable weights, and those of them on a path from a pixel to the output."""
    from rfkit import models, pruning

    model = models.build(settings["architecture"], settings["level"], width=settings["width"]).eval()
    side = settings["image_px"]
    prunable, usable = pruning.counts(pruning.usable_weights(model, (3, side, side)))
    return {"prunable": prunable, "usable": usable}


def frame(results):
    """Dead weights by geometry.

    Returns:
        Data frame, one row a network, level and image size: architecture, rf_level, image_px, width, prunable, usable,
        dead (share of the prunable weights).
    """
    rows = [
        {"architecture": s["architecture"], "rf_level": s["level"], "image_px": s["image_px"], "width": s["width"]}
        | {"prunable": v["prunable"], "usable": v["usable"], "dead": 1 - v["usable"] / v["prunable"]}
        for s, v in ((each["settings"], each["values"]) for each in results)
    ]
    return pd.DataFrame(rows, columns=["architecture", "rf_level", "image_px", "width", "prunable", "usable", "dead"])


ANALYSIS = Analysis(
    "dead_weights", "network", settings, compute, frame, lambda settings, data: 5, planned=False, on_cpu=True
)
