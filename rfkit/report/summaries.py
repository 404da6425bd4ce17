"""Tables of our own, as readers see them: records or frames in, words and rounded numbers out."""

import itertools
import re
import statistics
from collections import Counter
from fractions import Fraction

import pandas as pd

from rfkit import experiments, outcomes, presets
from rfkit.config import PROTOCOLS
from rfkit.data import COPIES
from rfkit.stats import paired_interval
from rfkit.tables import ARCHITECTURE_LABELS, BREAKS, MISSING, WORDS, label, spread, three

RANKINGS = ("All layers at once", "Each layer for itself")
HALVES = ("First half alone", "Second half alone")


def trend_table(frame):
    """How accuracy moves with the receptive field, at every pruning rate."""
    rows = []
    for (data, architecture, rate), part in frame.groupby(["data_label", "architecture", "pruning_rate"], sort=False):
        means = part.groupby("rf_level")["accuracy"].mean()
        steps = means.diff().dropna()
        low = sorted({level for *_, level, _ in outcomes.floors(part)})
        ordered = len(means) > 1 and not low
        direction = f"level {', '.join(map(str, low))} near chance" if len(means) > 1 else MISSING
        if ordered:
            direction = "falls" if (steps < 0).all() else "rises" if (steps > 0).all() else "not monotone"
        correlation = part[["rf_level", "accuracy"]].corr("spearman").iloc[0, 1] if ordered else float("nan")
        rows.append(
            {"Network": label(architecture), "Data": data, "Rate": "dense" if rate == 0 else f"{rate:g}"}
            | {f"Level {level}": f"{mean:.1f}" for level, mean in means.items()}
            | {"Rank correlation": MISSING if pd.isna(correlation) else f"{correlation:+.2f}"}
            | {"As the field grows": direction}
        )
    return pd.DataFrame(rows).fillna(MISSING)


def level_table(theory, measured, paper, map_sizes):
    """Fields of the paper's networks: as printed, traced, measured, with the size of the last map."""
    rows = []
    for (name, level), field in theory.items():
        row = {"Network": ARCHITECTURE_LABELS.get(name, f"`{name}`"), "Level": level}
        row |= {"Field, paper (px)": paper.get((name, level), MISSING), "Traced (px)": _pair(field.size)}
        row |= {"Measured (px)": _pair(measured[name, level].size), "Stride (px)": _pair(field.stride)}
        rows.append(row | dict(zip(("Map at 32 px", "Map at 64 px"), map_sizes[name, level], strict=True)))
    return pd.DataFrame(rows)


def _pair(values):
    return "×".join(dict.fromkeys(f"{value:g}" for value in values))


def breaking_point_table(by_run, repruned):
    """Where accuracy has fallen 5 points below dense, on both scales of sparsity."""
    by_run = by_run.merge(outcomes.usable_breaking_points(repruned), how="left", on=outcomes.RUN)
    return _cells(by_run, ["architecture", "paper_dataset", "rf_level"], {
        "Dense (%)": ("dense", 2), BREAKS["breaking_point"]: "breaking_point", BREAKS["usable"]: "usable",
        BREAKS["breaking_point_reestimated"]: "breaking_point_reestimated",
        BREAKS["usable_reestimated"]: "usable_reestimated",
    })  # fmt: skip


def two_ways_table(first, second, ways=RANKINGS):
    """Where networks break if they are pruned in one way and in another; of two `rfkit.outcomes.by_run`."""
    return _cells(_two_ways(first, second), ["architecture", "rf_level"], _outcomes_of(ways))


def halves_table(found):
    """Where networks break if only one half of their layers is pruned; of the frame ``half_pruning``."""
    first, second = (outcomes.by_run(found[found["half"] == half]) for half in ("first", "second"))
    return two_ways_table(first, second, HALVES)


def leads_table(first, second, ways=RANKINGS, losses=(5, 10, 20, 30)):
    """How much later the largest field than the smallest has lost so many points, pruned in two ways; of two frames."""
    by_loss = {loss: _two_ways(*(outcomes.by_run(each, drop=loss) for each in (first, second))) for loss in losses}
    both, rows = pd.concat([found.assign(loss=loss) for loss, found in by_loss.items()]), []
    for architecture, loss in itertools.product(both["architecture"].unique(), losses):
        part = both[(both["architecture"] == architecture) & (both["loss"] == loss)]
        part = part[part["rf_level"].isin([part["rf_level"].min(), part["rf_level"].max()])]
        part = part[part["seed"].duplicated(keep=False)]  # seeds with both
        if part.empty:
            continue
        row = {"Network": label(architecture), "Points lost": loss}
        row |= {title: _lead(part, outcome) for title, outcome in _outcomes_of(ways).items()}
        rows.append(row | {"Seeds": part["seed"].nunique()})
    return pd.DataFrame(rows)


