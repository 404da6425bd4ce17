"""Figures of pruning: which layers and taps, after fine-tuning, and the contrasts."""

import itertools
from fractions import Fraction

import matplotlib.pyplot as plt
import pandas as pd

from rfkit import outcomes, presets
from rfkit.report import plots


@plots.on_axes(height_in=3.4, image=True)
def plot_layer_sparsity(runs, *, title="", ax=None):
    """Which layers lose what at each pruning rate."""
    analyses = [run.result("pruning") for run in runs]
    places = [run.places("pruning", each["rates"]) for run, each in zip(runs, analyses, strict=True)]
    each = [pd.DataFrame(one["layer_sparsity"]).to_numpy()[where] for one, where in zip(analyses, places, strict=True)]
    mean = sum(each) / len(each)
    image = ax.imshow(mean.T, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    rates = [analyses[0]["rates"][i] for i in places[0]]
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], rotation=90, fontsize=9)
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set(title=title, xlabel="pruning rate", ylabel="layer")
    ax.figure.colorbar(image, ax=ax, fraction=0.05)


@plots.on_axes(1.6, 1.8, image=True)
def plot_taps(share, *, title="", ax=None):
    """How much of its map each tap of a kernel gets to see."""
    plots.heat_map(ax, share, "{:.0%}".format, fontsize=9)
    ax.set(title=title, xticks=[], yticks=[])


def plot_networks(found, *, ax=None):
    """The maps after the level pool of some networks, a square per convolution, orange where most of its taps are dead.

    `found` maps (architecture, level) to what `rfkit.contrast_nets.geometry` returns.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(plots.ALONE_IN, 0.42 * len(found)))[1]
    top, widest = 0, 0
    for cell, row in found.items():
        sides, left = row["sides"][1:], 0  # the first convolution is before the pool and the same in all
        for side, dead in zip(sides, row["dead_by_layer"][1:], strict=True):
            look = {"facecolor": "#D55E00"} if dead > 0.5 else {"facecolor": "#0072B2", "alpha": 0.6}
            drawn = max(side, 2.5)  # a map of one pixel would hardly be seen
            ax.add_patch(plt.Rectangle((left, top + 32 - drawn), drawn, drawn, **look))
            left += drawn + 2
        label = f"{presets.contrast_label(*cell)}: {row['field_px']:g} px"
        ax.annotate(label, (-4, top + 32), ha="right", va="bottom", fontsize=10, annotation_clip=False)
        top, widest = top + 37, max(widest, left)
    ax.set(xlim=(-2, widest), ylim=(top, -2), aspect="equal")
    ax.axis("off")
    return ax


@plots.on_axes(height_in=3.6)
def plot_contrasts(by_run, *, outcome="dense", ax=None):
    """The levels and the changed networks, one row each."""
    cells = {cell: part[outcome] for cell, part in by_run.groupby(["architecture", "rf_level"], sort=False)}
    cells = {cell: cells[cell] for cell in sorted(cells, key=_contrast_order)}
    for place, ((architecture, level), values) in enumerate(cells.items()):
        style = plots.level_style(level if architecture == presets.CONTRAST_NETWORK else 5)
        look = {"color": style["color"], "marker": style["marker"], "linestyle": "none"}
        ax.plot(values, [place] * len(values), alpha=0.35, markersize=5, **look)
        ax.plot([values.mean()], [place], markersize=8, **look)
    ax.set_yticks(range(len(cells)), [presets.contrast_label(*cell) for cell in cells], fontsize=9)
    ax.set(xlabel=presets.CONTRAST_OUTCOMES[outcome], ylim=(len(cells) - 0.5, -0.5))
    ax.locator_params(axis="x", nbins=5)


@plots.on_axes(height_in=4.2, below=True)
def plot_contrast_curves(frame, *, x="pruning_rate", ax=None):
    """Accuracy lost by pruning, one line per level or changed network."""
    lost = frame.assign(lost=frame["dense"] - frame["accuracy"]).groupby(["architecture", "rf_level"])
    for cell, part in sorted(lost, key=lambda group: _contrast_order(group[0])):
        mean = part.groupby(x)["lost"].mean()
        ax.plot(mean.index, mean, label=presets.contrast_label(*cell), **_contrast_style(*cell))
    ax.set(xlabel=plots.RATE_LABELS[x], ylabel="points of accuracy lost")


def plot_two_ways(first, second, ways):
    """Accuracy lost by networks that are pruned in one way and in another: a row per network, a line per level."""
    names, frames = first["architecture"].unique(), zip((first, second), ways, strict=True)
    axes = plots.beside(2, rows=len(names), height_in=3.2 * len(names), sharey=True)
    for (name, (frame, way)), ax in zip(itertools.product(names, frames), axes, strict=True):
        part = frame[frame["architecture"] == name]
        dense = part.groupby(outcomes.RUN)["accuracy"].transform("first")
        plot_contrast_curves(part.assign(dense=dense), ax=ax)
        ax.set_title(f"{plots.network_label(name)}, {way[0].lower()}{way[1:]}")
    return axes[0].figure


def _contrast_order(cell):
    """The levels, then the changed networks as the plan has them."""
    changed = cell in presets.CONTRAST_CELLS
    return changed, presets.CONTRAST_CELLS.index(cell) if changed else cell[1]


def _contrast_style(architecture, level):
    """The look of a level, or of a network changed in another way."""
    if (architecture, level) not in presets.CONTRAST_CELLS:
        return plots.level_style(level)
    i = presets.CONTRAST_CELLS.index((architecture, level))
    color = ("#CC79A7", "#56B4E9", "#888888", "#888888", "#888888", "#9C755F", "#8172B3")[i]
    line = {3: "--", 4: ":"}.get(i, "-")  # of the enlarged images
    return {"color": color, "linestyle": line, "marker": "xv^<>Pd"[i], "markersize": 5}


@plots.on_axes(height_in=3.6, below=True)
def plot_usable_rates(points, *, ax=None):
    """Points of accuracy lost by the author's networks, against the rate counted in weights that can matter."""
    for (level, source), part in points.groupby(["rf_level", "source"]):
        means, style = part.groupby("usable_rate")["gap"].mean(), plots.level_style(level)
        hollow = {"markerfacecolor": "none"} if source != "tables" else {}
        label = f"level {level}" + ("" if source == "tables" else ", 2024")
        ax.plot(means.index, means.clip(lower=0.01), label=label, markersize=6, linewidth=1.2, **style, **hollow)
    ax.set(xlabel="pruning rate of the usable weights", ylabel="points of accuracy lost", yscale="log", xlim=(0, 1))
    ax.yaxis.set_major_formatter("{x:g}")


