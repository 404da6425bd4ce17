"""Live figures for a static page: inline SVG and plain JavaScript, no kernel, no network."""

import importlib.resources
import json


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
    web = importlib.resources.files("rfkit") / "web"
    html, css, script = ((web / f"explorer.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    script = script.replace("__PRESETS__", json.dumps(explorer_presets()))
    page = f"<style>{css}</style>{html}<script>{script}</script>"
    return Html(page.replace("__ID__", element_id))
