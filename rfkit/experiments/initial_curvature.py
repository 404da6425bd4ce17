"""Analysis: what makes the loss of an untrained network curved: the largest eigenvalue under one change at a time."""

import pandas as pd

import rfkit
from rfkit.config import one_of
from rfkit.data import COPIES
from rfkit.experiments import networks
from rfkit.experiments.analysis import Analysis
from rfkit.presets import CONTRAST_NETS

CHANGES = {
    **{f"level {level}": ("vgg19", level, None) for level in (1, 2, 3, 4)},
    "level 3, third pool open": (CONTRAST_NETS + "open_third_pool", 3, None),
    "level 1, centre taps": (CONTRAST_NETS + "centre_taps", 1, None),
    "level 1, maps averaged to 1×1": ("vgg19", 1, "average"),
    "level 1, maps cut to their centre": ("vgg19", 1, "centre"),
    **{f"level {level}, one position read": ("vgg19", level, "read one") for level in (1, 2)},
    **{f"level {level}, image enlarged": (CONTRAST_NETS + "enlarged", level, None) for level in (2, 4)},
    "level 1, dilated": (CONTRAST_NETS + "dilated", 1, None),
    **{f"ResNet50, level {level}": ("resnet50", level, None) for level in (1, 2, 3, 4)},
    "ResNet50, level 1, maps averaged to 1×1": ("resnet50", 1, "average"),
    "ResNet50, level 1, maps cut to their centre": ("resnet50", 1, "centre"),
    **{f"ResNet50, level {level}, one position read": ("resnet50", level, "read one") for level in (1, 3)},
    **{f"ResNet50, level {level}, image enlarged": ("resnet50", level, "enlarge") for level in (2, 4)},
    "ResNet50, level 1, dilated": ("resnet50", 1, "dilate"),
}
"""Networks by their change: architecture, level, and what is done to the image, to ResNet50's first stages, to the last
maps (``"read one"``), or to the maps before the last eight convolutions or before ResNet50's last stage."""
DILATIONS = {
    "layer1.0.conv2": 14, "layer1.1.conv2": 14, "layer1.2.conv2": 14, "layer2.0.conv2": 8, "layer2.1.conv2": 4,
}  # fmt: skip
"""Of the 3x3 convolutions of ResNet50's first blocks: the field of level 2, but for a pixel, on the maps of level 1."""


def settings(preset, *, widths=(1 / 8, 1.0), seeds=None, changes=tuple(CHANGES)):
    """Both networks and their changes, untrained, on the preset's first data set."""
    usual = {"images": 128, "calibration_images": 1000, "tol": 0.01, "version": 1}
    return [
        ({"change": change, "seed": seed, "width": width} | usual, preset.datasets[0])
        for width in widths
        for seed in (seeds or (range(3) if width == 1 else range(6)))
        for change in changes
    ]


def to_one(x, how):
    """A map as one position: its mean, or its centre, so that no unit sees more than before."""
    if how == "average":
        return x.mean((2, 3), keepdim=True)
    return x[:, :, x.shape[2] // 2, x.shape[3] // 2, None, None]


def network(settings, data):
    """The changed network, batch norm calibrated after the change, in evaluation mode."""
    from torch.nn.functional import interpolate

    architecture, level, how = CHANGES[one_of("change", settings["change"], tuple(CHANGES))]
    options = {"width": settings["width"], "num_classes": data.num_classes, "seed": settings["seed"]}
    model = rfkit.models.seeded_build(architecture, level, **options)
    if how == "read one":  # the last maps stay; the classifier has one position of them instead of the mean
        model.pool.register_forward_pre_hook(lambda _, maps: to_one(maps[0], "centre"))
    elif how == "enlarge":  # as many times as the level pool shrinks it
        model.features.register_forward_pre_hook(lambda _, x: interpolate(x[0], scale_factor=level, mode="bilinear"))
    elif how == "dilate":
        rfkit.contrast_nets.dilate(model.features, DILATIONS)
    elif how is not None:
        before = model.features.get_submodule("pool3" if architecture == "vgg19" else "layer3")
        before.register_forward_hook(lambda _, __, out: to_one(out, how))
    return networks.calibrated(model, data, settings["calibration_images"])


def compute(_, settings, work):
    """The largest eigenvalue."""
    import torch

    model, few = network(settings, work.data), work.data.sample(settings["images"])
    top = rfkit.hessian.top_eigenvalues(model, few.train_images, few.train_labels, 1, tol=settings["tol"], basis=24)
    with torch.inference_mode():
        maps = model.features(rfkit.training.model_inputs(model, few.train_images[:2]))
    return {"largest": float(top.values[0]), "products": top.products, "map": maps.shape[-1]}


def seconds(settings, _):
    """A product costs two training steps on each image."""
    return 60 * 2 * settings["images"] * 1e-3 * (8 * settings["width"]) ** 2


def about(stored):
    """What a stored result was measured on, as the first columns of a frame; changed is what was done to the maps."""
    settings, data = stored["settings"], stored["provenance"]["data"]
    row = dict(zip(("architecture", "rf_level", "changed"), CHANGES[settings["change"]], strict=True))
    row |= {name: settings[name] for name in ("change", "seed", "width")}
    return row | {"data_label": data["label"], "paper_dataset": COPIES.get(data["name"], data["name"])}


def frame(results):
    """The largest eigenvalue of each network."""
    rows = [about(each) | {name: each["values"][name] for name in ("map", "largest")} for each in results]
    columns = ["architecture", "rf_level", "changed", "change", "seed", "width", "data_label", "paper_dataset"]
    return pd.DataFrame(rows, columns=[*columns, "map", "largest"])


ANALYSIS = Analysis("initial_curvature", "network", settings, compute, frame, seconds, planned=False, on_cpu=True)
