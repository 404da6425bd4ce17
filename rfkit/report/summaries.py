"""Tables of our own, as readers see them: records or frames in, words and rounded numbers out."""

import math
from fractions import Fraction

import pandas as pd

from rfkit import experiments, outcomes, presets
from rfkit.config import PROTOCOLS
from rfkit.data import DATASET_LABELS
from rfkit.stats import mean_std, paired_interval
from rfkit.tables import ARCHITECTURE_LABELS, MISSING


def trend_table(frame):
    """How accuracy moves with the receptive field, at every pruning rate."""
    rows = []
    for (label, architecture, rate), part in frame.groupby(["data_label", "architecture", "pruning_rate"], sort=False):
        means = part.groupby("rf_level")["accuracy"].mean()
        steps = means.diff().dropna()
        ordered = len(means) > 1 and not outcomes.floors(part)
        if ordered:
            direction = "falls" if (steps < 0).all() else "rises" if (steps > 0).all() else "not monotone"
        else:
            direction = "near chance" if len(means) > 1 else MISSING
        correlation = part[["rf_level", "accuracy"]].corr("spearman").iloc[0, 1] if ordered else float("nan")
        rows.append(
            {"Network": ARCHITECTURE_LABELS.get(architecture, architecture), "Data": label}
            | {"Rate": "dense" if rate == 0 else f"{rate:g}"}
            | {f"Level {level}": f"{mean:.1f}" for level, mean in means.items()}
            | {"Rank correlation": MISSING if pd.isna(correlation) else f"{correlation:+.2f}"}
            | {"As the field grows": direction}
        )
    return pd.DataFrame(rows).fillna(MISSING)


def level_table(theory, measured, paper, map_sizes):
    """Fields of the paper's networks: as printed, traced, measured, with the size of the last map."""
    return pd.DataFrame([
        {
            "Network": ARCHITECTURE_LABELS.get(name, f"`{name}`"),
            "Level": level,
            "Field, paper (px)": paper.get((name, level), MISSING),
            "Traced (px)": _pair(field.size),
            "Measured (px)": _pair(measured[name, level].size),
            "Stride (px)": _pair(field.stride),
            "Map at 32 px": map_sizes[name, level][0],
            "Map at 64 px": map_sizes[name, level][1],
        }
        for (name, level), field in theory.items()
    ])


def breaking_point_table(by_run, repruned):
    """Where accuracy has fallen 5 points below dense, on both scales of sparsity."""
    rows = []
    by_run = by_run.merge(outcomes.usable_breaking_points(repruned), how="left", on=[*experiments.CELL, "seed"])
    for (dataset, architecture, level), cell in by_run.groupby(experiments.CELL, sort=False):
        rows.append({
            "Network": ARCHITECTURE_LABELS.get(architecture, architecture),
            "Data (by image size)": DATASET_LABELS.get(dataset, dataset),
            "Level": level,
            "Dense (%)": _spread(cell["dense"], 2),
            "Breaking point": _reached(cell, "breaking_point"),
            "Counted in usable weights": _reached(cell, "usable"),
            "Batch norm re-estimated": _reached(cell, "breaking_point_reestimated"),
            "Seeds": len(cell),
        })  # fmt: skip
    return pd.DataFrame(rows)


def width_table(by_width):
    """Accuracy and breaking points at every width."""
    rows = []
    keys = ["architecture", "rf_level", "width", "precision"]
    for (architecture, level, width, precision), cell in by_width.groupby(keys):
        rows.append({
            "Network": ARCHITECTURE_LABELS.get(architecture, architecture),
            "Level": level,
            "Width": str(Fraction(width)) + ("" if precision == "float32" else f", {precision}"),
            "Prunable weights": f"{cell['prunable'].iloc[0]:,.0f}",
            "Dense (%)": _spread(cell["dense"], 1),
            "Pruned at 0.9 (%)": _spread(cell["pruned_0.9"], 1),
            "Breaking point": _reached(cell, "breaking_point"),
            "Counted in usable weights": _reached(cell, "usable"),
            "Usable weights left there": f"{cell['left'].mean():,.0f}",
            "Seeds": len(cell),
        })  # fmt: skip
    return pd.DataFrame(rows)


