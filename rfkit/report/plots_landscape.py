"""Figures of Hessian spectra and of the loss surface."""

import matplotlib.pyplot as plt
import numpy as np

from rfkit import experiments
from rfkit.report import plots

AUTHOR_VARIANCE = 0.0032
"""Variance of the Gaussian that the author's code puts at each Ritz value."""


@plots.on_axes(below=True)
def plot_density(spectra, *, title="", ax=None):
    """Spectral density of the Hessian, one line per receptive field."""
    reach = max(abs(d.nodes).max() for d in spectra["density"])
    linear = reach * 1e-4
    grid = np.linspace(-np.arcsinh(reach / linear), np.arcsinh(reach / linear), 600)
    for level, part in spectra.groupby("rf_level"):
        # on an axis that is linear near zero and logarithmic beyond
        bent = [type(d)(np.arcsinh(d.nodes / linear), d.weights, d.zeros) for d in part["density"]]
        curves = [d.density(grid, 0.3**2) for d in bent]
        style = {key: value for key, value in plots.level_style(level).items() if key != "marker"}
        label = plots.field_label(level, part["field_px"].iloc[0])
        ax.plot(np.sinh(grid) * linear, np.mean(curves, 0), label=label, **style)
    ax.set_xscale("symlog", linthresh=linear)
    ax.set(xlabel="eigenvalue λ", ylabel="P(λ), per unit of the axis", yscale="log", ylim=(1e-6, 10), title=title)
    ax.axvspan(-linear, linear, color="#888888", alpha=0.15, linewidth=0)
    far = 10.0 ** np.floor(np.log10(reach))
    ax.set_xticks([-far, -far / 100, 0, far / 100, far])
    ax.tick_params(axis="x", labelsize=9)
    ax.set_xticks([], minor=True)


@plots.on_axes()
def plot_as_run(ritz, *, title="", ax=None):
    """The spectrum as the author's code draws it: a narrow Gaussian at each Ritz value."""
    for row in ritz.itertuples():
        nodes = row.density.nodes[0]
        near = np.linspace(-0.6, 0.6, 41)  # ten standard deviations around each
        grid = np.unique(np.concatenate([np.linspace(nodes.min(), nodes.max(), 2000), (nodes[:, None] + near).ravel()]))
        height = np.maximum(row.density.density(grid, AUTHOR_VARIANCE), 1e-12)
        color, label = plots.level_style(row.rf_level)["color"], plots.field_label(row.rf_level, row.field_px)
        ax.plot(grid, height, linewidth=1, color=color, label=label)
    ax.set(xlabel="Ritz value λ", ylabel="P(λ)", yscale="log", ylim=(1e-10, 30), title=title)
    ax.locator_params(axis="x", nbins=4)
    ax.legend(loc="upper right", fontsize=9, handlelength=0)
    ax.label_outer()


@plots.on_axes(layers=True, below=True)
def plot_eigenvalues(spectra, *, title="", ax=None):
    """The largest eigenvalues by rank, one line per receptive field."""
    for level, part in spectra.groupby("rf_level"):
        mean = np.mean(list(part["values"]), 0)
        # marks a few ranks apart, so that of two curves in one place both are seen
        style = plots.level_style(level) | {"markersize": 4, "markevery": (2 * level, 8)}
        ax.plot(range(1, len(mean) + 1), mean, label=plots.field_label(level, part["field_px"].iloc[0]), **style)
    ax.set(xlabel="rank", ylabel="eigenvalue λ", yscale="log", title=title)


@plots.on_axes(image=True)
def plot_surface(places, losses, *, levels=12, title="", ax=None):
    """Loss on a plane through a network."""
    filled = ax.contourf(places, places, np.log10(losses).T, levels=levels, cmap="cividis")
    ax.figure.colorbar(filled, ax=ax, fraction=0.046, format="%.1f", label="log10 of the loss")
    ax.plot(0, 0, "+", color="white", markersize=9)
    ax.set(title=title, xlabel="first direction", ylabel="second direction", aspect="equal")


@plots.on_axes(plots.ALONE_IN, 3.2)
def plot_line(pairs, *, ax=None):
    """Loss between two seeds, one line per pair of seeds, in the style of their receptive field."""
    for level, part in pairs.groupby("rf_level"):
        label = plots.field_label(level, part["field_px"].iloc[0])
        for i, (places, losses) in enumerate(part["line"]):
            ax.plot(places, losses, label="" if i else label, **plots.level_style(level))
    ax.set(xlabel="position between two seeds", ylabel="loss")
    ax.legend(fontsize=9)


@plots.on_axes(image=True)
def plot_similarity(matrix, *, title="", ax=None):
    """Similarity of all layers of two networks; dead layers are hatched."""
    image = _draw(matrix, ax)
    ax.set(title=title, xlabel="layer, second network", ylabel="layer, first network")
    ax.locator_params(integer=True)
    ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)


