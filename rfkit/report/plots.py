"""Figures: records in, Axes out. No function here reads a file or computes a result."""

import functools
import itertools
import math
import sys

import matplotlib.pyplot as plt
from matplotlib.colors import LogNorm
from matplotlib.transforms import Bbox

from rfkit.report.styles import LEVEL_STYLE, OTHER_LEVELS, STYLES
from rfkit.tables import ARCHITECTURE_LABELS

WIDTH_IN, ALONE_IN = 6.6, 5.0  # of several panels; of one, which a phone can show whole


def use_style():
    """Set the book's figure style: white background, quiet grid, text that survives a phone screen, sharp edges."""
    if "ipykernel" in sys.modules:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")
        get_ipython().display_formatter.formatters["image/svg+xml"].for_type(plt.Figure, drawn)
    plt.style.use("seaborn-v0_8-whitegrid")  # Matplotlib's own copy: seaborn takes a second to import in every notebook
    plt.rcParams.update(
        {
            "font.sans-serif": ["DejaVu Sans"], "axes.linewidth": 1.25, "grid.linewidth": 1,
            "axes.prop_cycle": plt.cycler(color=[color for color, _, _ in STYLES]), "legend.title_fontsize": 12,
            "figure.dpi": 110, "savefig.dpi": 160, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
            "figure.constrained_layout.h_pad": 0.1,
            "font.size": 12, "axes.titlesize": 12, "axes.labelsize": 12, "legend.fontsize": 11,
            "xtick.labelsize": 11, "ytick.labelsize": 11, "axes.spines.top": False, "axes.spines.right": False,
            "grid.color": "#dddddd", "legend.frameon": False,
        }
    )  # fmt: skip


def drawn(figure):
    """A figure as SVG, with a note of where its panels are for pages that set them one below the other."""
    from IPython.core.pylabtools import print_figure

    svg = print_figure(figure, "svg", bbox_inches="tight")  # which lays it out, too
    where = ";".join(" ".join(f"{number:.1f}" for number in box) for box in panels(figure))
    return svg.replace("<svg ", f'<svg data-panels="{where}" ', 1) if where else svg


def panels(figure):
    """Size of a drawn figure, then x, y, width and height of each panel and legend, in points from the upper left.

    Nothing where the panels are one, many, or have a part in common.
    """
    common = figure._suptitle, figure._supxlabel, figure._supylabel
    bars = {each.colorbar.ax: ax for ax in figure.axes for each in (*ax.images, *ax.collections) if each.colorbar}
    alone = [ax for ax in figure.axes if ax not in bars]
    if any(common) or not 1 < len(alone) <= 6:
        return []
    renderer, dpi = figure.canvas.get_renderer(), figure.dpi
    boxes = {ax: [ax.get_tightbbox(renderer)] for ax in alone}
    for bar, ax in bars.items():
        boxes[ax].append(bar.get_tightbbox(renderer))
    each = [Bbox.union(parts) for parts in boxes.values()] + [one.get_window_extent(renderer) for one in figure.legends]
    whole = figure.get_tightbbox(renderer).padded(plt.rcParams["savefig.pad_inches"])
    sizes = [(72 * whole.width, 72 * whole.height)]
    for box in (box.padded(0.04 * dpi) for box in each):
        corner = 72 * (box.x0 / dpi - whole.x0), 72 * (whole.y1 - box.y1 / dpi)
        sizes.append((*corner, 72 * box.width / dpi, 72 * box.height / dpi))
    return sizes


def on_axes(width_in=WIDTH_IN / 2, height_in=3.2):
    """Let a plot draw on the axes it is given, else on a figure of this size, and return them."""

    def of(plot):
        @functools.wraps(plot)
        def drawn(*args, ax=None, **options):
            ax = ax if ax is not None else plt.subplots(figsize=(width_in, height_in))[1]
            if args and getattr(args[0], "empty", False):
                return nothing(ax, options.get("title", ""))
            plot(*args, ax=ax, **options)
            return ax

        return drawn

    return of


def level_style(level):
    """Colour, marker and line style of an RF level."""
    color, marker, linestyle = LEVEL_STYLE.get(level, OTHER_LEVELS)
    return {"color": color, "marker": marker, "linestyle": linestyle}