def spare_layer_table(found):
    """How many layers cost less than a point, each pruned alone; of the frame ``layer_sensitivity``."""
    keys = ["architecture", "rf_level"]
    mean = found.groupby([*keys, "place", "layer"], sort=False)[["lost", "lost_reestimated"]].mean().reset_index()
    return _cells(mean, keys, {
        "Spare": lambda cell: int((cell["lost"] < 1).sum()),
        "Spare, re-estimated": lambda cell: int((cell["lost_reestimated"] < 1).sum()),
        "Costs most": lambda cell: "{layer} ({lost:.0f} points)".format(**cell.loc[cell["lost"].idxmax()]),
    }, count="Layers")  # fmt: skip


def _two_ways(first, second):
    breaks = ["breaking_point", "breaking_point_reestimated", "top_rate"]
    return second.merge(first[[*outcomes.RUN, *breaks]], on=outcomes.RUN, suffixes=("", "_first"))


def _outcomes_of(ways):
    kinds = {"": "breaking_point", ", re-estimated": "breaking_point_reestimated"}
    both = zip(ways, ("_first", ""), strict=True)
    return {way + words: kind + suffix for (way, suffix), (words, kind) in itertools.product(both, kinds.items())}


def _lead(part, outcome):
    """Of the largest level over the smallest, paired by seed; ≥ where the largest never loses so much."""
    top = part["top_rate_first" if outcome.endswith("_first") else "top_rate"].max()
    smallest, largest = part.pivot(index="rf_level", columns="seed", values=outcome).to_numpy()[[0, -1]]
    if (smallest >= top).any():
        return MISSING
    interval = "({:.2f} to {:.2f})".format(*paired_interval(smallest, largest)) if len(largest) > 1 else ""
    beyond = "≥ " if (largest >= top).any() else ""
    return f"{beyond}{(largest - smallest).mean():+.2f} {interval}".strip()


def width_table(by_width):
    """Accuracy and breaking points at every width; of the frame that `rfkit.outcomes.by_width` makes."""
    keys, numbers = ["architecture", "rf_level", "Width"], ["architecture", "rf_level", "width", "precision"]
    ordered = by_width.sort_values(numbers, ascending=[False, True, True, True], kind="stable")
    precision = ordered["precision"].map(lambda name: "" if name == "float32" else f", {name}")
    return _cells(ordered.assign(Width=ordered["width"].map(lambda width: str(Fraction(width))) + precision), keys, {
        "Dense (%)": ("dense", 1), "Pruned at 0.9 (%)": ("pruned_0.9", 1), BREAKS["breaking_point"]: "breaking_point",
        BREAKS["usable"]: "usable", BREAKS["usable_reestimated"]: "usable_reestimated",
        "Usable left (thousand)": ("left", lambda left: f"{left / 1000:,.1f}"),
    })  # fmt: skip


def usable_weight_table(runs):
    """How many prunable weights can change the output, network by network."""
    rows = {}
    for run in runs:
        config, curve = run.config, run.result("pruning")
        prunable, usable = sum(curve["prunable"]), sum(curve["usable"])
        dead = sum(kept < count for count, kept in zip(curve["prunable"], curve["usable"], strict=True))
        row = {"Network": label(config.architecture), "Data": run.provenance["data"]["label"], "Level": config.level}
        row |= {"Prunable weights": f"{prunable:,}", "Usable": f"{usable:,}"}
        row["Dead (%)"] = f"{100 * (1 - usable / prunable):.1f}"
        row["Layers with dead weights"] = f"{dead} of {len(curve['layers'])}"
        row["Shrink factor"] = f"{run.summary['shrink_factor']:.2g}"
        rows.setdefault((config.dataset, config.architecture, config.level), row)
    return pd.DataFrame(rows.values())


