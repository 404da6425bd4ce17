"""What is compared between receptive fields: one row per run from the frames of the analyses."""

import itertools
import math

import numpy as np
import pandas as pd

from rfkit.data import PUBLISHED
from rfkit.experiments import CELL, describe, frame, recorded, refuse_same_size
from rfkit.presets import CONTRAST_NETWORK, EQUAL_COMPUTATION, PAPER_RATES, SHORTER_EPOCHS
from rfkit.stats import mean_std

DROP_POINTS = 5.0
"""The breaking point is where accuracy has fallen this far below dense."""
ALPHA = 0.05
"""Significance level, fixed before the study."""
RUN = [*CELL, "seed"]
"""Columns of every frame that identify a run."""
SHAPE = ["architecture", "rf_level", "image_px"]
IMAGE_PX = {name: about.image_size for name, about in PUBLISHED.items()}


def usable_breaking_points(repruned):
    """Where accuracy has fallen 5 points below dense when only usable weights are pruned and counted."""
    rows = []
    for run, part in repruned.sort_values("usable_sparsity").groupby(RUN):
        point = breaking_point(part["usable_sparsity"].tolist(), part["accuracy"].tolist())
        rows.append([*run, point, (1 - point) * part["kept"].max()])
    return pd.DataFrame(rows, columns=[*RUN, "usable", "left"])


