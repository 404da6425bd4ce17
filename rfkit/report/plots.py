"""Figures: records in, Axes out. No function here reads a file or computes a result."""

import functools
import itertools
import math
import sys

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.transforms import Bbox

from rfkit.tables import label as network_label

WIDTH_IN, ALONE_IN = 6.6, 5.0  # of several panels; of one, which a phone can show whole
# Colour, marker and line of an RF level through the whole book, by Okabe and Ito: safe for colour-blind readers
STYLES = (
    ("#0072B2", "o", "-"), ("#E69F00", "s", "--"), ("#009E73", "^", "-."), ("#D55E00", "D", ":"),
    ("#CC79A7", "v", (0, (3, 1, 1, 1))), ("#56B4E9", "P", (0, (5, 1))),
)  # fmt: skip


def use_style():
    """Set the book's figure style: white background, quiet grid, text that survives a phone screen, sharp edges."""
    if "ipykernel" in sys.modules:
        from IPython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg")
        get_ipython().display_formatter.formatters["image/svg+xml"].for_type(plt.Figure, drawn)
    plt.style.use("seaborn-v0_8-whitegrid")  # Matplotlib's own copy: seaborn takes a second to import in every notebook
    plt.rcParams.update({
        "font.sans-serif": ["DejaVu Sans"], "axes.linewidth": 1.25, "grid.linewidth": 1,
        "axes.prop_cycle": plt.cycler(color=[color for color, _, _ in STYLES]), "legend.title_fontsize": 12,
        "figure.dpi": 110, "savefig.dpi": 160, "savefig.bbox": "tight", "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.1,
        "font.size": 12, "axes.titlesize": 12, "axes.labelsize": 12, "legend.fontsize": 11,
        "xtick.labelsize": 11, "ytick.labelsize": 11, "axes.spines.top": False, "axes.spines.right": False,
        "grid.color": "#dddddd", "legend.frameon": False,
    })  # fmt: skip


def drawn(figure):
    """A figure as SVG, with a note of where its panels are for pages that set them one below the other."""
    from IPython.core.pylabtools import print_figure

    svg = print_figure(figure, "svg", bbox_inches="tight")  # which lays it out, too
    where = ";".join(" ".join(f"{number:.1f}" for number in box) for box in panels(figure))
    return svg.replace("<svg ", f'<svg data-panels="{where}" ', 1) if where else svg


def panels(figure):
    """Size of a figure, then x, y, width, height of each panel and legend in points; none where none can be moved."""
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


def on_axes(width_in=WIDTH_IN / 2, height_in=3.2, *, layers=False, below=False, image=False):
    """Let a plot draw on the axes it is given, else on a figure of this size, finish and return them."""

    def of(plot):
        @functools.wraps(plot)
        def drawn(*args, ax=None, **options):
            ax = ax if ax is not None else plt.subplots(figsize=(width_in, height_in))[1]
            if args and getattr(args[0], "empty", False):
                return nothing(ax, options.get("title", ""))
            plot(*args, ax=ax, **options)
            if layers:
                ax.xaxis.get_major_locator().set_params(integer=True)
            if below:
                legend_below(ax.figure)
            if image:
                ax.grid(False)
            return ax

        return drawn

    return of


def level_style(level):
    """Colour, marker and line style of an RF level; from the seventh on they come again."""
    return dict(zip(("color", "marker", "linestyle"), STYLES[(level - 1) % len(STYLES)], strict=True))


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
    fields = frame.groupby("rf_level")["field_px"].first()
    known = fields.notna().all()
    ticks = [f"{px:.0f}" if known else field_label(level, px) for level, px in fields.items()]
    ax.set_xticks(list(fields.index), ticks)
    ax.set(
        xlabel="receptive field (px)" if known else "receptive field", ylabel="test accuracy (%)", ylim=(0, _top(ax))
    )
    ax.margins(x=0.1)
    ax.set_title(_network(frame))
    ax.legend(loc="best")


RATE_LABELS = {"pruning_rate": "pruning rate", "usable_sparsity": "pruning rate of the usable weights"}


