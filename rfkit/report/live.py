"""Live figures for a static page: inline SVG and plain JavaScript, no kernel, no network."""

import base64
import importlib.resources
import io
import json

import numpy as np
from PIL import Image

from rfkit.report.styles import LEVEL_STYLE, OTHER_LEVELS
from rfkit.tables import ARCHITECTURE_LABELS

DASHES = {"-": "", "--": "8 4", "-.": "8 3 2 3", ":": "2 3"}
"""Line styles of matplotlib as SVG has them."""


class Html:
    """HTML for Jupyter and the book."""

    def __init__(self, content):
        self.content = content

    def _repr_html_(self):
        return self.content


def network_link(layers, image_px=32):
    """A network as the explorer's address carries it."""
    words = (f"{kind[0]}{kernel}s{stride}d{dilation}p{padding}" for kind, kernel, stride, dilation, padding in layers)
    return f"net={'-'.join(words)}&px={image_px}"


def explorer_presets():
    """Networks the explorer starts with."""
    presets = {
        "homework: three convolutions": network_link([("conv", 3, 1, 1, 0)] * 3, 16),
        "homework: with strides": network_link([("conv", 3, 2, 1, 0), ("conv", 3, 2, 1, 0), ("conv", 3, 1, 1, 0)], 32),
        "blind spots: stride > kernel": network_link([("conv", 2, 4, 1, 0), ("conv", 2, 1, 1, 0)], 24),
    }
    for level in (1, 2, 3, 4):
        presets[f"VGG19-like, level {level}"] = network_link(layers_of("vgg19", level), 32)
    for level in (1, 2, 3, 4):
        presets[f"ResNet50 (3×3 path), level {level}"] = network_link(layers_of("resnet50", level), 32)
    return presets


def layers_of(architecture, level):
    """The layers of one of the paper's networks that make its field: no 1x1 convolutions, no shortcuts."""
    from torch import nn

    from rfkit import models

    network, found = models.build(architecture, level, width=1 / 64), []
    for name, module in network.features.named_modules():
        kernel, stride, padding = (getattr(module, key, 0) for key in ("kernel_size", "stride", "padding"))
        if isinstance(module, nn.MaxPool2d):
            found.append(("pool", kernel, stride, 1, padding))
        elif isinstance(module, nn.Conv2d) and kernel[0] > 1 and "shortcut" not in name:
            found.append(("conv", kernel[0], stride[0], module.dilation[0], padding[0]))
    return found


def explorer(element_id="rf-explorer"):
    """The receptive-field explorer: edit a chain of layers, point at a unit, see its field on the image."""
    return _page("explorer", element_id, PRESETS=explorer_presets())


def _page(name, element_id, **values):
    """A widget's three files in one, with values in place of their names in capitals."""
    web = importlib.resources.files("rfkit.report") / "web"
    html, css, script = ((web / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    for key, value in values.items():
        # "</" would end the script
        script = script.replace(f"__{key}__", json.dumps(value).replace("</", "<\\/"))
    return Html(f"<style>{css}</style>{html}<script>{script}</script>".replace("__ID__", element_id))


def pruning_curves(frame):
    """What the pruning explorer draws: mean accuracy at every measured rate."""
    networks = []
    for (data, architecture), cells in frame.groupby(["data_label", "architecture"], sort=False):
        levels = []
        for level, part in cells.groupby("rf_level"):
            means = part.groupby("pruning_rate")[["accuracy", "usable_sparsity"]].mean()
            color, marker, dash = LEVEL_STYLE.get(level, OTHER_LEVELS)
            px = part["field_px"].iloc[0]
            name = f"level {level}" + (f" ({px:g} px)" if px == px else "")  # not for fields that are not known
            levels.append({
                "name": name, "level": int(level), "rate": means.index.tolist(),
                "usable": means["usable_sparsity"].round(4).tolist(), "accuracy": means["accuracy"].round(2).tolist(),
                "color": color, "marker": marker, "dash": DASHES.get(dash, "4 2"),
            })  # fmt: skip
        label = ARCHITECTURE_LABELS.get(architecture, architecture)
        chance = round(float(cells["chance"].iloc[0]), 2)
        networks.append({"name": label, "architecture": architecture, "data": data, "chance": chance, "levels": levels})
    return networks


def pruning_explorer(frame, projected=(), element_id="pruning-explorer"):
    """The pruning explorer: a slider for the rate, a curve a level, all weights or usable ones, and the pixels seen."""
    patterns = {
        settings["architecture"]: dict(
            zip(map(str, settings["levels"]), map(_picture, values["patterns"]), strict=True)
        )
        for settings, values in ((each["settings"], each["values"]) for each in projected)
        if settings["variant"] == "true"
    }
    return _page("pruning", element_id, NETWORKS=pruning_curves(frame), PATTERNS=patterns)


def _picture(pattern):
    """A pattern as the address of a small image, its brightest pixel white."""
    values = np.uint8(255 * pattern / pattern.max())
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