def by_width(runs):
    """One row per run of `rfkit.experiments.recorded_at_widths`: `by_run`, and width, precision, prunable (weights).

    usable is the breaking point in usable weights and left how many are left there; missing where not measured.
    """
    kinds, parts = {}, []
    for run in runs:
        kinds.setdefault((run.config.width, run.config.train.precision), []).append(run)
    for (width, precision), same in kinds.items():
        counts = pd.DataFrame([describe(run) | {"prunable": run.summary["prunable_weights"]} for run in same])
        part, usable = by_run(frame("pruning", same)), usable_breaking_points(frame("usable_pruning", same))
        part = part.merge(counts[[*RUN, "prunable"]], how="left", on=RUN).merge(usable, how="left", on=RUN)
        parts.append(part.assign(width=width, precision=precision))
    columns = [*RUN, "dense", "breaking_point", "prunable", "usable", "left", "width", "precision"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def accuracy_controls(preset):
    """Each larger field beside the smallest one: at equal cost, and where both fit the training images equally well.

    One row per seed and level above 1 of the VGG19-like network on CIFAR-10, from a preset's records: rf_level, seed,
    dense, and the dense accuracy (percent) of level 1 under four conditions, NaN where it is not recorded. narrow is at
    `EQUAL_COMPUTATION`; the others are interpolated between the networks trained for `SHORTER_EPOCHS`: shorter at
    equally many multiplications in training, fitted at equal training loss in the last epoch, fitted_after at equal
    loss on training images after it.
    """
    chosen = preset.select(architectures=CONTRAST_NETWORK, datasets="cifar10")
    first = chosen.select(levels=1)
    narrow = {
        (level, run.config.seed): run.summary["test_accuracy"]
        for level, width in EQUAL_COMPUTATION.items()
        for run in recorded(first.select(width=width))
    }
    ways, rows = {}, []
    for run in [*recorded(first), *(run for epochs in SHORTER_EPOCHS for run in recorded(first.select(epochs=epochs)))]:
        ways.setdefault(run.config.seed, []).append((_training_of(run), run.summary["test_accuracy"]))
    for run in recorded(chosen.select(levels=[level for level in chosen.levels if level > 1])):
        level, seed, here = run.config.level, run.config.seed, _training_of(run)
        row = {"rf_level": level, "seed": seed, "dense": run.summary["test_accuracy"]}
        row["narrow"] = narrow.get((level, seed), math.nan)
        for name, at in here.items():
            known = sorted((way[name], accuracy) for way, accuracy in ways.get(seed, ()))
            known = known if len(known) > len(SHORTER_EPOCHS) else [(math.nan, math.nan)]
            row[name] = float(np.interp(at, *zip(*known, strict=True), left=math.nan, right=math.nan))
        rows.append(row)
    return pd.DataFrame(rows, columns=["rf_level", "seed", "dense", "narrow", "shorter", "fitted", "fitted_after"])


def _training_of(run):
    """What a training cost, in multiplications of one image, and how well it fits at its end."""
    curve = run.result("pruning")
    return {
        "shorter": run.config.train.epochs * curve["multiplications"][0],
        "fitted": run.metrics[-1]["train_loss"],
        "fitted_after": curve["train_loss"][0],
    }


def predicted_breaking_points(by_run, repruned):
    """Where a network should break if pruning takes its dead weights first: d + (1 - d) b.

    One row per run that is in both `by_run` and the frame ``usable_pruning``: paper_dataset, architecture, rf_level,
    seed; dead, the share d; usable, the breaking point b in usable weights; predicted; breaking_point, as measured.
    """
    both = usable_breaking_points(repruned).merge(by_run[[*RUN, "breaking_point"]], on=RUN)
    both = both.merge(repruned.drop_duplicates(RUN)[[*RUN, "dead"]], on=RUN)
    both["predicted"] = both["dead"] + (1 - both["dead"]) * both["usable"]
    return both[[*RUN, "dead", "usable", "predicted", "breaking_point"]]


def starved_and_broken(by_run, geometry):
    """The share of weights that meet padding beside the breaking point, from `by_run` and the frame ``dead_weights``.

    One row per cell whose geometry is known: paper_dataset, architecture, rf_level, breaking_point (mean over seeds),
    seeds, image_px, dead, starved, beyond.
    """
    of = by_run.groupby(CELL, sort=False)["breaking_point"]
    cells = of.agg(breaking_point="mean", seeds="size").reset_index()
    cells["image_px"] = cells["paper_dataset"].map(IMAGE_PX)
    return cells.merge(geometry[[*SHAPE, "dead", "starved", "beyond"]], on=SHAPE)


def author_at_usable_rates(author, dead):
    """The author's one-shot pruned networks, of `rfkit.tables.author_runs`, at rates of the weights that can matter.

    One row per network and rate: dataset, architecture, rf_level, source (``"tables"`` or ``"rerun of 2024"``),
    pruning_rate, dead (share, of the frame ``dead_weights`` at full width), usable_rate, gap (points of accuracy lost).
    Dead weights are taken to go first: under the author's schedule they have decayed to 3e-9 of their size.
    """
    rerun = author["note"].str.contains("2024 rerun", na=False)
    source, image_px = np.where(rerun, "rerun of 2024", "tables"), author["dataset"].map(IMAGE_PX)
    rows = author.assign(source=source, image_px=image_px)
    rows = rows[(rows["fine_tuned"] == 0) & (rows["paper_table"].notna() | rerun)]
    rows = rows.merge(dead[[*SHAPE, "dead"]], on=SHAPE)
    rows["usable_rate"] = ((rows["pruning_rate"] - rows["dead"]) / (1 - rows["dead"])).clip(lower=0)
    return rows[["dataset", "architecture", "rf_level", "source", "pruning_rate", "dead", "usable_rate", "gap"]]


def breaking_point(rates, accuracies, drop=DROP_POINTS):
    """The pruning rate at which accuracy (percent) has fallen `drop` points below dense, by linear interpolation.

    Rates must rise from 0, the dense network, and accuracies be finite, else it is a ValueError. Where accuracy never
    falls that far, it is the last rate.
    """
    if not len(rates) or rates[0] != 0:
        raise ValueError(f"rates are {list(rates)}; expected 0, the dense network, first")
    if not np.isfinite(accuracies).all():
        raise ValueError(f"accuracies are {list(accuracies)}; expected finite numbers")
    floor = accuracies[0] - drop
    for (left, high), (right, low) in itertools.pairwise(zip(rates, accuracies, strict=True)):
        if low <= floor:
            return left + (high - floor) / (high - low) * (right - left)
    return rates[-1]


def refuse_mixed(frame):
    """Check that no two data sets stand beside one of the paper's."""
    if "data_label" in frame:
        refuse_same_size(frame[["paper_dataset", "data_label"]].drop_duplicates().itertuples(index=False))


def by_run(frame, tuned=None, drop=DROP_POINTS):
    """One row per run of the frame ``pruning`` or ``layer_pruning``: what is compared between receptive fields.

    paper_dataset, architecture, rf_level, seed, dense, breaking_point, breaking_point_reestimated (of accuracy with
    batch norm re-estimated) and the same in usable weights (usable_reestimated), top_rate (the highest rate run; a
    breaking point equal to it was not reached), and for the paper's rates that were run ``pruned_<rate>`` and
    ``gap_<rate>`` (dense minus pruned); gap_tuned where the run is in `tuned`, the frame ``fine_tune``. A `ConfigError`
    if runs on two data sets with images of one size would be taken for one.
    """
    refuse_mixed(frame)
    rows = []
    for run, part in frame.groupby(RUN, sort=False):
        part = part.sort_values("pruning_rate")
        rates, accuracy = part["pruning_rate"].tolist(), part["accuracy"].tolist()
        row = dict(zip(RUN, run, strict=True)) | {"dense": accuracy[0], "top_rate": rates[-1]}
        row["breaking_point"] = breaking_point(rates, accuracy, drop)
        if "reestimated_accuracy" in part:
            again = part["reestimated_accuracy"].tolist()
            row["breaking_point_reestimated"] = breaking_point(rates, again, drop)
            if "usable_sparsity" in part:
                row["usable_reestimated"] = breaking_point(part["usable_sparsity"].tolist(), again, drop)
        for rate, pruned in zip(rates, accuracy, strict=True):
            if rate in PAPER_RATES:
                row |= {f"pruned_{rate}": pruned, f"gap_{rate}": accuracy[0] - pruned}
        rows.append(row)
    breaks = ["breaking_point", "breaking_point_reestimated", "usable_reestimated"]
    result = pd.DataFrame(rows, columns=None if rows else [*RUN, "dense", "top_rate", *breaks])
    if tuned is None or tuned.empty or result.empty:
        return result
    gaps = tuned.assign(gap_tuned=tuned["dense"] - tuned["accuracy"])[[*RUN, "gap_tuned"]]
    return result.merge(gaps, how="left", on=RUN)


def near_chance(mean, std, count, chance, test_images):
    """Whether a cell is within two standard errors of chance, and so supports no ordering."""
    binomial = chance * (100 - chance) / test_images
    return abs(mean - chance) <= 2 * math.sqrt(binomial + (std or 0.0) ** 2 / count)


def floors(frame):
    """Which cells are near chance, at each pruning rate."""
    cells = frame.groupby([*CELL, "pruning_rate"], sort=False)
    about = ((key, part["accuracy"].tolist(), *part[["chance", "test_images"]].iloc[0]) for key, part in cells)
    return {key for key, values, *test in about if near_chance(*mean_std(values), len(values), *test)}


def sharpness(runs, curved=()):
    """Largest Hessian eigenvalue of each run that has one; before training also of untrained networks of that width.

    `curved` has results of the analysis ``initial_curvature``.
    """
    names = {"init": "top_eigenvalue_init", "final": "top_eigenvalue"}
    table = frame("spectrum", runs).pivot(index=RUN, columns="stage", values="top").reindex(columns=list(names))
    untrained = frame("initial_curvature", curved)
    untrained = untrained[untrained["changed"].isna() & untrained["width"].isin({run.config.width for run in runs})]
    untrained = untrained.rename(columns={"largest": "init"}).set_index(RUN)[["init"]]
    return table.combine_first(untrained).rename(columns=names).reset_index()
