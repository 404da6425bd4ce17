"""Tables of our own, as readers see them: records or frames in, words and rounded numbers out."""

import itertools
from fractions import Fraction

import pandas as pd

from rfkit import experiments, outcomes, presets
from rfkit.config import PROTOCOLS
from rfkit.data import DATASET_LABELS
from rfkit.files import read_reference
from rfkit.stats import mean_std, paired_interval
from rfkit.tables import ARCHITECTURE_LABELS, MISSING, three


def trend_table(frame):
    """How accuracy moves with the receptive field, at every pruning rate."""
    rows = []
    for (label, architecture, rate), part in frame.groupby(["data_label", "architecture", "pruning_rate"], sort=False):
        means = part.groupby("rf_level")["accuracy"].mean()
        steps = means.diff().dropna()
        low = sorted({level for *_, level, _ in outcomes.floors(part)})
        ordered = len(means) > 1 and not low
        if ordered:
            direction = "falls" if (steps < 0).all() else "rises" if (steps > 0).all() else "not monotone"
        else:
            direction = f"level {', '.join(map(str, low))} near chance" if len(means) > 1 else MISSING
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
    by_run = by_run.merge(outcomes.usable_breaking_points(repruned), how="left", on=[*experiments.CELL, "seed"])
    return _cells(by_run, ["architecture", "paper_dataset", "rf_level"], {
        "Dense (%)": ("dense", 2), "Breaking point": "breaking_point", "Counted in usable weights": "usable",
        "Batch norm re-estimated": "breaking_point_reestimated", "Both": ("usable_reestimated", 3),
    })  # fmt: skip


def layer_pruning_table(by_run, by_layer):
    """Where a network breaks if all weights are ranked at once, and if those of each layer are."""
    keys, breaks = [*experiments.CELL, "seed"], ["breaking_point", "breaking_point_reestimated"]
    both = by_layer.merge(by_run[[*keys, *breaks]], on=keys, suffixes=("", "_at_once"))
    return _cells(both, ["architecture", "rf_level"], {
        "All layers at once": ("breaking_point_at_once", 3), "Each layer for itself": "breaking_point",
        "Batch norm re-estimated, at once": ("breaking_point_reestimated_at_once", 3),
        "Batch norm re-estimated, each": "breaking_point_reestimated",
    })  # fmt: skip


def width_table(by_width):
    """Accuracy and breaking points at every width; of the frame that `rfkit.outcomes.by_width` makes."""
    keys, numbers = ["architecture", "rf_level", "Width"], ["architecture", "rf_level", "width", "precision"]
    ordered = by_width.sort_values(numbers, ascending=[False, True, True, True], kind="stable")
    precision = ordered["precision"].map(lambda name: "" if name == "float32" else f", {name}")
    return _cells(ordered.assign(Width=ordered["width"].map(lambda width: str(Fraction(width))) + precision), keys, {
        "Dense (%)": ("dense", 1), "Pruned at 0.9 (%)": ("pruned_0.9", 1), "Breaking point": "breaking_point",
        "Counted in usable weights": "usable", "Batch norm re-estimated too": ("usable_reestimated", 3),
        "Usable left (thousand)": lambda cell: f"{cell['left'].mean() / 1000:,.1f}",
    })  # fmt: skip


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
    names = [presets.contrast_label(*cell) for cell in zip(dense["architecture"], dense["rf_level"], strict=True)]
    return _cells(dense.assign(architecture=names), ["paper_dataset", "architecture"], {
        "Train (%)": ("train_accuracy", 1), "Dense (%)": ("accuracy", 1), "Train − test (points)": ("gap", 1),
        "Largest eigenvalue before training": ("top_eigenvalue_init", 0),
        "Largest eigenvalue after training": ("top_eigenvalue", 0),
    })  # fmt: skip


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
        row |= {"Dead layers": str(final["dead"].sum()), "Pairs": len(final)}
        rows.append(row)
    table = pd.DataFrame(rows)
    return table if found["data_label"].nunique() > 1 else table.drop(columns="Data", errors="ignore")


CONTROLS = {
    "narrow": "narrowed to as many multiplications",
    "shorter": "trained with as many multiplications",
    "fitted": "at the same loss in the last epoch",
    "fitted_after": "at the same loss after training",
}


