"""The paper's tables beside our own numbers: records in, tables out."""

import math

import pandas as pd

from rfkit import experiments, outcomes, presets
from rfkit.config import one_of
from rfkit.data import DATASET_LABELS
from rfkit.files import read_reference
from rfkit.stats import mean_std, page_trend

IMPORTANCE_TABLES = {3: "vgg19", 4: "resnet50"}
PAPER_NETWORKS = 50  # behind each mean of Tables 3 and 4 (paper Sec. 3.4)
COLUMNS = (
    "dataset", "architecture", "rf_level", "field_px", "pruning_rate", "fine_tuned",
    "paper_dense_mean", "paper_dense_std", "paper_pruned_mean", "paper_pruned_std",
    "paper_difference_mean", "paper_difference_std",
    "ours_dense_mean", "ours_dense_std", "ours_pruned_mean", "ours_pruned_std",
    "ours_difference_mean", "ours_difference_std", "ours_seeds", "ours_dataset",
)  # fmt: skip
ARCHITECTURE_LABELS = {"vgg19": "VGG19-like", "resnet50": "ResNet50"}
LABELS = ARCHITECTURE_LABELS | DATASET_LABELS
METRICS = {"dense_accuracy": "dense", "pruned_accuracy": "pruned", "accuracy_difference": "difference"}
WORDS = {
    "architecture": "Network", "rf_level": "Level", "dataset": "Data", "paper_dataset": "Data (by image size)",
    "data_label": "Data", "pruning_rate": "Rate", "field_px": "Field (px)",
}  # fmt: skip
BREAKS = {
    "breaking_point": "Breaks at (printed rate)", "breaking_point_reestimated": "Printed rate, re-estimated",
    "usable": "Breaks at (usable rate)", "usable_reestimated": "Usable rate, re-estimated",
}  # fmt: skip
MISSING = "–"


def label(name):
    """A network or data set as readers know it; another one by its own name."""
    return LABELS.get(name, MISSING if pd.isna(name) else name)


def reference(**options):
    """Every number printed in the paper's 14 tables.

    Args:
        **options: Passed to `pandas.read_csv`; ``dtype=str`` keeps the digits as printed.

    Returns:
        Data frame, one row per number: table, dataset, architecture, receptive_field, rf_level,
        pruning_rate, fine_tuned, metric, mean, std.
    """
    return read_reference("paper_tables.csv", **options)


def author_runs():
    """Every accuracy in the author's public result files, one row per network.

    Returns:
        Data frame: source_file, dataset, architecture, rf_level, pruning_rate, fine_tuned, seed_or_name,
        dense_test_accuracy, pruned_test_accuracy, pool_kernel, pool_stride, paper_table (the first that uses the row;
        empty for rows that no table uses), note; gap, the points of accuracy lost.

    Source: The author's public repository, https://github.com/Elluito/sparse_ensemble.
    """
    rows = read_reference("author_runs.csv")
    return rows.assign(gap=rows["dense_test_accuracy"] - rows["pruned_test_accuracy"])


def paper_table(n, preset="demo", *, runs=None):
    """One of the paper's tables beside the runs of a preset.

    Args:
        n: Number of the table in the paper, 1 to 14; 3 and 4 are those of `importance_table`, with its columns.
        preset: Name of a preset, whose finished runs are looked up; not used if `runs` is given.
        runs: List of `rfkit.experiments.store.Run`.

    Returns:
        Data frame with the columns `COLUMNS`: accuracies in percent, the rate as a fraction, the field in
        pixels. A cell that was not run is None. Runs belong to the table of the data set with their image
        size; ``ours_dataset`` says what they were made on.

    Raises:
        ConfigError: If there is no such table or no such preset.
    """
    n = int(n) if isinstance(n, str) and n.isdigit() else n
    one_of("table", n, range(1, 15))
    if n in IMPORTANCE_TABLES:
        return importance_table(n, experiments.measured("gradient_projection", presets.get(preset)))
    if runs is None:
        runs = experiments.find(presets.get(preset))[0]
    printed, paper = list(reference().query("table == @n").itertuples()), {}
    for cell in printed:
        row = paper.setdefault((cell.architecture, cell.rf_level), {})
        row |= {f"paper_{METRICS[cell.metric]}_mean": cell.mean, f"paper_{METRICS[cell.metric]}_std": cell.std}
    same = {"dataset": cell.dataset, "pruning_rate": cell.pruning_rate, "fine_tuned": cell.fine_tuned}
    frame = experiments.frame("fine_tune" if cell.fine_tuned else "pruning", runs)
    ours, rows = _ours(frame, cell.dataset, cell.pruning_rate), []
    for architecture, level in dict.fromkeys([*paper, *ours]):
        row = dict.fromkeys(COLUMNS) | same | {"architecture": architecture, "rf_level": level}
        row["field_px"] = presets.field_px(architecture, level)
        rows.append(row | paper.get((architecture, level), {}) | ours.get((architecture, level), {}))
    return pd.DataFrame(rows, dtype=object)