def usable_weight_table(runs):
    """How many prunable weights can change the output, network by network."""
    rows = {}
    for run in runs:
        config, analysis = run.config, run.result("pruning")
        prunable, kept = sum(analysis["prunable"]), sum(analysis["usable"])
        dead = [name for name, n, k in zip(*map(analysis.get, ("layers", "prunable", "usable")), strict=True) if k < n]
        rows.setdefault((config.dataset, config.architecture, config.level), {
            "Network": ARCHITECTURE_LABELS.get(config.architecture, config.architecture),
            "Data": run.provenance["data"]["label"],
            "Level": config.level,
            "Prunable weights": f"{prunable:,}",
            "Usable": f"{kept:,}",
            "Dead (%)": f"{100 * (1 - kept / prunable):.1f}",
            "Layers with dead weights": f"{len(dead)} of {len(analysis['layers'])}",
            "Shrink factor": f"{run.summary['shrink_factor']:.2g}",
        })  # fmt: skip
    return pd.DataFrame(rows.values())


def protocol_table(runs):
    """What the ways of training come to on one network."""
    cells, rows = {}, []
    for run in runs:
        cells.setdefault((run.config.level, run.config.protocol, run.config.train), []).append(run)
    for level, protocol, train in sorted(cells, key=lambda cell: (cell[0], PROTOCOLS.index(cell[1]))):
        here = cells[level, protocol, train]
        frame = experiments.frame("pruning", here)
        dense, each = frame[frame["pruning_rate"] == 0], outcomes.by_run(frame)
        rows.append({
            "Level": level,
            "Protocol": f"`{protocol}`",
            "Epochs": train.epochs,
            "Train (%)": _spread(dense["train_accuracy"], 1),
            "Dense (%)": _spread(dense["accuracy"], 1),
            "Pruned at 0.9 (%)": _spread(each["pruned_0.9"], 1),
            "Breaking point": _spread(each["breaking_point"], 3),
            "Shrink factor": f"{here[0].summary['shrink_factor']:.2g}",
            "Seeds": len(here),
        })  # fmt: skip
    return pd.DataFrame(rows)


def changed_network_table(runs):
    """What the networks of the contrasts are like after training, whatever a contrast asks of them."""
    frame = experiments.frame("pruning", runs)
    dense = frame[frame["pruning_rate"] == 0].merge(
        outcomes.sharpness(runs), how="left", on=[*experiments.CELL, "seed"]
    )
    dense["gap"] = dense["train_accuracy"] - dense["accuracy"]
    order = {architecture: place for place, architecture in enumerate(presets.CONTRAST_LABELS)}
    dense = dense.sort_values(["paper_dataset", "architecture", "rf_level"], key=lambda column: column.replace(order))
    rows = []
    for (dataset, architecture, level), cell in dense.groupby(experiments.CELL, sort=False):
        rows.append({
            "Data (by image size)": DATASET_LABELS.get(dataset, dataset),
            "Network": presets.contrast_label(architecture, level),
            "Train (%)": _spread(cell["train_accuracy"], 1),
            "Dense (%)": _spread(cell["accuracy"], 1),
            "Train − test (points)": _spread(cell["gap"], 1),
            "Largest eigenvalue before training": _spread(cell["top_eigenvalue_init"].dropna(), 0),
            "and after": _spread(cell["top_eigenvalue"].dropna(), 0),
            "Seeds": len(cell),
        })  # fmt: skip
    return pd.DataFrame(rows)


def cost_table(frame):
    """What pruning saves, by the reporting standard of Blalock et al. (2020), and what it costs in accuracy."""
    keys = ["data_label", "architecture", "rf_level", "pruning_rate"]
    means = frame.groupby(keys, sort=False).mean(numeric_only=True).reset_index()
    return pd.DataFrame({
        "Network": means["architecture"].map(lambda name: ARCHITECTURE_LABELS.get(name, name)),
        "Data": means["data_label"],
        "Level": means["rf_level"],
        "Rate": means["pruning_rate"].map(lambda rate: f"{rate:g}"),
        "Compression": means["compression"].map("{:.1f}×".format),
        "Speed-up (theoretical)": means["speed_up"].map("{:.1f}×".format),
        "Test (%)": means["accuracy"].map("{:.1f}".format),
        "Batch norm re-estimated (%)": means["reestimated_accuracy"].map("{:.1f}".format),
        "Train (%)": means["train_accuracy"].map("{:.1f}".format),
    })  # fmt: skip


