"""What each run came to, as tidy frames: records in, one row a run or a rate out."""

import math

import numpy as np
import pandas as pd

from rfkit import records, spectra
from rfkit.config import ConfigError
from rfkit.files import read_reference
from rfkit.presets import PAPER_RATES
from rfkit.stats import mean_std

DROP_POINTS = 5.0
"""The breaking point is where accuracy has fallen this far below dense."""
ALPHA, MARGIN_POINTS = 0.05, 0.5
"""Level of significance, and how many points of accuracy count as no difference, both fixed before the study."""
CELL = ["paper_dataset", "architecture", "rf_level"]


def accuracies(runs):
    """Dense and pruned accuracy of each run, as a tidy data frame.

    Args:
        runs: List of `rfkit.store.Run` with a finished ``pruning`` analysis.

    Returns:
        Data frame with a row for each run and pruning rate (0 is dense): dataset, data_label, paper_dataset,
        architecture, rf_level, field_px, seed, chance, test_images, pruning_rate; in percent dense, accuracy,
        reestimated_accuracy (batch norm re-estimated) and train_accuracy; test_loss and train_loss; as fractions
        usable_sparsity (of the weights that can change the output); as ratios compression (parameters) and speed_up
        (multiplications, theoretical) of dense over pruned.
    """
    rows = []
    for run in runs:
        config = run.config
        about = records.describe(run) | {
            "dataset": config.dataset,
            "chance": 100 / config.num_classes,
            "test_images": config.test_images,
            "dense": run.summary["test_accuracy"],
        }
        analysis = run.newest("pruning")
        rows += [about | _point(analysis, i) for i in run.places(analysis["rates"])]
    return pd.DataFrame(rows)


def _point(analysis, i):
    """Columns of the rate at a place of a stored pruning analysis, whose first one is the dense network."""
    return {
        "pruning_rate": analysis["rates"][i],
        "accuracy": analysis["test_accuracy"][i],
        "test_loss": analysis["test_loss"][i],
        "train_accuracy": analysis["train_accuracy"][i],
        "train_loss": analysis["train_loss"][i],
        "reestimated_accuracy": analysis["reestimated_accuracy"][i],
        "usable_sparsity": 1 - analysis["usable_kept"][i] / sum(analysis["usable"]),
        "compression": analysis["parameters"][0] / analysis["parameters"][i],
        "speed_up": analysis["multiplications"][0] / analysis["multiplications"][i],
    }


def fine_tuned(runs):
    """Accuracy after pruning and fine-tuning of each run that has it.

    Args:
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame: data_label, paper_dataset, architecture, rf_level, field_px, seed, pruning_rate, epochs of
        fine-tuning; dense, pruned and accuracy (after fine-tuning) in percent. Empty columns where no run has it.
    """
    rows = [
        records.describe(run)
        | {
            "pruning_rate": tuned["rate"],
            "epochs": tuned["epochs"],
            "dense": run.summary["test_accuracy"],
            "pruned": tuned["pruned_accuracy"],
            "accuracy": tuned["test_accuracy"],
        }
        for run in runs
        if (tuned := run.newest("fine_tune"))
    ]
    columns = ("data_label", "paper_dataset", "architecture", "rf_level", "field_px", "seed", "pruning_rate", "epochs")
    return pd.DataFrame(rows, columns=[*columns, "dense", "pruned", "accuracy"])


def repruned(runs):
    """Accuracy of each run pruned at rates of its usable weights, the dead ones set to zero before.

    Args:
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame, one row a run and rate (0 is dense): as the columns of `accuracies` paper_dataset, architecture,
        rf_level, field_px, data_label, seed, dense, accuracy; usable_sparsity; kept (usable weights left). Runs that
        were not analysed so are left out; where no weight is dead, these are the rows of `accuracies`.
    """
    rows = []
    for run in runs:
        again, curve = run.newest("usable_pruning"), run.newest("pruning")
        if again is not None:
            source = again if again["dead"] else curve
            points = {source["rates"][i]: source["test_accuracy"][i] for i in run.places(source["rates"])}
            points[0.0] = dense = run.summary["test_accuracy"]
            about = records.describe(run) | {"dense": dense}
            rows += [
                about | {"usable_sparsity": rate, "accuracy": points[rate], "kept": round((1 - rate) * again["usable"])}
                for rate in sorted(points)
            ]
    columns = [*CELL, "data_label", "field_px", "seed", "dense", "usable_sparsity", "accuracy", "kept"]
    return pd.DataFrame(rows, columns=columns)