def importance_table(n, results):
    """Table 3 or 4 of the paper, the largest projected gradient, beside our own.

    Args:
        n: 3 (VGG19-like) or 4 (ResNet50).
        results: Stored results of the analysis ``gradient_projection``, with both definitions.

    Returns:
        Data frame, one row per level: printed mean and standard deviation, ours by the linearised and by the true
        gradient, their number of networks, and, at full width, how many standard errors the linearised mean is
        from the paper's.
        Cells that were not computed are None.
    """
    from scipy.stats import ttest_ind_from_stats

    printed, network = reference().query("table == @n").set_index("rf_level"), IMPORTANCE_TABLES[n]
    own = [each for each in results if each["settings"]["architecture"] == network]
    by_variant = {each["settings"]["variant"]: each["values"]["maxima"] for each in reversed(own)}
    whole = all(each["settings"]["width"] == 1 and each["settings"]["input_size"] == 64 for each in own)
    rows = []
    for paper in printed.itertuples():
        row = {"architecture": network, "rf_level": paper.Index, "field_px": presets.field_px(network, paper.Index)}
        row |= {"paper_mean": paper.mean, "paper_std": paper.std}
        for variant in experiments.DEFINITIONS:
            maxima = by_variant.get(variant, {}).get(str(paper.Index))
            mean, std, count = (*mean_std(maxima), len(maxima)) if maxima else (None, None, None)
            row |= {f"{variant}_mean": mean, f"{variant}_std": std, f"{variant}_networks": count}
        row["standard_errors"] = None
        if row["linearised_std"] is not None and whole:
            ours = (row["linearised_mean"], row["linearised_std"], row["linearised_networks"])
            apart = ttest_ind_from_stats(paper.mean, paper.std, PAPER_NETWORKS, *ours, equal_var=False).statistic
            row["standard_errors"] = abs(float(apart))
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def importance_variants(results):
    """What input, batch norm and initial weights do to the largest projected gradient."""
    rows = []
    for settings, maxima in ((each["settings"], each["values"]["maxima"]) for each in results):
        by_network = list(zip(*maxima.values(), strict=True))
        testable = len(by_network) > 1 and len(maxima) > 2
        rows.append(
            {"Network": label(settings["architecture"]), "Definition": settings["variant"]}
            | {f"Level {level}": three(mean_std(values)[0]) for level, values in maxima.items()}
            | {"Networks": settings["repeats"]}
            | {"p (falls)": p_value(page_trend(by_network, falling=True)[0]) if testable else MISSING}
        )
    return pd.DataFrame(rows).fillna(MISSING)


def importance_shapes(results):
    """How alike the patterns are in shape to those of the smallest field."""
    rows = []
    for result in results:
        settings = result["settings"]
        if settings["variant"] in experiments.DEFINITIONS:
            about = {"Network": label(settings["architecture"]), "Definition": settings["variant"]}
            each = {f"Level {k}": spread(cosines, 2) for k, cosines in result["values"]["similarity"].items()}
            fits = experiments.fitted_to_first(result).items()
            fits = {f"Level {level}": f"{cosine:.2f} ({shift:+d})" for level, (cosine, shift) in fits}
            rows.append(about | {"Patterns": "each network's, in place"} | each)
            rows.append(about | {"Patterns": "mean, moved to fit (by px)"} | fits)
    return pd.DataFrame(rows)


def _ours(frame, dataset, rate):
    """{(architecture, level): our columns} of the runs beside one data set of the paper; pruned, if it was run."""
    frame = frame[frame["paper_dataset"] == dataset]
    outcomes.refuse_mixed(frame)
    result = {}
    for key, cell in frame.groupby(["architecture", "rf_level"], sort=False):
        seeds, pruned = cell.drop_duplicates(["seed", "dense"]), cell[cell["pruning_rate"] == rate]
        columns = {"dense": seeds["dense"], "pruned": pruned["accuracy"]}
        columns["difference"] = pruned["dense"] - pruned["accuracy"]
        row = {"ours_seeds": len(seeds), "ours_dataset": cell["data_label"].iloc[0]}
        for name, values in columns.items():
            if len(values):
                row[f"ours_{name}_mean"], row[f"ours_{name}_std"] = mean_std(list(values))
        result[key] = row
    return result


def p_value(p):
    """A p-value with two digits, or as a bound if it is tiny."""
    return MISSING if p is None else "<\u00a00.0001" if p < 1e-4 else f"{p:.2g}"


def from_to(first, last):
    """Two numbers with equally many decimals: three for fractions, one for percentages, none for larger numbers."""
    size = max(abs(first), abs(last))
    if 0 < size < 0.001:
        return f"{three(first)} → {three(last)}"
    digits = 3 if size < 1 else 1 if size < 1000 else 0
    return " → ".join(f"{round(value, digits) + 0.0:,.{digits}f}" for value in (first, last))  # never −0


def three(value):
    """A number with three significant digits; large and small ones with a power of ten."""
    if pd.isna(value):
        return MISSING
    value = float(f"{value:.3g}") + 0.0  # first: 9.999 is 10.0; never −0
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
        return f"{value:,.{digits}f}"
    mantissa, power = f"{value:.2e}".split("e")
    return f"{mantissa}·10" + str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def spread(values, digits):
    """Mean and standard deviation of some numbers."""
    if len(values) == 0:
        return MISSING
    mean, std = mean_std(list(values))
    return f"{mean:,.{digits}f}" if std is None else f"{mean:,.{digits}f} ± {std:,.{digits}f}"


def listed(numbers):
    """Increasing numbers in words: 10 and 30; 0, 1 and 4; 0 to 5."""
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]} to {numbers[-1]}"
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last


def text(table, form="md"):
    """A table as text."""
    filled = table.map(lambda value: "" if value is None else value)
    if one_of("form", form, ("csv", "md", "latex")) == "latex":
        return filled.to_latex(index=False, escape=True, float_format="%.4g")
    return filled.to_csv(index=False) if form == "csv" else filled.to_markdown(index=False)