@plots.on_axes(height_in=3.4, below=True)
def plot_kept_taps(taps, *, title="", ax=None):
    """How much of its weights each tap has kept, against the share of positions at which it meets a pixel."""
    for level, part in taps.groupby("rf_level"):
        means = part.groupby(["place", "seen"])["kept"].mean().reset_index()  # taps that see as much are alike
        style = plots.level_style(level) | {"linestyle": "none", "markersize": 4, "alpha": 0.6}
        ax.plot(means["seen"], means["kept"], label=f"level {level}", **style)
    ax.set(xlabel="share of positions with a pixel", ylabel="weight kept, of the centre's", title=title, ylim=(0, None))


@plots.on_axes(height_in=3.4)
def plot_starved(points, architecture, *, ax=None):
    """Breaking point against the share of weights that meet padding, for one network and its changes."""
    changes = presets.CONTRAST_CELLS if architecture == presets.CONTRAST_NETWORK else ()
    for cell in points.itertuples():
        key, small = (cell.architecture, cell.rf_level), cell.image_px == points["image_px"].min()
        if cell.architecture == architecture or key in changes:
            style = _contrast_style(*key) | {"linestyle": "none", "fillstyle": "full" if small else "none"}
            style["alpha"] = 0.7  # points may lie on each other
            label = presets.contrast_label(*key) if key in changes else f"level {cell.rf_level}"
            ax.plot([cell.starved], [cell.breaking_point], label=label if small else "", **style)
    ax.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    ax.set(xlabel="share of weights that meet padding", ylabel="breaking point", xlim=(0, 1), ylim=(0.38, 1))
    ax.set_title(plots.network_label(architecture))
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handletextpad=0.2)


@plots.on_axes(height_in=3.4, layers=True, below=True)
def plot_probes(probes, *, title="", ax=None):
    """Accuracy of a linear probe after each activation; a ring marks where the field first covers the image."""
    for level, part in probes.groupby("rf_level"):
        mean, style = part.groupby("place")["accuracy"].mean(), plots.level_style(level)
        ax.plot(mean.index, mean, label=f"level {level}", **style | {"markersize": 3})
        beyond = part[part["layer_field_px"] >= part["image_px"]]["place"]
        if len(beyond):
            ax.plot([beyond.min()], [mean[beyond.min()]], "o", color=style["color"], markersize=10, fillstyle="none")
    ax.set(xlabel="layer", ylabel="probe accuracy (%)", title=title)