@on_axes()
def plot_accuracy_by_field(frame, *, rate=0.9, ax=None):
    """Dense and pruned test accuracy against the receptive field; fine-tuned too where the frame has both."""
    part = frame[frame["pruning_rate"] == rate]
    pruned = (f"pruned, rate {rate:g}", "#D55E00", "s", "--")
    columns = {"dense": ("dense", "#333333", "o", "-"), "accuracy": pruned}
    if "pruned" in part:  # the frame of the analysis ``fine_tune``
        columns |= {"accuracy": ("fine-tuned", "#0072B2", "^", "-."), "pruned": pruned}
    for column, (label, color, marker, line) in columns.items():
        mean = part.groupby("rf_level")[column].mean()
        ax.plot(mean.index, mean, line, color=color, marker=marker, label=label)
        ax.plot(part["rf_level"], part[column], marker, color=color, alpha=0.35, markersize=4)
    field_axis(frame, ax)


AXIS_LABELS = {
    "pruning_rate": "pruning rate",
    "usable_sparsity": "pruning rate of the usable weights",
    "accuracy": "test accuracy (%)",
    "reestimated_accuracy": "test accuracy (%), batch norm re-estimated",
    "train_accuracy": "train accuracy (%)",
    "train_loss": "train loss",
}


@on_axes()
def plot_accuracy_by_rate(frame, *, x="pruning_rate", y="accuracy", ax=None):
    """Test accuracy against the pruning rate, one line a receptive field."""
    for level, part in frame.groupby("rf_level"):
        groups = part.groupby("pruning_rate" if "pruning_rate" in part else x)
        cell, place = groups[y].agg(["mean", "std"]).fillna(0), groups[x].mean()
        style = level_style(level)
        ax.plot(place, cell["mean"], label=f"level {level}", **style)
        low, high = cell["mean"] - cell["std"], cell["mean"] + cell["std"]
        ax.fill_between(place, low, high, color=style["color"], alpha=0.15, linewidth=0)
    ax.set(xlabel=AXIS_LABELS.get(x, x), ylabel=AXIS_LABELS.get(y, y), ylim=(0, None if "loss" in y else _top(ax)))
    ax.set_title(_network(frame))
    ax.legend(loc="best")


@on_axes(ALONE_IN, 3.2)
def plot_growth(curves, *, image_px=(), ax=None):
    """Receptive field after each layer, one line a network."""
    for i, (label, sizes) in enumerate(curves.items()):
        is_level = isinstance(label, int)
        color, marker, line = LEVEL_STYLE.get(label, OTHER_LEVELS) if is_level else STYLES[i % len(STYLES)]
        name = f"level {label}" if is_level else label
        ax.plot(range(1, len(sizes) + 1), sizes, label=name, markersize=5, color=color, marker=marker, linestyle=line)
    for px in image_px:
        ax.axhline(px, color="#333333", linewidth=1)
        ax.annotate(
            f"image of {px} px", (1, px), xycoords=("axes fraction", "data"), xytext=(-3, 3), ha="right",
            textcoords="offset points", fontsize=10,
        )  # fmt: skip
    ax.set(xlabel="layer", ylabel="receptive field (px)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")
    legend_below(ax)