@plots.on_axes(height_in=3.4, below=True)
def plot_gradients(gradients, *, title="", ax=None):
    """Norm of the gradient after each layer of untrained networks: the levels, and one without the mean at its end."""
    for (level, changed), part in gradients.fillna({"changed": ""}).groupby(["rf_level", "changed"]):
        mean, style = part.groupby("place")["norm"].mean(), plots.level_style(level)
        look = style if not changed else style | {"color": "#888888", "marker": "x"}
        ax.plot(mean.index, mean, label=f"level {level}" + (", one position read" if changed else ""), **look)
    ax.set(xlabel="layer", ylabel="norm of the gradient", title=title, yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")


KINDS = {
    ("final", "matrix"): "two seeds,\ntrained",
    ("final", "own"): "a seed and\nitself, trained",
    ("init", "matrix"): "two seeds,\nuntrained",
    ("init", "own"): "a seed and\nitself, untrained",
}
"""What is compared: stage and column of the frame of the analysis ``pair``."""


def plot_similarities(pairs, kinds=(("final", "matrix"),)):
    """Similarity of all layers, a column per receptive field, a row per network, data set and kind of comparison."""
    first = pairs.drop_duplicates(["data_label", "architecture", "rf_level", "stage"])
    levels, several = sorted(set(first["rf_level"])), first["data_label"].nunique() > 1
    cells = first[["data_label", "architecture"]].drop_duplicates().itertuples(index=False)
    rows = [(cell, kind) for cell in cells for kind in kinds]
    if not rows:
        return np.array([plots.nothing(plt.subplots(figsize=(plots.WIDTH_IN / 2, 2))[1])])
    size = (plots.WIDTH_IN, (plots.WIDTH_IN - 1.2) / max(3, len(levels)) * len(rows) + 0.5)
    figure, axes = plt.subplots(len(rows), len(levels), figsize=size, squeeze=False)
    image = None
    for ((data, name), (stage, column)), line in zip(rows, axes, strict=True):
        here = (first["data_label"] == data) & (first["architecture"] == name) & (first["stage"] == stage)
        found = first[here].set_index("rf_level")
        for level, ax in zip(levels, line, strict=True):
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
            if level in found.index:
                image = _draw(matrix := found.loc[level, column], ax)
                if ax is line[0]:
                    marks = (1, len(matrix) // 2 + 1, len(matrix))
                    ax.set_yticks([mark - 1 for mark in marks], marks, fontsize=8)
                if column == "matrix" and stage == kinds[0][0]:
                    ax.set_title(plots.field_label(level, found.loc[level, "field_px"]), fontsize=11)
        words = KINDS[stage, column] if len(kinds) > 1 else plots.network_label(name)
        line[0].set_ylabel(f"{words}\n{data}" if several else words, fontsize=10)
    figure.supxlabel("layer of the second network →", fontsize=10)
    figure.supylabel("layer of the first network →", fontsize=10)
    figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, label="linear CKA")
    return axes


def _draw(matrix, ax):
    ax.set_facecolor("#bbbbbb")
    rows, columns = matrix.shape
    if np.isnan(matrix).any():
        look = {"fill": False, "hatch": "////", "edgecolor": "#777777", "zorder": 0}
        ax.add_patch(plt.Rectangle((-0.5, -0.5), columns, rows, **look))
    image = ax.imshow(np.ma.masked_invalid(matrix), cmap="cividis", vmin=0, vmax=1, origin="lower", zorder=1)
    if min(rows, columns) > 8:
        for middle, draw in ((rows // 2, ax.axhline), (columns // 2, ax.axvline)):
            draw(middle, color="white", linewidth=0.8, linestyle="--", zorder=2)
    ax.set(xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5))
    return image


def plot_diagonals(pairs):
    """Similarity of each layer, or output of a residual block, to that of another seed, a line per receptive field."""
    cells = list(pairs.groupby(["data_label", "architecture", "stage"], sort=False))
    axes, several = plots.beside(2, rows=(len(cells) + 1) // 2), pairs["data_label"].nunique() > 1
    if not cells:
        return np.array([plots.nothing(ax) for ax in axes])
    for ((data, name, stage), part), ax in zip(cells, axes, strict=False):
        for level, cell in part.groupby("rf_level"):
            inside = np.array([experiments.inside_block(layer) for layer in cell["layers"].iloc[0]])
            mean = np.mean([np.diagonal(matrix) for matrix in cell["matrix"]], 0)[~inside]
            style = plots.level_style(level) | {"markersize": 3}
            ax.plot(range(1, len(mean) + 1), mean, label=plots.field_label(level, cell["field_px"].iloc[0]), **style)
        title = f"{plots.network_label(name)}, {experiments.STAGES[stage]}" + (f"\n{data}" if several else "")
        xlabel = "block" if inside.any() else "layer"
        ax.set(xlabel=xlabel, ylabel="linear CKA", ylim=(0, 1.02), title=title)
        if stage == "init":  # the same lines after training, where there is no room
            ax.legend(fontsize=9)
    return axes