def similarity_table(found):
    """Similarity of two seeds beside the author's, for readers."""
    author = experiments.author_similarities().set_index(["architecture", "rf_level"])
    rows = []
    for (data, *key), part in found.groupby(["data_label", "architecture", "rf_level"], sort=False):
        row = {"Network": ARCHITECTURE_LABELS.get(key[0], key[0]), "Data": data, "Level": key[1]}
        known = author.loc[tuple(key)] if tuple(key) in author.index else None
        row["Author, all layers"] = MISSING if known is None else f"{known['similarity']:.3f}"
        row["Author, deep half"] = MISSING if known is None else f"{known['deep_similarity']:.3f}"
        for stage, words in (("init", "before"), ("final", "after")):
            cell = part[part["stage"] == stage]
            row[f"All layers, {words}"] = _spread(cell["similarity"], 3)
            row[f"Deep half, {words}"] = _spread(cell["deep_similarity"], 3)
        final = part[part["stage"] == "final"]
        row |= {"Dead layers": str(final["dead"].sum()), "Barrier": _spread(final["barrier"], 2), "Pairs": len(final)}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table if found["data_label"].nunique() > 1 else table.drop(columns="Data", errors="ignore")


def control_table(controls):
    """Why larger fields are less accurate: each beside level 1 of as many multiplications, and of its training loss."""
    rows = []
    for level, part in controls.groupby("rf_level"):
        row = {"Level": level, "Training loss": _spread(part["loss"], 2), "Dense (%)": _spread(part["dense"], 1)}
        for column, words in (("narrow", "as many multiplications"), ("fitted", "the same training loss")):
            both = part.dropna(subset=[column])
            row[f"Level 1 of {words} (%)"] = _spread(both[column], 1)
            low, high = paired_interval(both["dense"], both[column]) if len(both) > 1 else (math.nan, math.nan)
            row[f"Difference at {words}, 95 %"] = f"{low:+.1f} to {high:+.1f}" if len(both) > 1 else MISSING
        rows.append(row | {"Seeds": int(part[["narrow", "fitted"]].notna().any(axis=1).sum())})
    return pd.DataFrame(rows)


def matched_table(found):
    """The way between two seeds, before and after the channels of one are put in the other's order."""
    rows = []
    for (network, level), part in found.groupby(["architecture", "rf_level"], sort=False):
        row = {"Network": ARCHITECTURE_LABELS.get(network, network), "Level": level}
        for name, words in (("as_trained", "as trained"), ("matched", "matched")):
            row[f"Barrier, {words}"] = _spread(part[f"{name}_barrier"], 2)
            row[f"Least accuracy, {words} (%)"] = _spread(part[f"{name}_least"], 0)
        rows.append(row | {"Pairs": len(part)})
    return pd.DataFrame(rows)


def spectrum_table(found):
    """Hessian before and after training, for readers."""
    outcomes.refuse_mixed(found)
    rows = []
    for (architecture, level), part in found.groupby(["architecture", "rf_level"], sort=False):
        row = {"Network": ARCHITECTURE_LABELS.get(architecture, architecture), "Level": level}
        for stage, words in experiments.STAGES.items():
            cell = part[part["stage"] == stage]
            row[f"Largest, {words}"] = _three(cell["top"].mean())
            row[f"Smallest, {words}"] = _three(cell["smallest"].mean())
            row[f"Width, {words}"] = _three(cell["width"].mean())
            row[f"Negative (%), {words}"] = f"{100 * cell['negative_mass'].mean():.0f}"
        rows.append(row | {"Seeds": part["seed"].nunique()})
    return pd.DataFrame(rows)