def control_table(controls):
    """Why larger fields are less accurate: each beside level 1 at equal cost, or where it fits as badly."""
    rows = []
    for (level, part), (column, words) in itertools.product(controls.groupby("rf_level"), CONTROLS.items()):
        both = part.dropna(subset=[column])
        if len(both):
            ends = paired_interval(both["dense"], both[column]) if len(both) > 1 else ()
            rows.append({
                "Level": level,
                "Beside level 1": words,
                "Level (%)": _spread(both["dense"], 1),
                "Level 1 (%)": _spread(both[column], 1),
                "Level 1 ahead by": f"{(both[column] - both['dense']).mean():+.1f}",
                "95 %": " to ".join(f"{end:+.1f}" for end in ends) or MISSING,
                "Seeds": len(both),
            })  # fmt: skip
    return pd.DataFrame(rows)


def matched_table(found):
    """The way between two seeds, before and after the channels of one are put in the other's order."""
    columns = {}
    for name, words in (("as_trained", "as trained"), ("matched", "matched")):
        columns[f"Barrier, {words}"] = f"{name}_barrier", 2
        columns[f"Least accuracy, {words} (%)"] = f"{name}_least", 0
    return _cells(found, ["architecture", "rf_level"], columns, "Pairs")


def spectrum_table(found):
    """Hessian before and after training, for readers."""
    outcomes.refuse_mixed(found)
    rows = []
    for (architecture, level), part in found.groupby(["architecture", "rf_level"], sort=False):
        row = {"Network": ARCHITECTURE_LABELS.get(architecture, architecture), "Level": level}
        for stage, words in experiments.STAGES.items():
            cell = part[part["stage"] == stage]
            row[f"Largest, {words}"] = three(cell["top"].mean())
            row[f"Smallest, {words}"] = three(cell["smallest"].mean())
            row[f"Width, {words}"] = three(cell["width"].mean())
            row[f"Negative (%), {words}"] = f"{100 * cell['negative_mass'].mean():.0f}"
        rows.append(row | {"Seeds": part["seed"].nunique()})
    return pd.DataFrame(rows)


def untrained_spectrum_table(found):
    """Hessian of untrained networks, for readers."""
    ranked = [[values[rank] for rank in (0, 9, 89)] for values in found["values"]]
    found = found.join(pd.DataFrame(ranked, found.index, ["Largest", "10th", "90th"]))
    found = found.rename(columns={"smallest": "Smallest", "width": "Width"})
    columns = {n: lambda cell, n=n: three(cell[n].mean()) for n in ("Largest", "10th", "90th", "Smallest", "Width")}
    columns["Negative (%)"] = lambda cell: f"{100 * cell['negative_mass'].mean():.0f}"
    return _cells(found, ["architecture", "rf_level", "field_px"], columns)


def author_ritz_table():
    """Extreme Ritz values in the author's files, for readers."""
    found = read_reference("author_hessian_summary.csv").query("dataset == 'cifar10' and rf_level > 0")
    found = found.sort_values(["architecture", "stage", "random_augmentation", "rf_level"])
    found = found.assign(min_ritz=found["min_ritz"].map(three), max_ritz=found["max_ritz"].map(three))
    columns = ["architecture", "rf_level", "stage", "random_augmentation", "min_ritz", "max_ritz"]
    titles = ["Network", "Level", "Stage", "Augmented", "Smallest", "Largest"]
    return found[columns].replace({"architecture": ARCHITECTURE_LABELS}).set_axis(titles, axis=1)


def sharpness_variant_table(runs):
    """The largest eigenvalue before training under other choices, one column a run."""
    columns = {}
    for run in runs:
        spectrum = run.result("spectrum")
        if spectrum is not None:
            columns.setdefault(f"Level {run.config.level}", {k: three(v) for k, v in spectrum["variants"].items()})
    return pd.DataFrame(columns).rename_axis("Choice").reset_index()


def predicted_table(points):
    """Where networks with dead weights should break, and do; `rfkit.outcomes.predicted_breaking_points` has both."""
    points = points[points["dead"] > 0]
    names = [
        presets.contrast_label(name, level)
        if name in presets.CONTRAST_LABELS and name != presets.CONTRAST_NETWORK
        else f"{ARCHITECTURE_LABELS.get(name, name)}, level {level}"
        for name, level in zip(points["architecture"], points["rf_level"], strict=True)
    ]
    return _cells(points.assign(architecture=names), ["architecture", "paper_dataset"], {
        "Dead share d": lambda cell: f"{cell['dead'].mean():.3f}", "Breaks at b of the usable weights": ("usable", 3),
        "Predicted d + (1 − d)·b": ("predicted", 3), "Measured": ("breaking_point", 3),
    })  # fmt: skip


