"""Figures of the homework."""

import matplotlib.pyplot as plt
import numpy as np

from rfkit.report import plots


@plots.on_axes(plots.ALONE_IN, 3)
def plot_lines(curves, *, targets=(), ax=None, **labels):
    """Values step by step, one line a name, and dotted what they should come to; `labels` are set on the axes."""
    for (label, values), (color, marker, line) in zip(curves.items(), plots.STYLES, strict=False):
        look = {"color": color, "linestyle": line, "marker": "" if targets else marker, "markersize": 5}
        ax.plot(range(1, len(values) + 1), values, label=label, **look)
    for target, (color, *_) in zip(targets, plots.STYLES, strict=False):
        ax.axhline(target, color=color, linestyle=":", linewidth=1)
    ax.set(**labels)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()


def plot_filters(filters, *, columns=8):
    """Filters of a first layer as small colour images, each scaled by itself about zero."""
    rows = -(-len(filters) // columns)
    _, axes = plt.subplots(rows, columns, figsize=(plots.ALONE_IN, plots.ALONE_IN / columns * rows), squeeze=False)
    for ax in axes.ravel():
        ax.axis("off")
    for ax, weights in zip(axes.ravel(), filters, strict=False):
        scaled = weights / max(abs(weights).max(), 1e-12)
        ax.imshow((scaled.transpose(1, 2, 0) + 1) / 2, interpolation="nearest")
    return axes


@plots.on_axes(plots.ALONE_IN, 4.8)
def plot_confusion(result, *, ax=None):
    """Which class is taken for which, in percent of the images of a class."""
    counts, classes = np.array(result["values"]["confusion"]), result["values"]["classes"]
    share = 100 * counts / counts.sum(1, keepdims=True)
    import seaborn as sns  # a second that no other figure needs

    said = np.where(share.round() > 0, share.round().astype(int).astype(str), "")
    sns.heatmap(
        share, annot=said, fmt="", annot_kws={"fontsize": 8}, cmap="cividis", vmin=0, vmax=100, cbar=False,
        square=True, xticklabels=classes, yticklabels=classes, ax=ax,
    )  # fmt: skip
    plt.setp([text for text in ax.texts if text.get_color() != "w"], color="#111111")  # in a dark theme, too
    ax.set(xlabel="answer", ylabel="label")
    ax.tick_params(axis="y", rotation=0)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right")
