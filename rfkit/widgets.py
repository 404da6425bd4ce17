"""Live figures for a static page: inline SVG and plain JavaScript, no kernel, no network."""

import base64
import importlib.resources
import io
import json

import numpy as np
from PIL import Image

from rfkit.styles import LEVEL_STYLE, OTHER_LEVELS
from rfkit.tables import ARCHITECTURE_LABELS

DASHES = {"-": "", "--": "8 4", "-.": "8 3 2 3", ":": "2 3"}
"""Line styles of matplotlib as SVG has them."""


class Html:
    """HTML for Jupyter and the book.

    Args:
        content: The HTML.
    """

    def __init__(self, content):
        self.content = content

    def _repr_html_(self):
        return self.content


def network_link(layers, image_px=32):
    """A network as the explorer's address carries it.

    Args:
        layers: (kind, kernel, stride, dilation, padding) of each layer; kind is ``"conv"`` or ``"pool"``.
        image_px: Size of the image.

    Returns:
        Text such as ``net=c3s1d1p1-p2s2d1p0&px=32``.
    """
    words = (f"{kind[0]}{kernel}s{stride}d{dilation}p{padding}" for kind, kernel, stride, dilation, padding in layers)
    return f"net={'-'.join(words)}&px={image_px}"


def _level_pool(level):
    return "pool", level + 1, level, 1, min(1, level - 1)


def _vgg19(level):
    conv, pool = ("conv", 3, 1, 1, 1), ("pool", 2, 2, 1, 0)
    return [conv, _level_pool(level), conv, pool, conv, conv, pool, *[conv] * 4, pool, *[conv] * 8]


def _resnet50(level):
    """The 3x3 convolutions: 1x1 convolutions and shortcuts add nothing to the field."""
    conv, halving = ("conv", 3, 1, 1, 1), ("conv", 3, 2, 1, 1)
    return [conv, _level_pool(level), *[conv] * 3, halving, *[conv] * 3, halving, *[conv] * 5, halving, conv, conv]


def explorer_presets():
    """Networks the explorer starts with.

    Returns:
        Mapping of a name to `network_link`: the homework's toy network and the paper's two at each level.
    """
    presets = {
        "homework: three convolutions": network_link([("conv", 3, 1, 1, 0)] * 3, 16),
        "homework: with strides": network_link([("conv", 3, 2, 1, 0), ("conv", 3, 2, 1, 0), ("conv", 3, 1, 1, 0)], 32),
        "blind spots: stride > kernel": network_link([("conv", 2, 4, 1, 0), ("conv", 2, 1, 1, 0)], 24),
    }
    for level in (1, 2, 3, 4):
        presets[f"VGG19-like, level {level}"] = network_link(_vgg19(level), 32)
    for level in (1, 2, 3, 4):
        presets[f"ResNet50 (3×3 path), level {level}"] = network_link(_resnet50(level), 32)
    return presets


def explorer(element_id="rf-explorer"):
    """The receptive-field explorer: edit a chain of layers, point at a unit, see its field on the image.

    Args:
        element_id: Id of the element, unique on its page.

    Returns:
        `Html` that works from a file, offline, by mouse, touch and keyboard.
    """
    return _page("explorer", element_id, PRESETS=explorer_presets())


def _page(name, element_id, **values):
    """A widget's three files in one, with values in place of their names in capitals."""
    web = importlib.resources.files("rfkit") / "web"
    html, css, script = ((web / f"{name}.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    for key, value in values.items():
        # "</" would end the script
        script = script.replace(f"__{key}__", json.dumps(value).replace("</", "<\\/"))
    return Html(f"<style>{css}</style>{html}<script>{script}</script>".replace("__ID__", element_id))


def pruning_curves(frame):
    """What the pruning explorer draws: mean accuracy at every measured rate.

    Args:
        frame: As made by `rfkit.outcomes.accuracies`.

    Returns:
        List of mappings, one a network and data set: name, architecture, data, chance (percent) and levels, each with
        name, level, rate, usable (fractions), accuracy (percent) and its style.
    """
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


def pruning(frame, projected=None, element_id="pruning-explorer"):
    """The pruning explorer: a slider for the rate, a curve a level, all weights or usable ones, and the pixels seen.

    Args:
        frame: As made by `rfkit.outcomes.accuracies`.
        projected: As made by `rfkit.importance_records.recorded`; its true gradients are shown beside the curves.
        element_id: Id of the element, unique on its page.

    Returns:
        `Html` that works from a file, offline, by mouse, touch and keyboard.
    """
    patterns = {
        setting.architecture: dict(zip(map(str, setting.levels), map(_picture, found[1]), strict=True))
        for setting, found in (projected or {}).items()
        if setting.variant == "true"
    }
    return _page("pruning", element_id, NETWORKS=pruning_curves(frame), PATTERNS=patterns)


def _picture(pattern):
    """A pattern as the address of a small image, its brightest pixel white."""
    values = np.uint8(255 * pattern / pattern.max())
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