def untrained_spectrum_table(found):
    """Hessian of untrained networks, for readers."""
    return pd.DataFrame([
        {
            "Network": ARCHITECTURE_LABELS.get(row.architecture, row.architecture),
            "Level": row.rf_level,
            "Field (px)": str(row.field_px),
            "Largest": _three(row.values_[0]),
            "10th": _three(row.values_[9]),
            "90th": _three(row.values_[89]),
            "Smallest": _three(row.smallest),
            "Width": _three(row.width),
            "Negative (%)": f"{100 * row.negative_mass:.0f}",
        }
        for row in found.rename(columns={"values": "values_"}).itertuples()
    ])


def author_ritz_table():
    """Extreme Ritz values in the author's files, for readers."""
    found = experiments.author_ritz_values().query("dataset == 'cifar10' and rf_level > 0")
    rows = [
        {
            "Network": ARCHITECTURE_LABELS.get(row.architecture, row.architecture),
            "Level": row.rf_level,
            "Stage": row.stage,
            "Augmented": row.random_augmentation,
            "Smallest": _three(row.min_ritz),
            "Largest": _three(row.max_ritz),
        }
        for row in found.sort_values(["architecture", "stage", "random_augmentation", "rf_level"]).itertuples()
    ]
    return pd.DataFrame(rows)


def sharpness_variant_table(runs):
    """The largest eigenvalue before training under other choices, one column a run."""
    columns = {}
    for run in runs:
        spectrum = run.result("spectrum")
        if spectrum is not None:
            found = {key: _three(value) for key, value in spectrum["variants"].items()}
            columns.setdefault(f"Level {run.config.level}", found)
    return pd.DataFrame(columns).rename_axis("Choice").reset_index()


def predicted_table(points):
    """Where networks with dead weights should break, and do."""
    rows = []
    for (dataset, architecture, level), cell in points[points["dead"] > 0].groupby(experiments.CELL, sort=False):
        known = architecture in presets.CONTRAST_LABELS and architecture != presets.CONTRAST_NETWORK
        name = ARCHITECTURE_LABELS.get(architecture, architecture)
        rows.append({
            "Network": presets.contrast_label(architecture, level) if known else f"{name}, level {level}",
            "Data (by image size)": DATASET_LABELS.get(dataset, dataset),
            "Dead share d": f"{cell['dead'].mean():.3f}",
            "Breaks at b of the usable weights": _spread(cell["usable"], 3),
            "Predicted d + (1 − d)·b": _spread(cell["predicted"], 3),
            "Measured": _spread(cell["breaking_point"], 3),
            "Seeds": len(cell),
        })  # fmt: skip
    return pd.DataFrame(rows)


def rerun_table(author):
    """The author's rerun of 2024 beside the networks of Table 1: points of accuracy lost."""
    cifar = author[(author["dataset"] == "cifar10") & (author["fine_tuned"] == 0)]
    cifar = cifar.assign(gap=cifar["dense_test_accuracy"] - cifar["pruned_test_accuracy"])
    again = cifar[cifar["note"].str.contains("2024 rerun", na=False)]
    rows = []
    for (architecture, level), cell in again.groupby(["architecture", "rf_level"], sort=False):
        same = (cifar["architecture"] == architecture) & (cifar["rf_level"] == level) & cifar["paper_table"].notna()
        lost = cell.groupby("pruning_rate")["gap"].mean()
        rows.append({
            "Network": ARCHITECTURE_LABELS.get(architecture, architecture),
            "Level": level,
            "Lost at 0.9, Table 1": f"{cifar[same & (cifar['pruning_rate'] == 0.9)]['gap'].mean():.1f}",
            "Lost at 0.9, rerun": f"{lost[0.9]:.1f}",
            "Lost at 0.95, rerun": f"{lost[0.95]:.1f}",
            "Networks of the rerun": int((cell["pruning_rate"] == 0.9).sum()),
        })  # fmt: skip
    return pd.DataFrame(rows).sort_values(["Network", "Level"], ascending=[False, True])