@on_axes()
def plot_accuracy_by_rate(frame, *, x="pruning_rate", ax=None):
    """Test accuracy against the pruning rate, one line per receptive field."""
    for level, part in frame.groupby("rf_level"):
        cell, style = part.groupby(x)["accuracy"].agg(["mean", "std"]).fillna(0), level_style(level)
        ax.plot(cell.index, cell["mean"], label=f"level {level}", **style)
        low, high = cell["mean"] - cell["std"], cell["mean"] + cell["std"]
        ax.fill_between(cell.index, low, high, color=style["color"], alpha=0.15, linewidth=0)
    ax.set(xlabel=RATE_LABELS[x], ylabel="test accuracy (%)", ylim=(0, _top(ax)))
    ax.set_title(_network(frame))
    ax.legend(loc="best")


@on_axes(ALONE_IN, layers=True, below=True)
def plot_growth(curves, *, image_px=(), ax=None):
    """Receptive field after each layer, one line per network."""
    for i, (label, sizes) in enumerate(curves.items()):
        is_level = isinstance(label, int)
        name = f"level {label}" if is_level else label
        ax.plot(range(1, len(sizes) + 1), sizes, label=name, markersize=5, **level_style(label if is_level else i + 1))
    for px in image_px:
        ax.axhline(px, color="#333333", linewidth=1)
        place = {"xycoords": ("axes fraction", "data"), "xytext": (-3, -3), "textcoords": "offset points"}
        ax.annotate(f"image of {px} px", (1, px), ha="right", va="top", fontsize=10, **place)
    ax.set(xlabel="layer", ylabel="receptive field (px)")
    ax.set_yscale("log", base=2)
    ax.yaxis.set_major_formatter("{x:g}")


@on_axes(image=True)
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


def plot_patterns(patterns, fields_px, *, title=None):
    """Importance patterns of all levels: above on one common logarithmic scale, below each on its own."""
    count, top = len(patterns), patterns.max()
    figure, axes = plt.subplots(2, count, figsize=(WIDTH_IN * 1.3, WIDTH_IN * 2.86 / max(count, 2)), squeeze=False)
    common = LogNorm(top * 1e-4, top, clip=True)
    for pattern, px, above, below in zip(patterns, fields_px, *axes, strict=True):
        shared = above.imshow(pattern, cmap="cividis", norm=common)
        own = below.imshow(pattern, cmap="cividis")
        above.set_title("own network" if px is None else f"{px} px")
        ticks = {"format": "%.0e", "ticks": [pattern.max() / 2]}
        figure.colorbar(own, ax=below, orientation="horizontal", fraction=0.06, **ticks)
        for ax in (above, below):
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
    figure.colorbar(shared, ax=axes[0], fraction=0.02, label="common scale")
    axes[1][0].set_ylabel("own scale")
    if title:
        figure.suptitle(title)
    return axes


@on_axes(height_in=3.6, image=True)
def plot_field_boxes(image, fields_px, *, title="", ax=None):
    """Receptive fields of the middle unit drawn around a real image, at scale."""
    height, width = image.shape[:2]
    ax.imshow(image, extent=(-width / 2, width / 2, height / 2, -height / 2), interpolation="nearest")
    reach = 0.54 * max([*filter(math.isfinite, fields_px.values()), height])
    for level, side in fields_px.items():
        color, _, line = level_style(level).values()
        label = f"level {level}: {side:g} px" if math.isfinite(side) else f"level {level}: every pixel"
        look = {"fill": False, "linewidth": 1.8, "edgecolor": color, "linestyle": line, "label": label}
        drawn = min(side, 2 * reach)
        ax.add_patch(plt.Rectangle((-drawn / 2, -drawn / 2), drawn, drawn, **look))
    ax.set(xlim=(-reach, reach), ylim=(reach, -reach), title=title, xlabel="pixels from the middle")
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
    fields = frame.drop_duplicates(["architecture", "rf_level"]).groupby("rf_level")["field_px"]
    sizes = {f"level {level}": ", ".join(f"{px:.0f}" for px in part.dropna()) for level, part in fields}
    legend_below(figure, {label: f"{label}: {px} px" for label, px in sizes.items() if px})
    return axes