def protocol_table(runs):
    """What each way of training leads to, on one network."""
    cells, rows = {}, []
    for run in runs:
        cells.setdefault((run.config.level, run.config.protocol, run.config.train), []).append(run)
    for level, protocol, train in sorted(cells, key=lambda cell: (cell[0], PROTOCOLS.index(cell[1]))):
        here = cells[level, protocol, train]
        frame = experiments.frame("pruning", here)
        dense, each = frame[frame["pruning_rate"] == 0], outcomes.by_run(frame)
        row = {"Level": level, "Protocol": f"`{protocol}`", "Epochs": train.epochs}
        row |= {"Train (%)": spread(dense["train_accuracy"], 1), "Dense (%)": spread(dense["accuracy"], 1)}
        row["Pruned at 0.9 (%)"] = spread(each["pruned_0.9"], 1)
        row[BREAKS["breaking_point"]] = spread(each["breaking_point"], 3)
        rows.append(row | {"Shrink factor": f"{here[0].summary['shrink_factor']:.2g}", "Seeds": len(here)})
    return pd.DataFrame(rows)


def changed_network_table(runs):
    """What the networks of the contrasts are like after training, whatever a contrast asks of them."""
    frame = experiments.frame("pruning", runs)
    dense = frame[frame["pruning_rate"] == 0].merge(outcomes.by_run(frame), on=[*outcomes.RUN, "dense"])
    dense = dense.merge(outcomes.sharpness(runs), how="left", on=outcomes.RUN)
    order = {architecture: place for place, architecture in enumerate(presets.CONTRAST_LABELS)}
    dense = dense.sort_values(["paper_dataset", "architecture", "rf_level"], key=lambda column: column.replace(order))
    names = [presets.contrast_label(*cell) for cell in zip(dense["architecture"], dense["rf_level"], strict=True)]
    return _cells(dense.assign(architecture=names), ["paper_dataset", "architecture"], {
        "Train (%)": ("train_accuracy", 1), "Dense (%)": ("accuracy", 1), BREAKS["breaking_point"]: "breaking_point",
        BREAKS["breaking_point_reestimated"]: "breaking_point_reestimated",
        "Largest eigenvalue before training": ("top_eigenvalue_init", 0),
        "Largest eigenvalue after training": ("top_eigenvalue", 0),
    })  # fmt: skip


def cost_table(frame):
    """What pruning saves, by the reporting standard of Blalock et al. (2020), and what it costs in accuracy."""
    frame, one, times = frame.assign(Rate=frame["pruning_rate"].map("{:g}".format)), "{:.1f}".format, "{:.1f}×".format
    return _cells(frame, ["architecture", "data_label", "rf_level", "Rate"], {
        "Compression": ("compression", times), "Speed-up (theoretical)": ("speed_up", times),
        "Test (%)": ("accuracy", one), "Test, re-estimated (%)": ("reestimated_accuracy", one),
        "Train (%)": ("train_accuracy", one),
    }).drop(columns="Seeds", errors="ignore")  # fmt: skip


def similarity_table(found):
    """Similarity of two seeds beside the author's, for readers."""
    key, columns = ["architecture", "rf_level"], {}
    both = found.merge(experiments.author_similarities(), how="left", on=key, suffixes=("", "_author"))
    for words, name in (("all layers", "similarity"), ("deep half", "deep_similarity")):
        columns[f"Author, {words}"] = (f"{name}_author", lambda mean: MISSING if pd.isna(mean) else f"{mean:.3f}")
    for stage, words in (("init", "before"), ("final", "after")):
        columns[f"All layers, {words}"] = ("similarity", 3, stage)
        columns[f"Deep half, {words}"] = ("deep_similarity", 3, stage)
    columns["Dead layers"] = lambda cell: str(cell[cell["stage"] == "final"]["dead"].sum())
    table = _cells(both, ["architecture", "data_label", "rf_level"], columns, "Pairs")
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
            row = {"Level": level, "Beside level 1": words, "Level (%)": spread(both["dense"], 1)}
            row["Level 1 (%)"] = spread(both[column], 1)
            row["Level 1 ahead by"] = f"{(both[column] - both['dense']).mean():+.1f}"
            rows.append(row | {"95 %": " to ".join(f"{end:+.1f}" for end in ends) or MISSING, "Seeds": len(both)})
    return pd.DataFrame(rows)


def matched_table(found):
    """The way between two seeds, before and after the channels of one are put in the other's order."""
    columns = {}
    for name, words in (("as_trained", "as trained"), ("matched", "matched")):
        columns[f"Barrier, {words}"] = f"{name}_barrier", 2
        columns[f"Lowest accuracy, {words} (%)"] = f"{name}_least", 0
    return _cells(found, ["architecture", "rf_level"], columns, "Pairs")


