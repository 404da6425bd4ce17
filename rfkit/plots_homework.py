"""Figures of the homework."""

import matplotlib.pyplot as plt

from rfkit import plots


def plot_running(path, targets, *, ax=None):
    """Running statistics of a batch norm over batches.

    Args:
        path: List of (mean, variance) after each batch.
        targets: The values they tend to.
        ax: Axes to draw in; new ones if ``None``.

    Returns:
        The Axes.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(plots.WIDTH_IN, 2.8))[1]
    for values, target, label, (color, _, line) in zip(
        zip(*path, strict=True), targets, ("mean", "variance"), plots.STYLES, strict=False
    ):
        ax.plot(range(1, len(values) + 1), values, line, color=color, label=f"running {label}")
        ax.axhline(target, color=color, linestyle=":", linewidth=1)
    ax.set(xlabel="batch", ylabel="value")
    ax.legend()
    return ax


def plot_spreads(spreads, *, ax=None):
    """Size of activations block by block, one line a mode.

    Args:
        spreads: Mapping of a label to a number a block.
        ax: Axes to draw in; new ones if ``None``.

    Returns:
        The Axes, on a logarithmic scale.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(plots.WIDTH_IN, 2.8))[1]
    for (label, values), (color, marker, line) in zip(spreads.items(), plots.STYLES, strict=False):
        ax.plot(range(1, len(values) + 1), values, color=color, marker=marker, linestyle=line, label=label)
    ax.set(xlabel="block", ylabel="mean magnitude", yscale="log")
    ax.legend()
    return ax
