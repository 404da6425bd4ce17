"""Analysis: how many weights geometry leaves idle at the paper's full width: dead, starved, or beyond the image."""

import pandas as pd

import rfkit
from rfkit.experiments.analysis import Analysis, of_source
from rfkit.presets import CONTRAST_CELLS

IMAGE_PX = (32, 64)


def settings(preset):
    """A preset's networks and levels at both image sizes of the paper, and the contrasts' at 32; no data set."""
    cells = [(name, level, px) for name in preset.architectures for level in preset.levels for px in IMAGE_PX]
    cells += [(*cell, IMAGE_PX[0]) for cell in CONTRAST_CELLS]
    return [
        ({"architecture": name, "level": level, "width": 1.0, "image_px": px, "version": 2} | of_source(name), None)
        for name, level, px in cells
    ]


def compute(_, settings, work):
    """How many prunable weights lie on a path from a pixel to the output, and how much of their map they meet."""
    return counted(rfkit.models.build(settings["architecture"], settings["level"], width=settings["width"]), settings)


def counted(model, settings):
    """Prunable and usable weights; those that padding leaves over; those whose layer already sees the whole image.

    A weight meets a pixel at a share of the positions of its map and padding at the others. ``met`` adds up these
    shares; `Richter et al. <https://arxiv.org/abs/2106.12307>`_ call layers ``beyond`` the image unproductive.
    """
    side, met, beyond = settings["image_px"], 0.0, 0
    shape, modules = (3, side, side), dict(model.eval().named_modules())
    usable, seen = rfkit.pruning.usable_weights(model, shape), rfkit.pruning.tap_utilisation(model, shape)
    fields = {field.name: field for field in rfkit.receptive_field.trace(model, shape)}
    for name, mask in usable.items():
        layer = name.removesuffix(".weight")
        if name not in seen or layer not in fields:  # linear, or a convolution of the mean: it meets no padding
            met, beyond = met + float(mask.sum()), beyond + mask.numel()
            continue
        met += float((mask * seen[name]).sum())
        conv, field = modules[layer], fields[layer]
        step = field.stride[0] / conv.stride[0]  # between the units that the convolution reads
        beyond += mask.numel() * (field.size[0] - (conv.kernel_size[0] - 1) * conv.dilation[0] * step >= side)
    prunable, kept = rfkit.pruning.counts(usable)
    return {"prunable": prunable, "usable": kept, "met": round(met), "beyond": beyond}


def frame(results):
    """One row per network, level and image size: dead, starved and beyond are shares of the prunable weights."""
    rows = [
        {"architecture": s["architecture"], "rf_level": s["level"], "image_px": s["image_px"], "width": s["width"]}
        | {"prunable": v["prunable"], "usable": v["usable"], "dead": 1 - v["usable"] / v["prunable"]}
        | {"starved": 1 - v["met"] / v["prunable"], "beyond": v["beyond"] / v["prunable"]}
        for s, v in ((each["settings"], each["values"]) for each in results)
    ]
    columns = ["architecture", "rf_level", "image_px", "width", "prunable", "usable", "dead", "starved", "beyond"]
    return pd.DataFrame(rows, columns=columns)


ANALYSIS = Analysis(
    "dead_weights", "network", settings, compute, frame, lambda settings, data: 5, planned=False, on_cpu=True
)