def spectrum_table(found):
    """Hessian before and after training, for readers."""
    outcomes.refuse_mixed(found)
    columns = {}
    for stage, words in experiments.STAGES.items():
        columns |= {f"Largest, {words}": ("top", three, stage), f"Smallest, {words}": ("smallest", three, stage)}
        columns[f"Width, {words}"] = ("width", three, stage)
        columns[f"Negative (%), {words}"] = ("negative_mass", _percent, stage)
    return _cells(found, ["architecture", "rf_level"], columns)


def untrained_spectrum_table(found):
    """Hessian of untrained networks, for readers."""
    ranked = [[values[rank] if rank < len(values) else None for rank in (0, 9, 89)] for values in found["values"]]
    found = found.join(pd.DataFrame(ranked, found.index, ["Largest", "10th", "90th"]))
    return _cells(found, ["architecture", "rf_level", "field_px"], {
        **{title: (title, three) for title in ("Largest", "10th", "90th")}, "Smallest": ("smallest", three),
        "Width": ("width", three), "Negative (%)": ("negative_mass", _percent),
    })  # fmt: skip


def _percent(share):
    return f"{100 * share:.0f}"


def sharpness_variant_table(runs):
    """The largest eigenvalue before training under other choices, one column per run."""
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
        if name.startswith(presets.CONTRAST_NETS)
        else f"{label(name)}, level {level}"
        for name, level in zip(points["architecture"], points["rf_level"], strict=True)
    ]
    return _cells(points.assign(architecture=names), ["architecture", "paper_dataset"], {
        "Dead share d": ("dead", "{:.3f}".format), "Breaks at b of the usable weights": ("usable", 3),
        "Predicted d + (1 − d)·b": ("predicted", 3), "Measured": ("breaking_point", 3),
    })  # fmt: skip


def rerun_table(author):
    """The author's rerun of 2024 beside the networks of Table 1, from `author_runs`: points of accuracy lost."""
    cifar = author[(author["dataset"] == "cifar10") & (author["fine_tuned"] == 0)]
    key = ["architecture", "rf_level"]
    first = cifar[cifar["paper_table"].notna() & (cifar["pruning_rate"] == 0.9)].groupby(key)["gap"].mean()
    rows = []
    for cell, again in cifar[cifar["note"].str.contains("2024 rerun", na=False)].groupby(key, sort=False):
        lost = again.groupby("pruning_rate")["gap"].mean()
        row = {"Network": label(cell[0]), "Level": cell[1], "Lost at 0.9, Table 1": f"{first[cell]:.1f}"}
        row |= {f"Lost at {rate}, rerun": f"{lost[rate]:.1f}" for rate in (0.9, 0.95)}
        rows.append(row | {"Networks of the rerun": int((again["pruning_rate"] == 0.9).sum())})
    return pd.DataFrame(rows).sort_values(["Network", "Level"], ascending=[False, True])


def unused_rows_table(author):
    """Rows of `author_runs` that no table of the paper uses: without a pool, batches of 32, levels 5 to 7."""
    shot = author[author["fine_tuned"] == 0].sort_values(["dataset", "architecture", "rf_level"], kind="stable")
    kinds = {"no added": "no added pool", "batch size 32": "batches of 32", "levels 5-7": "level pools 5 to 7"}
    chosen = [shot[shot["note"].str.contains(key, na=False)].assign(What=words) for key, words in kinds.items()]
    return _cells(pd.concat(chosen), ["What", "architecture", "dataset", "rf_level"], {
        "Dense (%)": ("dense_test_accuracy", 2), "Pruned at 0.9 (%)": ("pruned_test_accuracy", 2),
        "Largest difference": lambda cell: f"{cell['gap'].abs().max():.2f}",
    }, "Networks")  # fmt: skip


def blocks_table(probes):
    """What the last residual blocks are worth, from the frame ``probes``: with them, and the identity instead."""
    runs = probes[probes["without_blocks"].notna()].drop_duplicates(outcomes.RUN)
    runs = runs.assign(lost=runs["dense"] - runs["without_blocks"].astype(float))
    return _cells(runs, experiments.CELL, {
        "Dense (%)": ("dense", 1), "Without its last two blocks (%)": ("without_blocks", 1), "Lost": ("lost", 1),
    }).drop(columns="Data (by image size)", errors="ignore")  # fmt: skip


