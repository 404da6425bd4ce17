"""Live figures for a static page: inline SVG and plain JavaScript, no kernel, no network."""

import base64
import importlib.resources
import io
import json

import numpy as np
from IPython.display import HTML
from PIL import Image

from rfkit import experiments
from rfkit.report.plots import level_style
from rfkit.tables import label, reference

DASHES = {"-": "", "--": "8 4", "-.": "8 3 2 3", ":": "2 3", (0, (3, 1, 1, 1)): "6 2 2 2", (0, (5, 1)): "10 2"}
"""Line styles of matplotlib as SVG has them."""


def network_link(layers, image_px=32):
    """A network as the explorer's address carries it."""
    words = (f"{kind[0]}{kernel}s{stride}d{dilation}p{padding}" for kind, kernel, stride, dilation, padding in layers)
    return f"net={'-'.join(words)}&px={image_px}"


def explorer_presets():
    """Networks the explorer starts with."""
    presets = {
        "homework: three convolutions": network_link([("conv", 3, 1, 1, 0)] * 3, 32),
        "homework: with strides": network_link([("conv", 3, 2, 1, 0), ("conv", 3, 2, 1, 0), ("conv", 3, 1, 1, 0)], 32),
        "blind spots: stride > kernel": network_link([("conv", 2, 4, 1, 0), ("conv", 2, 1, 1, 0)], 24),
    }
    for architecture, name in (("vgg19", "VGG19-like"), ("resnet50", "ResNet50 (3×3 path)")):
        for level in (1, 2, 3, 4):
            presets[f"{name}, level {level}"] = network_link(layers_of(architecture, level), 32)
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


def explorer():
    """The receptive-field explorer: edit a chain of layers, point at a unit, see its field on the image."""
    return _page("explorer", PRESETS=explorer_presets(), PHOTO=_photograph(64))


STEPS = {
    "X": [[1, 0, 2, 3, 1], [4, 1, 0, 2, 5], [2, 3, 6, 1, 0], [0, 5, 1, 4, 2], [3, 1, 2, 0, 7]],
    "W": [[1, 0, -1], [2, 1, 0], [0, -1, 1]],
    "G": [[1, -1, 2, 0, 1], [0, 3, 1, -2, 1], [2, 1, -1, 1, 0], [1, 0, 2, 1, -1], [-1, 2, 0, 1, 1]],
}
"""A map, a kernel and upstream gradients, small enough for mental arithmetic."""


def stepper():
    """A convolution or max-pool of `STEPS`, cell by cell: what an output reads, and what its gradient touches."""
    return _page("stepper", **STEPS)


def _page(name, **values):
    """A widget's three files in one, with values in place of their names in capitals."""
    web = importlib.resources.files("rfkit.report") / "web"
    parts = [web / f"{name}.html", web / f"{name}.css", web / "common.js", web / f"{name}.js"]
    html, css, common, script = (part.read_text(encoding="utf-8") for part in parts)
    for key, value in values.items():
        # "</" would end the script
        script = script.replace(f"__{key}__", json.dumps(value).replace("</", "<\\/"))
    return HTML(f"<style>{css}</style>{html}<script>{common}{script}</script>".replace("__ID__", f"rfkit-{name}"))


PHOTO = ("flower.jpg", (100, 0, 527, 427))
"""One of scikit-learn's sample images, by vultilion on Flickr, CC BY 2.0; and the square that is shown of it."""


def knob(runs):
    """The live figure of the book: level and pruning rate as sliders; field, maps, kernel and accuracy follow.

    Panels and curves whose analyses the runs lack are left out.
    """
    return _page("knob", NETWORKS=knob_networks(runs), PHOTO=_photograph(32))


