"""The paper's tables beside our own numbers: records in, tables out."""

import importlib.resources
from dataclasses import dataclass
from importlib.metadata import version

import pandas as pd

import rfkit
from rfkit import presets, records
from rfkit.config import ConfigError, one_of
from rfkit.stats import mean_std

ACCURACY_TABLES = (1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
COLUMNS = (
    "dataset", "architecture", "rf_level", "field_px", "pruning_rate", "fine_tuned",
    "paper_dense_mean", "paper_dense_std", "paper_pruned_mean", "paper_pruned_std",
    "paper_difference_mean", "paper_difference_std",
    "ours_dense_mean", "ours_dense_std", "ours_pruned_mean", "ours_pruned_std",
    "ours_difference_mean", "ours_difference_std", "ours_seeds", "ours_dataset",
)  # fmt: skip
DATASET_LABELS = {"cifar10": "CIFAR-10", "tiny_imagenet": "Tiny ImageNet"}
ARCHITECTURE_LABELS = {"vgg19": "VGG19-like", "resnet50": "ResNet50"}
MISSING = "–"


def reference(**options):
    """Every number printed in the paper's 14 tables.

    Args:
        **options: Passed to `pandas.read_csv`; ``dtype=str`` keeps the digits as printed.

    Returns:
        Data frame, one row a number: table, dataset, architecture, receptive_field, rf_level,
        pruning_rate, fine_tuned, metric, mean, std.
    """
    path = importlib.resources.files("rfkit") / "reference" / "paper_tables.csv"
    with path.open() as file:
        return pd.read_csv(file, **options)


def accuracies(runs):
    """Dense and pruned accuracy of each run, as a tidy data frame.

    Args:
        runs: List of `rfkit.store.Run` with a finished ``one_shot`` analysis.

    Returns:
        Data frame with a row for each run and pruning rate (0 is dense): dataset, data_label, paper_dataset,
        architecture, rf_level, field_px, seed, pruning_rate, dense and accuracy in percent.
    """
    rows = []
    for run in runs:
        config = run.config
        about = {
            "dataset": config.dataset,
            "data_label": run.provenance["data"]["label"],
            "paper_dataset": records.paper_dataset(config),
            "architecture": config.architecture,
            "rf_level": config.level,
            "field_px": run.summary["field_px"],
            "seed": config.seed,
            "dense": run.summary["test_accuracy"],
        }
        pruned = {0.0: about["dense"]}
        for analysis in run.analyses("one_shot"):
            pruned |= dict(zip(analysis["rates"], analysis["test_accuracy"], strict=True))
        rows += [about | {"pruning_rate": rate, "accuracy": accuracy} for rate, accuracy in sorted(pruned.items())]
    return pd.DataFrame(rows)


def paper_table(n, preset="demo", *, runs=None):
    """One of the paper's accuracy tables beside the runs of a preset.

    Args:
        n: Number of the table in the paper: 1, 2 or 5 to 14.
        preset: Name of a preset, whose finished runs are looked up; not used if `runs` is given.
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame with the columns `COLUMNS`: accuracies in percent, the rate as a fraction, the field in
        pixels. A cell that was not run is None. Runs belong to the table of the data set with their image
        size; ``ours_dataset`` says what they were made on.

    Raises:
        ConfigError: If there is no such accuracy table or no such preset.
    """
    one_of("table of accuracies", n, ACCURACY_TABLES)
    if runs is None:
        runs = records.find(presets.get(preset))[0]
    printed = reference().query("table == @n")
    dataset, rate, tuned = (printed[key].iloc[0] for key in ("dataset", "pruning_rate", "fine_tuned"))
    index = ["architecture", "rf_level"]
    paper = printed.set_index([*index, "metric"])
    cells = list(printed.groupby(index, sort=False).groups)
    ours = _ours(runs, dataset, rate) if not tuned else {}
    rows = []
    for key in [*cells, *(key for key in ours if key not in cells)]:
        row = dict.fromkeys(COLUMNS)
        row |= {"dataset": dataset, "architecture": key[0], "rf_level": int(key[1])}
        row |= {"pruning_rate": float(rate), "fine_tuned": int(tuned), "field_px": presets.field_px(*key)}
        if key in cells:
            for metric in ("dense", "pruned", "difference"):
                name = "accuracy_difference" if metric == "difference" else f"{metric}_accuracy"
                row[f"paper_{metric}_mean"] = float(paper.loc[(*key, name), "mean"])
                row[f"paper_{metric}_std"] = float(paper.loc[(*key, name), "std"])
        rows.append(row | ours.get(key, {}))
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _ours(runs, dataset, rate):
    """{(architecture, level): our columns} of the runs beside one data set of the paper, at one rate."""
    mine = [run for run in runs if records.paper_dataset(run.config) == dataset]
    if not mine:
        return {}
    frame = accuracies(mine)
    result = {}
    for key, cell in frame[frame["pruning_rate"] == rate].groupby(["architecture", "rf_level"], sort=False):
        columns = {"dense": cell["dense"], "pruned": cell["accuracy"], "difference": cell["dense"] - cell["accuracy"]}
        row = {"ours_seeds": len(cell), "ours_dataset": ", ".join(sorted(set(cell["data_label"])))}
        for name, values in columns.items():
            row[f"ours_{name}_mean"], row[f"ours_{name}_std"] = mean_std(list(values))
        result[key] = row
    return result


def trends(frame):
    """How accuracy moves with the receptive field, at every pruning rate.

    Args:
        frame: As made by `accuracies`.

    Returns:
        Data frame, one row a network, data set and rate: mean accuracy at each level, Spearman's rank
        correlation of field and accuracy over all runs, and the direction of the means from level to level.
    """
    rows = []
    for (label, architecture, rate), part in frame.groupby(["data_label", "architecture", "pruning_rate"], sort=False):
        means = part.groupby("rf_level")["accuracy"].mean()
        steps = means.diff().dropna()
        direction = "falls" if (steps < 0).all() else "rises" if (steps > 0).all() else "not monotone"
        correlation = part[["rf_level", "accuracy"]].corr("spearman").iloc[0, 1] if len(means) > 1 else float("nan")
        rows.append(
            {"Network": ARCHITECTURE_LABELS.get(architecture, architecture), "Data": label}
            | {"Rate": "dense" if rate == 0 else f"{rate:g}"}
            | {f"Level {level}": f"{mean:.1f}" for level, mean in means.items()}
            | {"Rank correlation": MISSING if pd.isna(correlation) else f"{correlation:+.2f}"}
            | {"As the field grows": direction if len(means) > 1 else MISSING}
        )
    return pd.DataFrame(rows).fillna(MISSING)


def provenance_line(runs):
    """What a set of numbers was made from, in one sentence.

    Args:
        runs: List of `rfkit.store.Run`.

    Returns:
        Text naming data, protocol, width, epochs, seeds and device.
    """
    if not runs:
        return "No runs."
    configs = [run.config for run in runs]
    said = {
        "data": sorted({run.provenance["data"]["label"] for run in runs}),
        "protocol": sorted({config.protocol for config in configs}),
        "width": sorted({f"{config.width:g}" for config in configs}),
        "epochs": sorted({config.train.epochs for config in configs}),
        "seeds": sorted({config.seed for config in configs}),
        "device": sorted({run.provenance["device"] for run in runs}),
    }
    return "; ".join(f"{key} {', '.join(map(str, values))}" for key, values in said.items()) + "."


def glance(frame, runs, preset):
    """The result of a build in two sentences and a provenance line, for the landing page.

    Args:
        frame: As made by `accuracies`.
        runs: The runs behind it.
        preset: `rfkit.presets.Preset` of the build.

    Returns:
        MyST Markdown.
    """
    lines = []
    for (label, architecture), part in frame.groupby(["data_label", "architecture"], sort=False):
        low, high = part["rf_level"].min(), part["rf_level"].max()
        rate = max(preset.rates)
        means = part.groupby(["rf_level", "pruning_rate"])["accuracy"].mean()
        fields = part.groupby("rf_level")["field_px"].first()
        grows = f"From {fields[low]} to {fields[high]} pixels of receptive field"
        if fields.isna().any():
            grows = f"From RF level {low} to {high}"
        name = ARCHITECTURE_LABELS.get(architecture, architecture)
        dense, pruned = (f"from {means[low, r]:.1f} to {means[high, r]:.1f} %" for r in (0.0, rate))
        lines.append(
            f"- **{name}, {label}.** {grows}, dense accuracy goes {dense}, "
            f"accuracy after pruning {rate:.0%} of the weights {pruned}."
        )
    return "\n".join(lines) + f"\n\n{{.provenance}}\nPreset {preset.name}: {provenance_line(runs)}\n"


def environment_line():
    """What numbers that need no training were made with.

    Returns:
        Text naming the versions.
    """
    names = ("torch", "torchvision", "numpy")
    return "; ".join([f"rfkit {rfkit.__version__}", *(f"{name} {version(name)}" for name in names)]) + "."


def field_table(fields):
    """Receptive fields of a network as a table for readers.

    Args:
        fields: List of `rfkit.receptive_field.Field`.

    Returns:
        Data frame: layer, map size in units, field, stride and centre of the first unit in pixels.
    """
    return pd.DataFrame([
        {
            "Layer": f"`{each.name}`",
            "Map": _pair(each.shape),
            "Field (px)": _pair(each.size),
            "Stride (px)": _pair(each.stride),
            "Centre of first unit (px)": _pair(each.center, ", "),
        }
        for each in fields
    ])


def level_table(theory, measured, paper, map_sizes):
    """Fields of the paper's networks: as printed, traced, measured, with the size of the last map.

    Args:
        theory: Mapping of (architecture, level) to the traced `Field`.
        measured: The same, by gradients.
        paper: Mapping of (architecture, level) to the printed pixels.
        map_sizes: Mapping of (architecture, level) to the sides of the last map for 32 and 64 pixel images.

    Returns:
        Data frame, one row a network and level.
    """
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


def _pair(values, separator="×"):
    values = [f"{value:g}" for value in values]
    return values[0] if len(set(values)) == 1 and separator == "×" else separator.join(values)


@dataclass(frozen=True)
class TableView:
    """A table as a reader sees it: HTML in Jupyter, MyST Markdown with a fixed label in the book."""

    label: str
    caption: str
    body: pd.DataFrame
    notes: tuple[str, ...] = ()

    def _repr_markdown_(self):
        # A literal caption and a label of its own: Sphinx's counter cannot be told the paper's numbers.
        body = _markdown(self.body)
        parts = [f"({self.label})=", f"{{.paper-caption}}\n{self.caption}", body]
        parts += [f"{{.provenance}}\n{note}" for note in self.notes]
        return "\n\n".join(parts)

    def _repr_html_(self):
        body = self.body.to_html(index=False)
        return f"<p>{self.caption}</p>{body}" + "".join(f"<p><small>{note}</small></p>" for note in self.notes)


@dataclass(frozen=True)
class NumberedTable:
    """A table with the book's own numbering: HTML in Jupyter, a captioned MyST table in the book."""

    body: pd.DataFrame
    caption: str
    label: str

    def _repr_markdown_(self):
        body = _markdown(self.body)
        return f"```{{table}} {self.caption}\n:name: {self.label}\n\n{body}\n```"

    def _repr_html_(self):
        return f"<p>{self.caption}</p>{self.body.to_html(index=False)}"


def show_paper_table(n, runs, preset):
    """One of the paper's accuracy tables for readers: paper, recorded study, this build.

    Args:
        n: As in `paper_table`.
        runs: The runs of this build.
        preset: `rfkit.presets.Preset` of this build.

    Returns:
        `TableView` labelled ``paper-table-<n>``.
    """
    table = paper_table(n, runs=runs)
    first = table.iloc[0]
    label, tuned = DATASET_LABELS[first["dataset"]], " and fine-tuning" if first["fine_tuned"] else ""
    caption = (
        f"**Paper Table {n}.** {label}: dense and pruned test accuracy (%) at pruning rate "
        f"{first['pruning_rate']:g}{tuned}, mean ± standard deviation over seeds."
    )
    sources, notes = {"paper": _as_printed(n)}, []
    builds = {preset.name: runs}
    if preset.name != "study":
        builds = {"study": records.recorded(presets.get("study")), **builds}
    for name, made in builds.items():
        beside = [run for run in made if records.paper_dataset(run.config) == first["dataset"]]
        if beside:
            sources[name] = _by_row(paper_table(n, runs=made))
            notes.append(f"{name.capitalize()}: {provenance_line(beside)}")
        elif name == preset.name:
            notes.append(f"{label} is not in this preset ({name}).")
    keys = list(zip(table["architecture"], table["rf_level"], strict=True))
    columns = {
        "Network": [ARCHITECTURE_LABELS.get(architecture, f"`{architecture}`") for architecture, _ in keys],
        "Field (px)": [MISSING if px is None else f"{px}" for px in table["field_px"]],
    }
    for i, title in enumerate(("Dense", "Pruned", "Difference")):
        for name, rows in sources.items():
            columns[f"{title}, {name}"] = [rows.get(key, [MISSING] * 3)[i] for key in keys]
    return TableView(f"paper-table-{n}", caption, pd.DataFrame(columns), tuple(notes))


def _as_printed(n):
    """{(architecture, level): [dense, pruned, difference]}, digit by digit as in the paper."""
    printed = reference(dtype=str).query("table == @n", local_dict={"n": str(n)})
    order = {"dense_accuracy": 0, "pruned_accuracy": 1, "accuracy_difference": 2}
    rows = {}
    for _, row in printed.iterrows():
        cells = rows.setdefault((row["architecture"], int(row["rf_level"])), [MISSING] * 3)
        cells[order[row["metric"]]] = f"{row['mean']} ± {row['std']}"
    return rows


def _by_row(table):
    """{(architecture, level): [dense, pruned, difference]} of our own columns."""
    return {
        (row["architecture"], row["rf_level"]): [
            _mean_and_std(row[f"ours_{metric}_mean"], row[f"ours_{metric}_std"])
            for metric in ("dense", "pruned", "difference")
        ]
        for _, row in table.iterrows()
    }


def _markdown(body):
    """Names to the left, numbers to the right."""
    align = ["left" if name in ("Network", "Data", "Layer", "As the field grows") else "right" for name in body.columns]
    return body.to_markdown(index=False, disable_numparse=True, colalign=align)


def _mean_and_std(mean, std):
    if mean is None:
        return MISSING
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def text(table, form="md"):
    """A table as text.

    Args:
        table: Data frame, as made by `paper_table`.
        form: ``"csv"``, ``"md"`` or ``"latex"``.

    Returns:
        Text, empty where a cell was not run.

    Raises:
        ConfigError: If the form is unknown.
    """
    filled = table.map(lambda value: "" if value is None else value)
    writers = {
        "csv": lambda: filled.to_csv(index=False),
        "md": lambda: filled.to_markdown(index=False),
        "latex": lambda: _latex(filled),
    }
    if form not in writers:
        raise ConfigError(f"unknown form {form!r}; expected {', '.join(writers)}")
    return writers[form]()


def _latex(table):
    def cell(value):
        return f"{value:.2f}" if isinstance(value, float) else str(value).replace("_", r"\_").replace("%", r"\%")

    lines = [" & ".join(cell(value) for value in row) + r" \\" for row in (table.columns, *table.to_numpy())]
    middle = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return f"\\begin{{tabular}}{{{'l' * len(table.columns)}}}\n\\toprule\n{middle}\n\\bottomrule\n\\end{{tabular}}\n"