def curvature_table(found):
    """The largest Hessian eigenvalue of untrained networks, one change at a time; the ratio is of narrow ones."""
    means, rows = found[found["width"] == found["width"].min()].groupby("change")["largest"].mean(), []
    for change, cell in found.groupby("change", sort=False):
        row = {"Untrained network": change, "Last map": f"{cell['map'].iloc[0]}×{cell['map'].iloc[0]}"}
        for width in sorted(set(found["width"])):
            values = cell[cell["width"] == width]["largest"]
            title = "Full width" if width == 1 else f"Width {width:g}"
            row[f"{title} (seeds)"] = f"{spread(values, 0)} ({len(values)})" if len(values) else MISSING
        rows.append(row | {"Over level 1's": f"{means[change] / means[_level_1(change)]:.1f}"})
    return pd.DataFrame(rows)


def _level_1(change):
    return "ResNet50, level 1" if change.startswith("ResNet50") else "level 1"


def one_position_table(found):
    """How many times larger the largest eigenvalue is where one position of the last map is read, not their mean."""
    by_seed, rows = found.pivot(index=["width", "seed"], columns="change", values="largest"), []
    for change, cell in found[found["changed"] == "read one"].groupby("change", sort=False):
        level, positions = change.removesuffix(", one position read"), cell["map"].iloc[0] ** 2
        for width, both in by_seed[[level, change]].dropna().groupby("width"):
            mean, times = both.mean(), both[change] / both[level]
            row = {"Untrained network": level, "Width": f"{width:g}", "Positions": positions}
            row |= {"Mean read": f"{mean[level]:,.0f}", "One read": f"{mean[change]:,.0f}"}
            spans = f"{times.min():.1f} to {times.max():.1f}" if len(both) > 1 else MISSING
            rows.append(row | {"Times": f"{mean[change] / mean[level]:.1f}", "By seed": spans, "Seeds": len(both)})
    return pd.DataFrame(rows)


def gradient_table(gradients, curved):
    """The gradient of untrained networks at both ends beside their largest eigenvalue, each over that of level 1."""
    keys = ["change", "seed", "width"]
    ends = gradients.sort_values("place").groupby(keys, sort=False)["norm"].agg(["first", "last"]).reset_index()
    found = curved.merge(ends, on=keys)
    found = found.groupby("change", sort=False)[["map", "first", "last", "largest"]].mean()
    rows = []
    for change, cell in found.iterrows():
        base = found.loc[_level_1(change)]
        row = {"Untrained network": change, "Last map": f"{cell['map']:.0f}×{cell['map']:.0f}"}
        row |= {"Gradient, last layer": three(cell["last"]), "Gradient, first layer": three(cell["first"])}
        row["First over last"] = f"{cell['first'] / cell['last']:.0f}"
        row["First, squared, over level 1's"] = f"{(cell['first'] / base['first']) ** 2:.1f}"
        rows.append(row | {"Eigenvalue over level 1's": f"{cell['largest'] / base['largest']:.1f}"})
    return pd.DataFrame(rows)


def recipe_table(made):
    """What networks of the homework's question 4 cost and reach."""
    rows = []
    for each, row in zip(made, experiments.frame("recipe", made).itertuples(), strict=True):
        about = {"Network": each["name"], "Data": row.data_label, "Parameters": f"{row.parameters:,}"}
        about |= {"Epochs": row.epochs, "Minutes": f"{row.wall_seconds / 60:.1f}"}
        rows.append(about | {"Test accuracy (%)": f"{row.test_accuracy:.1f}"})
    return pd.DataFrame(rows)


def published_networks_table(found):
    """Receptive fields of published networks, the most accurate first, from the frame ``torchvision_fields``."""

    def px(value):
        return MISSING if pd.isna(value) else "all" if value == float("inf") else f"{value:g}"

    rows = []
    for net in found.sort_values("top1", ascending=False).itertuples():
        row = {"Network": net.network, "Top‑1 (%)": f"{net.top1:.1f}", "Image (px)": net.image_px}
        row |= {"Field (px)": px(net.field_px), "Convolutions alone (px)": px(net.convolutions_px)}
        row |= {"Half of gradient (px)": px(net.half_px), "Step (px)": px(net.stride), "Last map": px(net.map)}
        rows.append(row | {"Weights (M)": f"{net.parameters / 1e6:.1f}", "Why": net.why or MISSING})
    return pd.DataFrame(rows)