def usable_breaking_points(repruned):
    """Where accuracy has fallen 5 points below dense when only usable weights are pruned and counted.

    Args:
        repruned: As made by `repruned`.

    Returns:
        Data frame, one row a run: paper_dataset, architecture, rf_level, seed; usable, the rate; left, the usable
        weights that are left at it.
    """
    keys, rows = [*CELL, "seed"], []
    for key, part in repruned.sort_values("usable_sparsity").groupby(keys):
        point = breaking_point(part["usable_sparsity"].tolist(), part["accuracy"].tolist())
        rows.append([*key, point, (1 - point) * part["kept"].max()])
    return pd.DataFrame(rows, columns=[*keys, "usable", "left"])


def breaking_point(rates, accuracies, drop=DROP_POINTS):
    """The pruning rate at which accuracy has fallen some points below dense.

    Args:
        rates: Rates or sparsities in rising order, 0 (dense) first.
        accuracies: Percent, one a rate.
        drop: Points of accuracy.

    Returns:
        Fraction, by linear interpolation; the last rate if accuracy never falls that far.

    Raises:
        ValueError: If the first rate is not 0, or an accuracy is not finite.
    """
    if not len(rates) or rates[0] != 0:
        raise ValueError(f"rates are {list(rates)}; expected 0, the dense network, first")
    if not np.isfinite(accuracies).all():
        raise ValueError(f"accuracies are {list(accuracies)}; expected finite numbers")
    floor = accuracies[0] - drop
    for i in range(1, len(rates)):
        if accuracies[i] <= floor:
            share = (accuracies[i - 1] - floor) / (accuracies[i - 1] - accuracies[i])
            return rates[i - 1] + share * (rates[i] - rates[i - 1])
    return rates[-1]


def refuse_mixed(frame):
    """Check that no two data sets stand beside one of the paper's.

    Args:
        frame: Rows of runs with paper_dataset and data_label.

    Raises:
        ConfigError: If runs on two data sets with images of one size would be taken for one.
    """
    for labels in frame.groupby("paper_dataset")["data_label"].unique() if "data_label" in frame else []:
        if len(labels) > 1:
            raise ConfigError(
                f"runs on {', '.join(sorted(labels))} have images of one size and would be averaged; "
                "choose one of these data sets"
            )