def rerun_table(author):
    """The author's rerun of 2024 beside the networks of Table 1, from `author_runs`: points of accuracy lost."""
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
    """Rows of `author_runs` that no table of the paper uses: without a pool, batches of 32, levels 5 to 7."""
    shot = author[author["fine_tuned"] == 0].sort_values(["dataset", "architecture", "rf_level"], kind="stable")
    shot = shot.assign(gap=(shot["dense_test_accuracy"] - shot["pruned_test_accuracy"]).abs())
    kinds = {"no added": "no added pool", "batch size 32": "batches of 32", "levels 5-7": "level pools 5 to 7"}
    chosen = [shot[shot["note"].str.contains(key, na=False)].assign(What=words) for key, words in kinds.items()]
    return _cells(pd.concat(chosen), ["What", "architecture", "dataset", "rf_level"], {
        "Dense (%)": ("dense_test_accuracy", 2), "Pruned at 0.9 (%)": ("pruned_test_accuracy", 2),
        "Largest difference": lambda cell: f"{cell['gap'].max():.2f}",
    }, "Networks")  # fmt: skip


def blocks_table(probes):
    """What the last residual blocks are worth, from the frame ``probes``: with them, and the identity instead."""
    runs = probes[probes["without_blocks"].notna()].drop_duplicates([*experiments.CELL, "seed"])
    runs = runs.assign(lost=runs["dense"] - runs["without_blocks"].astype(float))
    return _cells(runs, experiments.CELL, {
        "Dense (%)": ("dense", 1), "Without its last two blocks (%)": ("without_blocks", 1), "Lost": ("lost", 1),
    }).drop(columns="Data (by image size)", errors="ignore")  # fmt: skip


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


def gradient_table(gradients, curved):
    """The gradient of untrained networks at both ends beside their largest eigenvalue, each over that of level 1."""
    keys = ["change", "seed", "width"]
    ends = gradients.sort_values("place").groupby(keys, sort=False)["norm"].agg(["first", "last"]).reset_index()
    found = curved.merge(ends, on=keys)
    found = found.groupby(["architecture", "change"], sort=False)[["map", "first", "last", "largest"]].mean()
    rows = []
    for (architecture, change), cell in found.iterrows():
        base = found.loc[("resnet50", "ResNet50, level 1") if architecture == "resnet50" else ("vgg19", "level 1")]
        rows.append({
            "Untrained network": change,
            "Last map": f"{cell['map']:.0f}×{cell['map']:.0f}",
            "Gradient, last layer": three(cell["last"]),
            "Gradient, first layer": three(cell["first"]),
            "First over last": f"{cell['first'] / cell['last']:.0f}",
            "First, squared, over level 1's": f"{(cell['first'] / base['first']) ** 2:.1f}",
            "Eigenvalue over level 1's": f"{cell['largest'] / base['largest']:.1f}",
        })  # fmt: skip
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


TITLES = {
    "architecture": ("Network", ARCHITECTURE_LABELS), "rf_level": ("Level", {}), "dataset": ("Data", DATASET_LABELS),
    "paper_dataset": ("Data (by image size)", DATASET_LABELS), "field_px": ("Field (px)", {}),
}  # fmt: skip


def _cells(frame, keys, columns, count="Seeds"):
    """A row a group: what it is, mean and spread of columns (name, digits), where it breaks (a name), and its size."""
    rows = []
    for key, cell in frame.groupby(keys, sort=False):
        titles = [TITLES.get(name, (name, {})) for name in keys]
        row = {title: labels.get(value, value) for (title, labels), value in zip(titles, key, strict=True)}
        for title, wanted in columns.items():
            if callable(wanted):
                row[title] = wanted(cell)
            elif isinstance(wanted, str):
                beyond = "≥ " if (cell[wanted] >= cell["top_rate"]).any() else ""
                row[title] = beyond + _spread(cell[wanted].dropna(), 3)
            else:
                row[title] = _spread(cell[wanted[0]].dropna().astype(float), wanted[1])
        rows.append(row | {count: len(cell)})
    return pd.DataFrame(rows)


def _spread(values, digits):
    if len(values) == 0:
        return MISSING
    mean, std = mean_std(list(values))
    return f"{mean:,.{digits}f}" if std is None else f"{mean:,.{digits}f} ± {std:,.{digits}f}"


def _pair(values):
    values = [f"{value:g}" for value in values]
    return values[0] if len(set(values)) == 1 else "×".join(values)


def published_networks_table(found):
    """Receptive fields of published networks, the most accurate first, from the frame ``torchvision_fields``."""

    def px(value):
        return MISSING if pd.isna(value) else "all" if value == float("inf") else f"{value:g}"

    return pd.DataFrame([
        {
            "Network": row.network,
            "Top‑1 (%)": f"{row.top1:.1f}",
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