def knob_networks(runs):
    """What the live figure draws: of every network and level means over its seeds."""
    cells, networks = {}, {}
    for run in runs:
        cells.setdefault((run.provenance["data"]["label"], run.config.architecture, run.config.level), []).append(run)
    for (data, architecture, level), seeds in sorted(cells.items()):
        config = seeds[0].config
        about = {
            "name": label(architecture), "data": data, "px": config.image_size,
            "chance": round(100 / config.num_classes, 2), "levels": [],
        }  # fmt: skip
        drawn = _level(level, seeds) | {"paper": _printed(config, experiments.paper_dataset(config))}
        networks.setdefault((data, architecture), about)["levels"].append(drawn)
    return sorted(networks.values(), key=lambda each: (each["data"], each["name"] != "VGG19-like"))


def _level(level, seeds):
    field = seeds[0].summary["field_px"]
    color, marker, dash = level_style(level).values()
    pruned = seeds[0].result("pruning")
    taps, used = experiments.frame("taps", seeds), experiments.frame("effective_fields", seeds)
    drawn = {
        "level": level, "name": f"level {level}" + (f" ({field:g} px)" if field else ""), "field": field,
        "maps": _sides_of_maps(seeds[0].config), "dead": 1 - sum(pruned["usable"]) / sum(pruned["prunable"]),
        "seeds": len(seeds), "rate": _curve("pruning", "pruning_rate", seeds),
        "usable": _curve("usable_pruning", "usable_sparsity", seeds), "color": color, "marker": marker,
        "dash": DASHES[dash],
    }  # fmt: skip
    if len(taps):
        last = taps[taps["place"] == taps["place"].max()].groupby(["row", "column"])[["seen", "kept"]].mean().round(3)
        drawn["taps"] = [row.to_dict("records") for _, row in last.groupby("row")]
    if len(used):
        final = used[used["stage"] == "final"]
        drawn["half"] = round(final[final["place"] == final["place"].max()]["half_px"].mean())
        found = (run.result("effective_fields") for run in seeds)
        pattern = np.mean([each["final_pattern"] for each in found if each and each["final"]], 0)
        shade = np.zeros((*pattern.shape, 4), np.uint8)
        shade[..., 3] = 255 * 0.85 * (1 - pattern / pattern.max())
        drawn["used"] = _address(Image.fromarray(shade))
    return drawn


def _curve(analysis, rate, seeds):
    """Means of (rate, accuracy) over the seeds; dense first."""
    means = experiments.frame(analysis, seeds).groupby(rate)["accuracy"].mean().round(2)
    return [list(point) for point in means.items()]


def _printed(config, dataset):
    """The paper's (rate, accuracy) of a cell, dense first."""
    cell = "architecture == @config.architecture and rf_level == @config.level and dataset == @dataset"
    rows = reference().query(f"fine_tuned == 0 and {cell}")
    pruned = rows[rows["metric"] == "pruned_accuracy"].drop_duplicates("pruning_rate").sort_values("pruning_rate")
    dense = rows[rows["metric"] == "dense_accuracy"]["mean"].head(1)
    return [[0.0, value] for value in dense] + pruned[["pruning_rate", "mean"]].to_numpy().tolist()


def _sides_of_maps(config):
    """Side of the map of every convolution with a kernel, shortcuts left out."""
    from torch import nn

    from rfkit import models, pruning

    def sides(model):
        made = pruning.maps(model, (3, config.image_size, config.image_size)).items()
        convs = {name: each for name, each in made if isinstance(each[0], nn.Conv2d) and each[0].kernel_size[0] > 1}
        return [after[-1] for name, (_, calls) in convs.items() if "shortcut" not in name for _, after in calls]

    return models.without_weights(sides, **config.network)


def _photograph(side):
    """A real photograph, as small as the images of the study."""
    from sklearn.datasets import load_sample_image

    name, square = PHOTO
    photo = Image.fromarray(load_sample_image(name)).crop(square)
    return _address(photo.resize((side, side), Image.Resampling.LANCZOS))


def _address(image):
    """A small image as an address that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
