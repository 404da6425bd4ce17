"""What is compared between receptive fields: one row a run from the frames of the analyses."""

import math

import numpy as np
import pandas as pd

from rfkit.config import ConfigError
from rfkit.data import PUBLISHED
from rfkit.experiments import CELL, describe, frame, recorded
from rfkit.presets import CONTRAST_NETWORK, EQUAL_COMPUTATION, PAPER_RATES, SHORTER_EPOCHS
from rfkit.stats import mean_std

DROP_POINTS = 5.0
"""The breaking point is where accuracy has fallen this far below dense."""
ALPHA = 0.05
"""Level of significance, fixed before the study."""


def usable_breaking_points(repruned):
    """Where accuracy has fallen 5 points below dense when only usable weights are pruned and counted."""
    keys, rows = [*CELL, "seed"], []
    for key, part in repruned.sort_values("usable_sparsity").groupby(keys) if len(repruned) else ():
        point = breaking_point(part["usable_sparsity"].tolist(), part["accuracy"].tolist())
        rows.append([*key, point, (1 - point) * part["kept"].max()])
    return pd.DataFrame(rows, columns=[*keys, "usable", "left"])


def by_width(runs):
    """What is compared between networks of one kind and different width.

    Args:
        runs: As made by `rfkit.experiments.recorded_at_widths`.

    Returns:
        Data frame, one row a run: the columns of `by_run`; width, precision, prunable (weights); usable (breaking
        point in usable weights) and left (usable weights left there), missing where they were not measured.
    """
    kinds, parts = {}, []
    for run in runs:
        kinds.setdefault((run.config.width, run.config.train.precision), []).append(run)
    for (width, precision), same in kinds.items():
        counts = pd.DataFrame([describe(run) | {"prunable": run.summary["prunable_weights"]} for run in same])
        part, usable = by_run(frame("pruning", same)), usable_breaking_points(frame("usable_pruning", same))
        for more in (counts[[*CELL, "seed", "prunable"]], usable):
            part = part.merge(more, how="left", on=[*CELL, "seed"])
        parts.append(part.assign(width=width, precision=precision))
    columns = [*CELL, "seed", "dense", "breaking_point", "prunable", "usable", "left", "width", "precision"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def accuracy_controls(preset):
    """Each larger field beside the smallest one at equal cost, and where it fits the training images as badly.

    Args:
        preset: `rfkit.presets.Preset`, of which records are read.

    Returns:
        Data frame, one row a level above 1 and seed of the VGG19-like network on CIFAR-10: rf_level, seed, dense, and
        the dense accuracy of level 1, NaN where it is not recorded: narrow, at `EQUAL_COMPUTATION`; and read between
        the networks trained for `SHORTER_EPOCHS`, shorter, at as many multiplications in training, fitted, at the same
        training loss of the last epoch, fitted_after, at the same loss on training images after it.
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

    Args:
        by_run: As made by `by_run`.
        repruned: The frame of the analysis ``usable_pruning``.

    Returns:
        Data frame, one row a run that has both: paper_dataset, architecture, rf_level, seed; dead, the share d;
        usable, the breaking point b in usable weights; predicted; breaking_point, the measured one.
    """
    usable = usable_breaking_points(repruned).merge(
        repruned.drop_duplicates([*CELL, "seed"])[[*CELL, "seed", "dead"]], on=[*CELL, "seed"]
    )
    both = usable.merge(by_run[[*CELL, "seed", "breaking_point"]], on=[*CELL, "seed"])
    both = both.assign(predicted=both["dead"] + (1 - both["dead"]) * both["usable"])
    return both[[*CELL, "seed", "dead", "usable", "predicted", "breaking_point"]]


def starved_and_broken(by_run, geometry):
    """The share of weights that meet padding beside the breaking point.

    Args:
        by_run: As made by `by_run`.
        geometry: The frame of the analysis ``dead_weights``.

    Returns:
        Data frame, one row a cell: paper_dataset, architecture, rf_level, breaking_point (mean over seeds), seeds,
        image_px, dead, starved, beyond. Cells whose geometry is not there are left out.
    """
    cells = by_run.groupby(CELL, sort=False)["breaking_point"].agg(["mean", "size"]).reset_index()
    cells = cells.rename(columns={"mean": "breaking_point", "size": "seeds"})
    cells["image_px"] = cells["paper_dataset"].map({name: about.image_size for name, about in PUBLISHED.items()})
    shares = geometry[["architecture", "rf_level", "image_px", "dead", "starved", "beyond"]]
    return cells.merge(shares, on=["architecture", "rf_level", "image_px"])


def author_at_usable_rates(author, dead):
    """The author's one-shot pruned networks, their rates counted in weights that can matter.

    Args:
        author: As made by `rfkit.tables.author_runs`.
        dead: The frame of the analysis ``dead_weights`` at full width.

    Returns:
        Data frame, one row a network and rate: dataset, architecture, rf_level, source (``"tables"`` or ``"rerun of
        2024"``), pruning_rate, dead (share), usable_rate, gap (points of accuracy lost). Dead weights are taken to go
        first: under the author's schedule they have decayed to 3e-9 of their size.
    """
    rerun = author["note"].str.contains("2024 rerun", na=False)
    rows = author[(author["fine_tuned"] == 0) & (author["paper_table"].notna() | rerun)].copy()
    rows["source"] = np.where(rows["note"].str.contains("2024 rerun", na=False), "rerun of 2024", "tables")
    rows["image_px"] = rows["dataset"].map({name: about.image_size for name, about in PUBLISHED.items()})
    rows["gap"] = rows["dense_test_accuracy"] - rows["pruned_test_accuracy"]
    rows = rows.merge(
        dead[["architecture", "rf_level", "image_px", "dead"]], on=["architecture", "rf_level", "image_px"]
    )
    rows["usable_rate"] = ((rows["pruning_rate"] - rows["dead"]) / (1 - rows["dead"])).clip(lower=0)
    return rows[
        ["dataset", "architecture", "rf_level", "source", "pruning_rate", "dead", "usable_rate", "gap"]
    ].reset_index(drop=True)


def breaking_point(rates, accuracies, drop=DROP_POINTS):
    """The pruning rate at which accuracy has fallen some points below dense.

    Args:
        rates: Rates or sparsities in rising order, 0 (dense) first.
        accuracies: Percent, one a rate.
        drop: Points of accuracy.

    Returns:
        Fraction, by linear interpolation; the last rate if accuracy never falls that far.

    Raises:
        ValueError: If the first rate is not 0, the drop not positive, or an accuracy not finite.
    """
    if not len(rates) or rates[0] != 0:
        raise ValueError(f"rates are {list(rates)}; expected 0, the dense network, first")
    if not drop > 0:
        raise ValueError(f"drop is {drop!r}; expected a positive number of points")
    if not np.isfinite(accuracies).all():
        raise ValueError(f"accuracies are {list(accuracies)}; expected finite numbers")
    floor = accuracies[0] - drop
    for i in range(1, len(rates)):
        if accuracies[i] <= floor:
            share = (accuracies[i - 1] - floor) / (accuracies[i - 1] - accuracies[i])
            return rates[i - 1] + share * (rates[i] - rates[i - 1])
    return rates[-1]


def refuse_mixed(frame):
    """Check that no two data sets stand beside one of the paper's."""
    for labels in frame.groupby("paper_dataset")["data_label"].unique() if "data_label" in frame else []:
        if len(labels) > 1:
            raise ConfigError(
                f"runs on {', '.join(sorted(labels))} have images of one size and would be averaged; "
                "choose one of these data sets"
            )


def by_run(frame, tuned=None):
    """One row a run: what is compared between receptive fields.

    Args:
        frame: The frame of the analysis ``pruning``, or ``layer_pruning``.
        tuned: The frame of the analysis ``fine_tune``.

    Returns:
        Data frame: paper_dataset, architecture, rf_level, seed, dense, breaking_point, breaking_point_reestimated (of
        accuracy with batch norm re-estimated) and the same in usable weights (usable_reestimated), top_rate (the
        highest rate run, which a breaking point that was not reached equals), and for the paper's rates that were run
        ``pruned_<rate>`` and ``gap_<rate>`` (dense minus pruned); gap_tuned where the run was fine-tuned.

    Raises:
        ConfigError: If runs on two data sets with images of one size would be taken for one.
    """
    refuse_mixed(frame)
    rows = []
    for (dataset, architecture, level, seed), part in frame.groupby([*CELL, "seed"], sort=False):
        part = part.sort_values("pruning_rate")
        rates, accuracy = part["pruning_rate"].tolist(), part["accuracy"].tolist()
        row = {"paper_dataset": dataset, "architecture": architecture, "rf_level": level, "seed": seed}
        row |= {"dense": accuracy[0], "breaking_point": breaking_point(rates, accuracy), "top_rate": rates[-1]}
        if "reestimated_accuracy" in part:
            again = part["reestimated_accuracy"].tolist()
            row["breaking_point_reestimated"] = breaking_point(rates, again)
            if "usable_sparsity" in part:
                row["usable_reestimated"] = breaking_point(part["usable_sparsity"].tolist(), again)
        for rate in PAPER_RATES:
            if rate in rates:
                row[f"pruned_{rate}"] = accuracy[rates.index(rate)]
                row[f"gap_{rate}"] = accuracy[0] - row[f"pruned_{rate}"]
        rows.append(row)
    result = pd.DataFrame(rows)
    if tuned is None or tuned.empty or result.empty:
        return result
    gaps = tuned.assign(gap_tuned=tuned["dense"] - tuned["accuracy"])[[*CELL, "seed", "gap_tuned"]]
    return result.merge(gaps, how="left", on=[*CELL, "seed"])


def at_floor(accuracies, chance, test_images):
    """Whether a cell is within two standard errors of chance, and so supports no ordering."""
    return near_chance(*mean_std(list(accuracies)), len(accuracies), chance, test_images)


def near_chance(mean, std, count, chance, test_images):
    """`at_floor` from a mean and a standard deviation."""
    binomial = chance * (100 - chance) / test_images
    return abs(mean - chance) <= 2 * math.sqrt(binomial + (std or 0.0) ** 2 / count)


def floors(frame):
    """Which cells are at floor, at each pruning rate."""
    return {
        key
        for key, part in frame.groupby([*CELL, "pruning_rate"], sort=False)
        if at_floor(part["accuracy"], part["chance"].iloc[0], part["test_images"].iloc[0])
    }


def sharpness(runs, curved=()):
    """Largest Hessian eigenvalue of each run that has it; before training also of networks that were not trained.

    Args:
        runs: List of `Run`.
        curved: Results of the analysis ``initial_curvature``; those of the runs' width count.
    """
    names, keys = {"init": "top_eigenvalue_init", "final": "top_eigenvalue"}, [*CELL, "seed"]
    table = frame("spectrum", runs).pivot(index=keys, columns="stage", values="top").reindex(columns=list(names))
    untrained = frame("initial_curvature", curved)
    untrained = untrained[untrained["changed"].isna() & untrained["width"].isin({run.config.width for run in runs})]
    untrained = untrained.rename(columns={"largest": "init"}).set_index(keys)[["init"]]
    return table.combine_first(untrained).rename(columns=names).reset_index()
