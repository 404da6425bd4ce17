"""Figures of Hessian spectra and of the loss surface."""

import matplotlib.pyplot as plt
import numpy as np

from rfkit import plots


def plot_density(spectra, *, title="", ax=None):
    """Spectral density of the Hessian, one line a receptive field.

    Args:
        spectra: Rows of `rfkit.spectra.of_runs` of one network and stage.
        title: Title of the Axes.
        ax: Axes to draw in; new ones if ``None``.

    Returns:
        The Axes: eigenvalues on an axis that is linear near zero and logarithmic beyond, density per unit of that axis.
        Lines are means over seeds.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(plots.WIDTH_IN / 2, 3.2))[1]
    reach = max(abs(d.nodes).max() for d in spectra["density"])
    linear = reach * 1e-4
    grid = np.linspace(-np.arcsinh(reach / linear), np.arcsinh(reach / linear), 600)
    for level, part in spectra.groupby("rf_level"):
        curves = [_bent(d, linear).density(grid, 0.15**2)[0] for d in part["density"]]
        style = {key: value for key, value in plots.level_style(level).items() if key != "marker"}
        label = plots.field_label(level, part["field_px"].iloc[0])
        ax.plot(np.sinh(grid) * linear, np.mean(curves, 0), label=label, **style)
    ax.set_xscale("symlog", linthresh=linear)
    ax.set(xlabel="eigenvalue λ", ylabel="P(λ)", yscale="log", ylim=(1e-6, None), title=title)
    powers = np.unique(np.floor(np.log10([linear * 10, reach])).astype(int))
    ticks = 10.0 ** np.array([powers[0], powers[-1]])
    ax.set_xticks([*-ticks[::-1], 0, *ticks], [f"{t:.0e}" for t in [*-ticks[::-1], 0, *ticks]], fontsize=9)
    ax.legend(title="receptive field", loc="best", fontsize=9)
    return ax


def _bent(density, linear):
    """The density on an axis that is linear near zero and logarithmic beyond."""
    return type(density)(np.arcsinh(density.nodes / linear), density.weights, density.zeros)


def plot_eigenvalues(spectra, *, title="", ax=None):
    """The largest eigenvalues by rank, one line a receptive field.

    Args:
        spectra: Rows of `rfkit.spectra.of_runs` of one network and stage.
        title: Title of the Axes.
        ax: Axes to draw in; new ones if ``None``.

    Returns:
        The Axes. Lines are means over seeds; negative values are not drawn.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(plots.WIDTH_IN / 2, 3.2))[1]
    for level, part in spectra.groupby("rf_level"):
        mean = np.mean(list(part["values"]), 0)
        style = plots.level_style(level) | {"markersize": 3}
        ax.plot(range(1, len(mean) + 1), mean, label=plots.field_label(level, part["field_px"].iloc[0]), **style)
    ax.set(xlabel="rank", ylabel="eigenvalue λ", yscale="log", title=title)
    ax.legend(title="receptive field", loc="best", fontsize=9)
    return ax


def plot_surface(places, losses, *, title="", ax=None):
    """Loss on a plane through a network.

    Args:
        places: As made by `rfkit.landscape.surface`.
        losses: As made by `rfkit.landscape.surface`.
        title: Title of the Axes.
        ax: Axes to draw in; new ones if ``None``.

    Returns:
        The Axes, contours of the loss on a logarithmic scale.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(plots.WIDTH_IN / 2, 3.2))[1]
    filled = ax.contourf(places, places, np.log10(losses), levels=12, cmap="cividis")
    ax.figure.colorbar(filled, ax=ax, fraction=0.046, label="log10 of the loss")
    ax.plot(0, 0, "+", color="white", markersize=9)
    ax.set(title=title, xlabel="first direction", ylabel="second direction", aspect="equal")
    ax.grid(False)
    return ax


def plot_line(lines, *, ax=None):
    """Loss between two seeds, one line a receptive field.

    Args:
        lines: Mapping of RF level to (places, losses, accuracies), as made by `rfkit.landscape.line`.
        ax: Axes to draw in; new ones if ``None``.

    Returns:
        The Axes.
    """
    ax = ax if ax is not None else plt.subplots(figsize=(plots.WIDTH_IN, 3.2))[1]
    for level, (places, losses, _) in lines.items():
        ax.plot(places, losses, label=f"level {level}", **plots.level_style(level))
    ax.set(xlabel="place between two seeds", ylabel="loss")
    ax.legend()
    return ax
