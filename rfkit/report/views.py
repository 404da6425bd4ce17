"""Tables and numbers as readers see them: Jupyter HTML, and MyST Markdown with fixed labels for the book."""

import ast
import inspect
import re
from dataclasses import dataclass
from importlib.metadata import version

import pandas as pd

import rfkit
from rfkit import experiments, presets, tables
from rfkit.tables import MISSING, label, three

NOTHING = pd.DataFrame({"": ["nothing of this is in this build"]})


@dataclass(frozen=True)
class Table:
    """A table as a reader sees it: HTML in Jupyter, MyST Markdown with a label in the book."""

    body: pd.DataFrame  #: Its rows.
    caption: str  #: One sentence; without one the table has no number.
    label: str  #: For ``numref``, or for ``ref`` where the caption is literal.
    words_from: int | None = None  #: Column, counted from 1, from which on cells hold words that wrap; figures do not.
    notes: tuple[str, ...] = ()  #: Lines below the table, such as its provenance.
    literal: bool = False  #: Whether the caption holds the paper's own number, which Sphinx's counter cannot be told.
    sortable: bool = False  #: Whether readers of the book may sort it by clicking a heading.

    def _repr_markdown_(self):
        body = _markdown(self.body if len(self.body.columns) else NOTHING)
        notes = [f"{{.provenance}}\n{note}" for note in self.notes]
        if self.literal:
            return "\n\n".join([f"({self.label})=", f"{{.paper-caption}}\n{self.caption}", body, *notes])
        classes = [f"words-from-{self.words_from}"] * bool(self.words_from) + ["sortable"] * self.sortable
        options = f":name: {self.label}" + (f"\n:class: {' '.join(classes)}" if classes else "")
        return "\n\n".join([f"```{{table}} {self.caption}".rstrip() + f"\n{options}\n\n{body}\n```", *notes])

    def _repr_html_(self):
        notes = "".join(f"<p><small>{note}</small></p>" for note in self.notes)
        return f"<p>{self.caption}</p>{self.body.to_html(index=False)}{notes}"


def named(frame, caption, name):
    """A frame as it is, index included, as a `Table` with words for the names of columns, networks and data sets."""
    body = frame.reset_index().rename(columns=tables.WORDS).astype(object)
    return Table(body.map(lambda each: label(each) if isinstance(each, str) else each).fillna(MISSING), caption, name)


def show_code(*functions):
    """The code of functions or classes as it stands in the library, without docstrings and checks of input."""
    from IPython.display import Markdown

    return Markdown("```python\n" + "\n\n\n".join(map(_body, functions)) + "\n```")


def _body(function):
    source = inspect.getsource(function)
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        said = isinstance(node, ast.Expr) and (
            isinstance(node.value, ast.Constant)
            or (isinstance(node.value, ast.Call) and ast.unparse(node.value.func).endswith("require"))
        )
        if said:
            lines[node.lineno - 1 : node.end_lineno] = [None] * (node.end_lineno - node.lineno + 1)
    return "\n".join(line.removesuffix("  # fmt: skip") for line in lines if line is not None)


def show_paper_table(n, runs, preset, builds=None):
    """One of the paper's accuracy tables for readers: paper, recorded study, this build, networks of its width."""
    builds, table = builds or _beside(runs, preset), tables.paper_table(n, runs=runs)
    first = table.iloc[0]
    data, rate = label(first["dataset"]), f"{first['pruning_rate']:g}"
    measured = f"pruned test accuracy (%) at pruning rate {rate}"
    if first["fine_tuned"]:
        measured = f"fine-tuned test accuracy (%) after pruning at rate {rate}"
    caption = f"**Paper Table {n}.** {data}: dense and {measured}, mean ± standard deviation over seeds."
    sources, notes = {"paper": _as_printed(n)}, []
    for name, made in builds.items():
        beside = [run for run in made if experiments.paper_dataset(run.config) == first["dataset"]]
        everything = len(beside)
        if first["fine_tuned"]:
            beside = [run for run in beside if run.result("fine_tune") is not None]
        if beside:
            sources[name] = _as_measured(tables.paper_table(n, runs=made))
            made_by = f" (preset {preset.name})" if name == "this build" else ""
            which = "" if len(beside) == everything else " Only runs that were fine-tuned, dense accuracy included."
            which += "" if any(key[2] == "pruned" for key in sources[name]) else f" Rate {rate} was not run."
            notes.append(f"{name.capitalize()}{made_by}: {provenance_line(beside)}{which}")
        elif name == "this build":
            planned = first["dataset"] in preset.datasets
            why = "no run of it is recorded yet" if planned else "it is not part of this preset"
            notes.append(f"This build (preset {preset.name}) has nothing beside {data}: {why}.")
    keys = list(zip(table["architecture"], table["rf_level"], strict=True))
    columns = {
        "Network": [tables.ARCHITECTURE_LABELS.get(network, f"`{network}`") for network, _ in keys],
        "Field (px)": [MISSING if px is None else f"{px}" for px in table["field_px"]],
    }
    for metric, title in (("dense", "Dense"), ("pruned", "Fine-tuned" if first["fine_tuned"] else "Pruned")):
        for name, rows in sources.items():
            columns[f"{title}, {name}"] = [rows.get((*key, metric), MISSING) for key in keys]
    return Table(pd.DataFrame(columns), caption, f"paper-table-{n}", notes=tuple(notes), literal=True)