def unused_rows_table(author):
    """Rows of the author's files that no table uses and that bear on the claim: batch 32, levels 5 to 7."""
    small = author["note"].str.contains("batch size 32", na=False)
    beyond = author["note"].str.contains("levels 5-7", na=False)
    rows = []
    for about, chosen in (("trained with batches of 32", small), ("level pools 5 to 7", beyond)):
        cells = author[chosen & (author["fine_tuned"] == 0)].groupby(["dataset", "architecture", "rf_level"])
        for (dataset, architecture, level), cell in cells:
            dense, pruned = cell["dense_test_accuracy"], cell["pruned_test_accuracy"]
            rows.append({
                "What": about,
                "Network": ARCHITECTURE_LABELS.get(architecture, architecture),
                "Data": DATASET_LABELS.get(dataset, dataset),
                "Level": level,
                "Dense (%)": _spread(dense, 2),
                "Pruned at 0.9 (%)": _spread(pruned, 2),
                "Largest difference": f"{(dense - pruned).abs().max():.2f}",
                "Networks": len(cell),
            })  # fmt: skip
    return pd.DataFrame(rows)


def blocks_table(probes):
    """What the last residual blocks are worth: accuracy with them and with the identity in their place."""
    runs = probes[probes["without_blocks"].notna()].drop_duplicates([*experiments.CELL, "seed"])
    return pd.DataFrame([
        {
            "Network": ARCHITECTURE_LABELS.get(architecture, architecture),
            "Level": level,
            "Dense (%)": _spread(cell["dense"], 1),
            "Without its last two blocks (%)": _spread(cell["without_blocks"].astype(float), 1),
            "Lost": _spread(cell["dense"] - cell["without_blocks"].astype(float), 1),
            "Seeds": len(cell),
        }
        for (_, architecture, level), cell in runs.groupby(experiments.CELL, sort=False)
    ])


def curvature_table(found):
    """The largest Hessian eigenvalue of untrained networks, one change at a time."""
    rows = []
    for change, cell in found.groupby("change", sort=False):
        row = {"Untrained network": change, "Last map": f"{cell['map'].iloc[0]}×{cell['map'].iloc[0]}"}
        for width in sorted(set(found["width"])):
            values = cell[cell["width"] == width]["largest"]
            title = "Full width" if width == 1 else f"Width {width:g}"
            row[f"{title} (seeds)"] = f"{_spread(values, 0)} ({len(values)})" if len(values) else MISSING
        rows.append(row)
    return pd.DataFrame(rows)


def recipe_table(made):
    """What networks of the homework's question 4 cost and reach."""
    names, found = [each["name"] for each in made], experiments.frame("recipe", made)
    return pd.DataFrame([
        {
            "Network": name,
            "Data": row.data_label,
            "Parameters": f"{row.parameters:,}",
            "Epochs": row.epochs,
            "Minutes": f"{row.wall_seconds / 60:.1f}",
            "Test accuracy (%)": f"{row.test_accuracy:.1f}",
        }
        for name, row in zip(names, found.itertuples(), strict=True)
    ])


def _reached(cell, column):
    beyond = (cell[column] >= cell["top_rate"]).any()
    return ("≥ " if beyond else "") + _spread(cell[column].dropna(), 3)


def _spread(values, digits):
    if len(values) == 0:
        return MISSING
    mean, std = mean_std(list(values))
    return f"{mean:.{digits}f}" if std is None else f"{mean:.{digits}f} ± {std:.{digits}f}"


def _three(value):
    """A number with three significant digits; large and small ones with a power of ten."""
    if pd.isna(value):
        return MISSING
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{float(f'{value:.3g}'):,.{digits}f}"
    mantissa, power = f"{value:.2e}".split("e")
    return f"{mantissa}·10" + str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _pair(values, separator="×"):
    values = [f"{value:g}" for value in values]
    return values[0] if len(set(values)) == 1 and separator == "×" else separator.join(values)


def published_networks_table(found):
    """Receptive fields of published networks, the most accurate first."""

    def px(value):
        return MISSING if pd.isna(value) else "all" if value == float("inf") else f"{value:g}"

    return pd.DataFrame([
        {
            "Network": row.network,
            "Top-1 (%)": f"{row.top1:.1f}",
            "Image (px)": row.image_px,
            "Field (px)": px(row.field_px),
            "Convolutions alone (px)": px(row.convolutions_px),
            "Half of gradient (px)": px(row.half_px),
            "Step (px)": px(row.stride),
            "Last map": px(row.map),
            "Weights (M)": f"{row.parameters / 1e6:.1f}",
            "Why": row.why or MISSING,
        }
        for row in found.sort_values("top1", ascending=False).itertuples()
    ])