def recorded_table(preset, runs):
    """Which of a preset's cells are there, and what their trainings took."""
    rows, found = [], {}
    for config, run in ((run.config, run) for run in runs):
        for dataset in {config.dataset, COPIES.get(config.dataset)}:
            found.setdefault((dataset, config.architecture, config.level), []).append(run)
    for dataset, architecture, level in preset.cells():
        here = found.get((dataset, architecture, level), [])
        row = {"Network": label(architecture), "Data": label(dataset), "Level": level, "Seeds": len(here)}
        for title, name in (("Fine-tuned", "fine_tune"), ("Full spectra", "spectrum")):
            row[title] = sum(run.result(name) is not None for run in here)
        rows.append(row | _took(here, 2))
    return pd.DataFrame(rows)


def stage_table():
    """What each stage of the study took, as far as it is recorded."""
    study = presets.get("study")
    main = {
        f"{label(name)}, {label(dataset)}": study.select(datasets=dataset, architectures=name)
        for dataset, name in itertools.product(study.datasets, study.architectures)
    }
    changed = {"contrasts": presets.of_contrasts(study), "fresh networks": study.select(**presets.FRESH_NETWORKS)}
    protocols = {f"protocol `{name}`": presets.get("study", name) for name in ("as_stated", "careful")}
    widths = {
        f"width {Fraction(width)}, {precision}": study.select(width=width, precision=precision)
        for width, precision in itertools.product(experiments.WIDTHS, ("float32", "bfloat16"))
        if (width, precision) != (study.width, study.precision)
    }
    first = study.select(datasets="cifar10", architectures=presets.CONTRAST_NETWORK, levels=1)
    controls = [first.select(width=width) for width in presets.EQUAL_COMPUTATION.values()]
    controls += [first.select(epochs=epochs) for epochs in presets.SHORTER_EPOCHS]
    stages = {name: experiments.recorded(preset) for name, preset in (main | changed | protocols | widths).items()}
    pairs = [study.select(**each) for each in presets.THIRD_PAIRS]
    stages["third pairs"] = [run for preset in pairs for run in experiments.recorded(preset)]
    stages["controls of accuracy"] = [run for preset in controls for run in experiments.recorded(preset)]
    shown = {name: runs for name, runs in stages.items() if runs or name not in widths}
    rows = [{"Stage": name, "Trainings": len(runs)} | _took(runs, 1) for name, runs in shown.items()]
    return pd.DataFrame(rows).assign(Processors=list(map(_processors, shown.values())))


def _processors(runs):
    """On which processors (maker, family/model) how many runs were trained, the most frequent first."""
    full = [run.provenance.get("processor") or "not named" for run in runs]
    names = Counter(re.sub(r"^(\w+).*\(family (\d+), model (\d+)\)$", r"\1 \2/\3", name) for name in full)
    return ", ".join(f"{name}: {count}" for name, count in names.most_common()) or MISSING


def _took(runs, digits):
    """Columns of images per second and core-hours."""
    if not runs:
        return {"Images/s": MISSING, "Core-hours": MISSING}
    speed = statistics.mean(r.config.train_images / statistics.median(e["seconds"] for e in r.metrics) for r in runs)
    hours = sum(run.provenance["wall_seconds"] * run.provenance["threads"] for run in runs) / 3600
    return {"Images/s": f"{speed:,.0f}", "Core-hours": f"{hours:.{digits}f}"}


def _cells(frame, keys, columns, count="Seeds"):
    """One row per group: what it is, the columns that are asked for, and how many rows it holds."""
    rows = []
    for key, cell in frame.groupby(keys, sort=False, dropna=False):
        row = {WORDS.get(name, name): label(value) for name, value in zip(keys, key, strict=True)}
        for title, wanted in columns.items():
            if callable(wanted):  # of the group
                row[title] = wanted(cell)
            elif isinstance(wanted, str):  # a breaking point
                of = {"usable_reestimated": "breaking_point_reestimated"}.get(wanted, wanted)  # one curve, two scales
                top = cell["top_rate_first" if wanted.endswith("_first") else "top_rate"]
                beyond = "≥ " if (cell[of] >= top).any() else ""
                row[title] = beyond + spread(cell[wanted].dropna(), 3)
            else:  # a mean: its name, digits or words for it, and perhaps the stage
                name, form, *stage = wanted
                values = (cell[cell["stage"].isin(stage)] if stage else cell)[name].dropna().astype(float)
                row[title] = form(values.mean()) if callable(form) and len(values) else spread(values, form)
        rows.append(row | {count: len(cell) // (cell["stage"].nunique() if "stage" in cell else 1)})
    return pd.DataFrame(rows)