@plots.on_axes(height_in=3.4, layers=True, below=True)
def plot_layer_sensitivity(found, *, title="", ax=None):
    """What each layer costs when it is pruned alone; one line per receptive field."""
    for level, part in found.groupby("rf_level"):
        mean = part.groupby("place")["lost"].mean()
        ax.plot(mean.index, mean, label=f"level {level}", **plots.level_style(level) | {"markersize": 3})
    ax.set(xlabel="prunable layer", ylabel="points of accuracy lost", title=title)


@plots.on_axes(height_in=3.4, below=True)
def plot_by_width(by_width, *, outcome="dense", label="test accuracy (%)", ax=None):
    """An outcome against the width, a line per level; rings are bfloat16."""
    for level, part in by_width.groupby("rf_level"):
        style = plots.level_style(level)
        rings = part[part["precision"] == "bfloat16"]
        alone = ~rings["width"].isin(part.drop(rings.index)["width"])  # the line never mixes precisions
        mean = part.drop(rings.index[~alone]).groupby("width")[outcome].mean()
        ax.plot(mean.index, mean, label=f"level {level}", **style)
        ax.plot(rings["width"], rings[outcome], "o", color=style["color"], markersize=11, fillstyle="none")
    ax.set_xscale("log", base=2)
    ax.set_xticks(widths := sorted(by_width["width"].unique()), [str(Fraction(width)) for width in widths])
    ax.set(xlabel="width", ylabel=label)


@plots.on_axes(plots.ALONE_IN, 4, below=True)
def plot_published_networks(found, *, ax=None):
    """Accuracy against the field as a multiple of the image, by convolutions and pools alone."""
    ratio = found["convolutions_px"] / found["image_px"]
    squeeze = found["field_px"] == float("inf")
    for part, name, marker, color in (
        (~squeeze, "convolutions and pools", "o", "#0072B2"),
        (squeeze, "with squeeze-and-excitation", "D", "#D55E00"),
    ):
        ax.plot(ratio[part], found["top1"][part], marker, color=color, label=name, markersize=6, alpha=0.75)
    ax.axvline(1, color="0.4", linewidth=1.2)
    place = {"textcoords": "offset points", "fontsize": 9}
    ax.annotate("field = image", (1, 93), xytext=(4, 0), va="top", **place)
    named = {"alexnet": (-46, -6), "squeezenet1_1": (12, -8), "vgg19": (8, -13), "googlenet": (-34, -20)}
    named |= {"resnet50": (-70, 22), "inception_v3": (10, -12), "convnext_tiny": (10, -12)}
    line = {"arrowstyle": "-", "color": "0.5"}
    for i, name in found["network"][found["network"].isin(named)].items():
        ax.annotate(name, (ratio[i], found["top1"][i]), xytext=named[name], arrowprops=line, **place)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}×")
    ax.set(xlabel="field over the image's side", ylabel="top-1 accuracy (%)", xlim=(0.5, 20), ylim=(53, 93))


@plots.on_axes(height_in=3.4, layers=True, below=True)
def plot_effective_fields(fields, *, title="", ax=None):
    """Side of the square with half of the gradient, layer by layer: thin before training, thick after it."""
    for level, part in fields.groupby("rf_level"):
        style = plots.level_style(level)
        for stage, width in (("init", 1.3), ("final", 2.2)):
            mean = part[part["stage"] == stage].groupby("place")["half_px"].mean()
            name = {"label": f"level {level}"} if stage == "final" else {}
            marks = {"marker": "", "linewidth": width, "linestyle": "-" if stage == "final" else ":"}
            ax.plot(mean.index, mean, **style | marks | name)
    side = fields["image_px"].max()
    ax.axhline(side / 2**0.5, color="0.5", linewidth=1)
    place = {"ha": "right", "va": "bottom", "fontsize": 9, "color": "0.4"}
    ax.annotate("every pixel alike", (ax.get_xlim()[1], side / 2**0.5), **place)
    ax.set(xlabel="layer", ylabel="half of the gradient within (px)", title=title, ylim=(0, 0.85 * side))