@on_axes()
def plot_pattern(pattern, *, box_px=None, title="", label="mean |gradient|", ax=None):
    """How strongly a unit depends on each pixel."""
    image = ax.imshow(pattern, cmap="cividis")
    ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.04, label=label)
    if box_px is not None:
        height, width = pattern.shape
        corner = (width // 2 - box_px / 2, height // 2 - box_px / 2)
        ax.add_patch(plt.Rectangle(corner, box_px, box_px, fill=False, edgecolor="white", linestyle="--"))
        ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set(title=title, xlabel="x (px)", ylabel="y (px)")
    ax.grid(False)


def plot_patterns(patterns, fields_px, *, title=None):
    """Importance patterns of all levels: above on one common logarithmic scale, below each on its own."""
    count, top = len(patterns), patterns.max()
    figure, axes = plt.subplots(2, count, figsize=(WIDTH_IN * 1.3, WIDTH_IN * 2.86 / max(count, 2)), squeeze=False)
    common = LogNorm(top * 1e-4, top, clip=True)
    for pattern, px, above, below in zip(patterns, fields_px, *axes, strict=True):
        shared = above.imshow(pattern, cmap="cividis", norm=common)
        own = below.imshow(pattern, cmap="cividis")
        above.set_title("own network" if px is None else f"{px} px")
        figure.colorbar(
            own, ax=below, orientation="horizontal", fraction=0.06, format="%.0e", ticks=[pattern.max() / 2]
        )
        for ax in (above, below):
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
    figure.colorbar(shared, ax=axes[0], fraction=0.02, label="common scale")
    axes[1][0].set_ylabel("own scale")
    if title:
        figure.suptitle(title)
    return axes


@on_axes(WIDTH_IN / 2, 3.6)
def plot_field_boxes(image, fields_px, *, title="", ax=None):
    """Receptive fields of the middle unit drawn around a real image, at scale."""
    height, width = image.shape[:2]
    ax.imshow(image, extent=(-width / 2, width / 2, height / 2, -height / 2), interpolation="nearest")
    reach = 0.54 * max([*filter(math.isfinite, fields_px.values()), height])
    for level, side in fields_px.items():
        style = level_style(level)
        label = f"level {level}: {side:g} px" if math.isfinite(side) else f"level {level}: every pixel"
        drawn = min(side, 2 * reach)
        ax.add_patch(
            plt.Rectangle((-drawn / 2, -drawn / 2), drawn, drawn, fill=False, linewidth=1.8,
                          edgecolor=style["color"], linestyle=style["linestyle"], label=label)
        )  # fmt: skip
    ax.set(xlim=(-reach, reach), ylim=(reach, -reach), title=title, xlabel="pixels from the middle")
    ax.grid(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, fontsize=9)


def beside(count, *, rows=1, height_in=3.4, **shared):
    """Axes side by side; `shared` is for Matplotlib, such as ``sharex="col"``."""
    size = (WIDTH_IN if count > 1 else ALONE_IN, height_in * max(1, rows))
    return plt.subplots(max(1, rows), count, figsize=size, squeeze=False, **shared)[1].ravel()


def by_network(frame, plot, **options):
    """The same plot for every network (in columns) and data set (in rows)."""
    if frame.empty:
        nothing(beside(1, height_in=2)[0])
        return []
    places = [list(frame[column].unique()) for column in ("data_label", "architecture")]
    rows, columns = map(len, places)
    # of their own height: a tenth is chance on one data set, and half of what there is to lose on another
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH_IN, 3.3 * rows), squeeze=False, sharey="row")
    parts = dict(list(frame.groupby(["data_label", "architecture"])))
    tops = dict.fromkeys(places[0], 0)
    for key, ax in zip(itertools.product(*places), axes.flat, strict=True):
        if key not in parts:
            figure.delaxes(ax)
            continue
        plot(parts[key], ax=ax, **options)
        first = not tops[key[0]]  # of its row, where a network may not be there
        ax.tick_params(labelleft=True)  # on a phone each panel stands alone
        ax.yaxis.label.set_visible(first)
        tops[key[0]] = max(tops[key[0]], ax.get_ylim()[1])
        ax.set_ylim(0, tops[key[0]])
    handles = {}
    for ax in figure.axes:
        handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True)) | handles
        ax.get_legend().remove()
    fields = frame.drop_duplicates(["architecture", "rf_level"]).groupby("rf_level")["field_px"]
    sizes = {f"level {level}": ", ".join(f"{px:.0f}" for px in part.dropna()) for level, part in fields}
    words = [f"{label}: {sizes[label]} px" if sizes.get(label) else label for label in sorted(handles)]
    in_order = [handles[label] for label in sorted(handles)]  # one legend for all, off the curves
    figure.legend(in_order, words, loc="outside lower center", ncols=min(len(words), 2), fontsize=9, columnspacing=1.2)
    return axes


def legend_below(ax):
    """One legend for all panels of a figure, instead of that of the panels before."""
    for legend in ax.figure.legends:
        legend.remove()
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)


def nothing(ax, title=""):
    """Say on an empty figure that a build has nothing to show there."""
    ax.text(0.5, 0.5, "not in this build", ha="center", va="center", transform=ax.transAxes)
    ax.set(title=title, xticks=[], yticks=[])
    return ax


def field_label(level, px):
    """Name of a receptive field in legends and ticks."""
    return f"level {level}" if px is None or px != px else f"{px:.0f} px"


def network_label(name):
    """Name of a network in titles."""
    return ARCHITECTURE_LABELS.get(name, name)


def _network(frame):
    names = network_label(frame["architecture"].iloc[0]), frame["data_label"].iloc[0]
    title = ", ".join(names)
    return title if len(title) <= 36 else "\n".join(names)


def _top(ax):
    """Upper end of an axis of accuracies, in percent: the whole scale where half of it is used."""
    return 102 if ax.dataLim.y1 > 50 else 1.15 * ax.dataLim.y1


def field_axis(frame, ax):
    """Label an axis of levels by their fields, and the other as test accuracy."""
    ax.set(xlabel="receptive field", ylabel="test accuracy (%)", ylim=(0, _top(ax)))
    fields = frame.groupby("rf_level")["field_px"].first()
    labels = [field_label(level, px) for level, px in fields.items()]
    if all(label.endswith(" px") for label in labels):
        labels = [label.removesuffix(" px") for label in labels]
        ax.set_xlabel("receptive field (px)")
    ax.set_xticks(list(fields.index), labels)
    ax.margins(x=0.1)
    ax.set_title(_network(frame))
    ax.legend(loc="best")