def legend_below(figure, words=None):
    """One legend for all panels of a figure, off their curves, instead of those before; words for some labels."""
    panels = [zip(*ax.get_legend_handles_labels()[::-1], strict=True) for ax in figure.axes]
    handles = {label: handle for panel in panels for label, handle in panel}
    for legend in filter(None, [*figure.legends, *(ax.get_legend() for ax in figure.axes)]):
        legend.remove()
    if words:
        handles = {words.get(label, label): handles[label] for label in sorted(handles)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, fontsize=9, columnspacing=1.2)


def nothing(ax, title=""):
    """Say on an empty figure that a build has nothing to show there."""
    ax.text(0.5, 0.5, "not in this build", ha="center", va="center", transform=ax.transAxes)
    ax.set(title=title, xticks=[], yticks=[])
    return ax


def field_label(level, px):
    """Name of a receptive field in legends and ticks."""
    return f"level {level}" if px is None or px != px else f"{px:.0f} px"


def _network(frame):
    names = network_label(frame["architecture"].iloc[0]), frame["data_label"].iloc[0]
    title = ", ".join(names)
    return title if len(title) <= 36 else "\n".join(names)


def _top(ax):
    """Upper end of an axis of accuracies, in percent: the whole scale where half of it is used."""
    return 102 if ax.dataLim.y1 > 50 else 1.15 * ax.dataLim.y1


@on_axes(ALONE_IN, 3, layers=True)
def plot_lines(curves, *, targets=(), ax=None, **labels):
    """Values step by step, one line per name, dotted where they should end; `labels` are set on the axes."""
    for (label, values), (color, marker, line) in zip(curves.items(), itertools.cycle(STYLES), strict=False):
        look = {"color": color, "linestyle": line, "marker": "" if targets else marker, "markersize": 5}
        ax.plot(range(1, len(values) + 1), values, label=label, **look)
    for target, (color, *_) in zip(targets, itertools.cycle(STYLES), strict=False):
        ax.axhline(target, color=color, linestyle=":", linewidth=1)
    ax.set(**labels)
    ax.legend()


def plot_filters(filters, *, columns=8):
    """Filters of a first layer as small colour images, each scaled by itself about zero."""
    rows = -(-len(filters) // columns)
    _, axes = plt.subplots(rows, columns, figsize=(ALONE_IN, ALONE_IN / columns * rows), squeeze=False)
    for ax in axes.ravel():
        ax.axis("off")
    for ax, weights in zip(axes.ravel(), filters, strict=False):
        scaled = weights / max(abs(weights).max(), 1e-12)
        ax.imshow((scaled.transpose(1, 2, 0) + 1) / 2, interpolation="nearest")
    return axes


@on_axes(ALONE_IN, 4.8, image=True)
def plot_confusion(result, *, ax=None):
    """Which class is taken for which, in percent of the images of a class."""
    counts, classes = np.array(result["values"]["confusion"]), result["values"]["classes"]
    share = counts / counts.sum(1, keepdims=True)
    heat_map(ax, share, lambda part: f"{100 * part:.0f}" if part > 0.005 else "", 8, classes)
    ax.set(xlabel="answer", ylabel="label")
    ax.tick_params(axis="y", rotation=0)
    plt.setp(ax.get_xticklabels(), rotation=45, ha="right")


def heat_map(ax, shares, words, fontsize, names=()):
    """A square matrix of shares from 0 to 1, with words for each."""
    import seaborn  # a second that no other figure needs

    said, looks = np.vectorize(words, otypes=[object])(shares), {"cmap": "cividis", "vmin": 0, "vmax": 1, "cbar": False}
    looks |= {"square": True, "annot": said, "fmt": "", "annot_kws": {"fontsize": fontsize}}
    seaborn.heatmap(shares, xticklabels=names, yticklabels=names, ax=ax, **looks)
    plt.setp([text for text in ax.texts if text.get_color() != "w"], color="#111111")  # in a dark theme, too