def _beside(runs, preset):
    """What stands beside the paper's numbers: its name to its runs."""
    builds = {"this build": runs}
    study = presets.get("study")
    if preset != study:
        builds = {"recorded study": experiments.recorded(study), **builds}
    full = experiments.recorded_at_widths(study, widths=(1.0,))
    return builds | ({"full width": full} if full else {})


class Tabs(dict):
    """Title to `Table`, of one kind: one at a time in the book, one below the other in Jupyter."""

    def _repr_markdown_(self):
        items = (f"::::{{tab-item}} {title}\n{table._repr_markdown_()}\n::::" for title, table in self.items())
        return ":::::{tab-set}\n" + "\n".join(items) + "\n:::::"

    def _repr_html_(self):
        return "".join(table._repr_html_() for table in self.values())


def show_paper_tables(numbers, runs, preset):
    """Several of the paper's accuracy tables as tabs, one for each data set and rate."""
    builds, printed = _beside(runs, preset), tables.reference().drop_duplicates("table").set_index("table")
    titles = {n: f"{label(printed.loc[n, 'dataset'])}, {printed.loc[n, 'pruning_rate']:g}" for n in numbers}
    return Tabs({title: show_paper_table(n, runs, preset, builds) for n, title in titles.items()})


def show_importance_table(n, builds):
    """Table 3 or 4 of the paper beside the two definitions of the gradient."""
    network, columns, notes = tables.IMPORTANCE_TABLES[n], {}, []
    for name, found in builds.items():
        table = tables.importance_table(n, found)
        if not columns:
            columns["Field (px)"] = [str(px) for px in table["field_px"]]
            columns["Paper"] = list(map(_scientific, table["paper_mean"], table["paper_std"]))
        if table["true_mean"].isna().all():
            continue
        columns[f"Linearised, {name}"] = list(map(_scientific, table["linearised_mean"], table["linearised_std"]))
        if table["standard_errors"].notna().any():
            apart = [MISSING if each is None else f"{each:.1f}" for each in table["standard_errors"]]
            columns[f"Distance, {name} (standard errors)"] = apart
        columns[f"True, {name}"] = list(map(_scientific, table["true_mean"], table["true_std"]))
        shown = [each for each in found if each["settings"]["variant"] in experiments.DEFINITIONS]
        notes.append(f"{name.capitalize()}: {importance_line(shown, network)}")
    shown = "largest projected gradient in a 64×64 image, mean ± standard deviation over freshly initialised networks."
    caption = f"**Paper Table {n}.** {label(network)}: {shown}"
    return Table(pd.DataFrame(columns), caption, f"paper-table-{n}", notes=tuple(notes), literal=True)


def importance_line(results, architecture=None):
    """What projected gradients were made from, in one sentence."""
    shown = [r for r in results if architecture in (None, r["settings"]["architecture"])]
    said = {
        "networks": sorted({r["settings"]["repeats"] for r in shown}),
        "width": sorted({f"{r['settings']['width']:g}" for r in shown}),
        "image px": sorted({r["settings"]["input_size"] for r in shown}),
        "device": sorted({r["provenance"]["device"] for r in shown}),
        "torch": sorted({r["provenance"]["versions"]["torch"] for r in shown}),
    }
    return _said(said) + "; untrained."


def _said(said):
    return "; ".join(f"{key} {', '.join(map(str, values))}" for key, values in said.items())


def _as_printed(n):
    """{(architecture, level, metric): mean ± standard deviation}, digit by digit as in the paper."""
    rows = tables.reference(dtype=str).query("table == @n", local_dict={"n": str(n)}).itertuples()
    return {(r.architecture, int(r.rf_level), tables.METRICS[r.metric]): f"{r.mean} ± {r.std}" for r in rows}