def by_run(frame, tuned=None):
    """One row a run: what is compared between receptive fields.

    Args:
        frame: As made by `accuracies`.
        tuned: As made by `fine_tuned`.

    Returns:
        Data frame: paper_dataset, architecture, rf_level, seed, dense, breaking_point, breaking_point_reestimated (of
        accuracy with batch norm re-estimated), top_rate (the highest rate run, which a breaking point that was not
        reached equals), and for the paper's rates that were run ``pruned_<rate>`` and ``gap_<rate>`` (dense minus
        pruned); gap_tuned where the run was fine-tuned.

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
            row["breaking_point_reestimated"] = breaking_point(rates, part["reestimated_accuracy"].tolist())
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
    """Whether a cell is within two standard errors of chance, and so supports no ordering.

    Args:
        accuracies: Percent, one a seed.
        chance: Accuracy of guessing, in percent.
        test_images: Images behind each accuracy.

    Returns:
        True if it is at the floor. The standard error is the binomial one of the test set together with that over
        seeds.
    """
    return near_chance(*mean_std(list(accuracies)), len(accuracies), chance, test_images)


def near_chance(mean, std, count, chance, test_images):
    """`at_floor` from a mean and a standard deviation.

    Args:
        mean: Mean accuracy, in percent.
        std: Its sample standard deviation; None for a single seed.
        count: Seeds.
        chance: As in `at_floor`.
        test_images: As in `at_floor`.

    Returns:
        True if it is at the floor.
    """
    binomial = chance * (100 - chance) / test_images
    return abs(mean - chance) <= 2 * math.sqrt(binomial + (std or 0.0) ** 2 / count)


def floors(frame):
    """Which cells are at floor, at each pruning rate.

    Args:
        frame: As made by `accuracies`.

    Returns:
        Set of (paper_dataset, architecture, rf_level, pruning_rate).
    """
    return {
        key
        for key, part in frame.groupby([*CELL, "pruning_rate"], sort=False)
        if at_floor(part["accuracy"], part["chance"].iloc[0], part["test_images"].iloc[0])
    }


def sharpness(runs):
    """Largest Hessian eigenvalue of each run that has it.

    Args:
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame: paper_dataset, architecture, rf_level, seed, top_eigenvalue_init (untrained, batch norm
        calibrated), top_eigenvalue (trained).
    """
    names = {"init": "top_eigenvalue_init", "final": "top_eigenvalue"}
    table = spectra.of_runs(runs).pivot(index=[*CELL, "seed"], columns="stage", values="top")
    return table.reindex(columns=list(names)).rename(columns=names).reset_index()


def similarities(runs):
    """Pairs of seeds beside each other.

    Args:
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame, one row a pair and stage: data_label, paper_dataset, architecture, rf_level, field_px, seed (the
        pair as text, such as "0-1"), stage, similarity (mean of the diagonal, live layers), deep_similarity (of its
        deeper half), dead (number of dead layers in both networks), matrix and own (arrays), layers, barrier and line
        of the trained networks, images. Empty where no pair was compared.
    """
    rows = []
    for run in runs:
        pair = run.newest("pair")
        if pair is not None:
            for stage in spectra.STAGES:
                matrix = np.array(pair[stage]["matrix"], float)
                losses = np.array(pair["line"]["losses"])
                chord = np.linspace(losses[0], losses[-1], len(losses))
                rows.append(records.describe(run) | {
                    "seed": f"{pair['other_seed']}-{run.config.seed}",
                    "stage": stage,
                    "similarity": _live_mean(np.diagonal(matrix)),
                    "deep_similarity": _live_mean(np.diagonal(matrix)[len(matrix) // 2 :]),
                    "dead": len(pair[stage]["dead_a"]) + len(pair[stage]["dead_b"]),
                    "matrix": matrix,
                    "own": np.array(pair[stage]["self"], float),
                    "layers": pair["layers"],
                    "barrier": float(max(0.0, (losses - chord).max())),
                    "line": (np.array(pair["line"]["places"]), losses),
                    "images": pair["images"],
                })  # fmt: skip
    columns = [*CELL, "data_label", "field_px", "seed", "stage", "similarity", "deep_similarity", "dead"]
    return pd.DataFrame(rows, columns=[*columns, "matrix", "own", "layers", "barrier", "line", "images"])


def _live_mean(values):
    live = values[np.isfinite(values)]
    return float(live.mean()) if len(live) else float("nan")


def author_similarities():
    """Mean diagonals of the author's published matrices between two seeds of trained ResNet50.

    Returns:
        Data frame, one row a level: architecture, rf_level, similarity, deep_similarity. Exact zeros are dead layers;
        they are left out as ours are.

    Source:
        The author's public repository, https://github.com/Elluito/sparse_ensemble.
    """
    rows = read_reference("author_cka.csv")
    own = rows[rows["layer_model_a"] == rows["layer_model_b"]]
    result = []
    for (architecture, level), part in own.groupby(["architecture", "rf_level"]):
        values = part.sort_values("layer_model_a")["linear_cka"].replace(0.0, float("nan")).to_numpy()
        row = {"architecture": architecture, "rf_level": level, "similarity": _live_mean(values)}
        result.append(row | {"deep_similarity": _live_mean(values[len(values) // 2 :])})
    return pd.DataFrame(result)