def _as_measured(table):
    """The same of our own columns."""
    found = {}
    for _, row in table.iterrows():
        for metric in ("dense", "pruned"):
            mean, std = row[f"ours_{metric}_mean"], row[f"ours_{metric}_std"]
            if mean is not None:
                said = f"{mean:.2f} (one seed)" if std is None else f"{mean:.2f} ± {std:.2f}"
                found[row["architecture"], row["rf_level"], metric] = said
    return found


def _scientific(mean, std):
    return three(mean) if std is None else f"{three(mean)} ± {three(std)}"


def _markdown(body):
    """Words to the left, numbers to the right."""
    number = re.compile(rf"(?:{MISSING}|all)$|[+−-]?[\d.]")
    align = ["right" if all(number.match(str(cell)) for cell in body[name]) else "left" for name in body.columns]
    minus = body.map(lambda cell: re.sub(r"(?<![\w.`-])-(?=[\d.])", "−", str(cell)))
    return minus.to_markdown(index=False, disable_numparse=True, colalign=align)


def glance(frame, runs, preset):
    """The result of a build in two sentences and a provenance line, for the landing page."""
    lines = []
    for (data, architecture), part in frame.groupby(["data_label", "architecture"], sort=False):
        low, high = part["rf_level"].min(), part["rf_level"].max()
        if low == high:
            continue
        rate = preset.headline_rate
        means = part.groupby(["rf_level", "pruning_rate"])["accuracy"].mean()
        fields = part.groupby("rf_level")["field_px"].first()
        grows = f"From RF level {low} to {high}"
        if fields.notna().all():
            grows = f"From {fields[low]:g} to {fields[high]:g} pixels of receptive field"
        dense = f"from {means[low, 0.0]:.1f} to {means[high, 0.0]:.1f} %"
        first, last = (f"{means[level, rate]:.1f}" for level in (low, high))
        pruned = f"leaves {first} % at both" if first == last else f"takes it to {first} and {last} %"
        lines.append(
            f"- **{label(architecture)}, {data}.** {grows}, dense accuracy goes {dense}; "
            f"pruning {100 * rate:g} % of the weights {pruned}."
        )
    return "\n".join(lines) + f"\n\n{{.provenance}}\nPreset {preset.name}: {provenance_line(runs)}\n"


def provenance_line(runs):
    """What a set of numbers was made from, in one sentence."""
    if not runs:
        return "No runs."
    configs = [run.config for run in runs]
    said = {
        "data": sorted({run.provenance["data"]["label"] for run in runs}),
        "protocol": sorted({config.protocol for config in configs}),
        "width": sorted({f"{config.width:g}" for config in configs}),
        "epochs": _where(configs, lambda config: config.train.epochs),
        "precision": sorted({config.train.precision for config in configs} - {"float32"}),
        "seeds": _where(configs, lambda config: config.seed),
        "device": sorted({run.provenance["device"] for run in runs}),
    }
    return _said({key: values for key, values in said.items() if values}) + "."


def _where(configs, setting):
    """Values of a setting, with the names of networks and data wherever these differ in it."""
    found = {}
    for config in configs:
        network, data = config.architecture, label(experiments.paper_dataset(config))
        network = "changed networks" if network.startswith(presets.CONTRAST_NETS) else label(network)
        found.setdefault((network, data), set()).add(setting(config))
    for name in ("", "{0}", "{1}", "{0} on {1}"):
        groups = {}
        for names, values in found.items():
            groups.setdefault(name.format(*names), set()).add(tuple(sorted(values)))
        if all(len(group) == 1 for group in groups.values()):
            break
    alike = {}
    for each, (values,) in groups.items():
        alike.setdefault(values, []).append(each)
    *some, (most, rest) = sorted(alike.items(), key=lambda item: len(item[1]))
    some.append((most, rest if len(rest) < 3 else ["otherwise"]))
    return [tables.listed(values) + (f" ({' and '.join(each)})" if name else "") for values, each in some]


def recipe_line(made):
    """What networks of the homework's question 4 were trained on, in one sentence."""
    if not made:
        return "No recipe is recorded."
    said = {
        "data": sorted({each["provenance"]["data"]["label"] for each in made}),
        "seeds": sorted({each["settings"]["seed"] for each in made}),
        "precision": sorted({each["settings"]["training"].get("precision", "float32") for each in made}),
        "device": sorted({each["provenance"]["device"] for each in made}),
    }
    return _said(said) + "."


def environment_line():
    """What numbers that need no training were made with."""
    names = ("torch", "torchvision", "numpy")
    return "; ".join([f"rfkit {rfkit.__version__}", *(f"{name} {version(name)}" for name in names)]) + "."
