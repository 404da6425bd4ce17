"""What the claims are tested on: our runs, and the author's public results."""

from dataclasses import dataclass, field

import pandas as pd

from rfkit import experiments, outcomes, presets, tables
from rfkit.data import PUBLISHED
from rfkit.presets import PAPER_RATES

PAPER_SEEDS = 5
PAPER_CHANCE = {name: 100 / about.num_classes for name, about in PUBLISHED.items()}
PAPER_TEST_IMAGES = 10_000


@dataclass(frozen=True)
class Evidence:
    """What the claims are tested on."""

    #: As made by `rfkit.outcomes.by_run`, perhaps with columns ``top_eigenvalue_init`` and ``top_eigenvalue``.
    runs: pd.DataFrame
    floors: set = field(default_factory=set)  #: As made by `rfkit.outcomes.floors`.
    paired: bool = True  #: Whether a seed stands for the same initial weights at every level.
    #: One row per pair of seeds, with paper_dataset, architecture, rf_level, seed (of the pair), deep_similarity.
    pairs: pd.DataFrame | None = None
    #: Maxima of the projected gradient of each network, by definition, architecture and level.
    maxima: dict = field(default_factory=dict)
    #: Cosine of the mean pattern, moved to fit, to that of the first level, by definition, architecture and level.
    shapes: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)  #: Number of parameters, by (dataset, architecture) and level.
    not_five: pd.DataFrame | None = None  #: As made by `seeds_behind_tables`.


def evidence_of_study():
    """Evidence of the recorded study: its trainings, and what was measured in untrained networks."""
    study = presets.get("study")
    measured = (experiments.measured(name, study) for name in ("gradient_projection", "initial_curvature"))
    return evidence_of_runs(experiments.recorded(study), *measured)


def evidence_of_runs(runs, projected=(), curved=()):
    """Evidence of our own runs."""
    frame = experiments.frame("pruning", runs)
    maxima, shapes, parameters = {}, {}, {}
    for each in projected:
        variant, architecture = each["settings"]["variant"], each["settings"]["architecture"]
        if variant in experiments.DEFINITIONS:
            fitted = experiments.fitted_to_first(each).items()
            maxima.setdefault(variant, {})[architecture] = each["values"]["maxima"]
            shapes.setdefault(variant, {})[architecture] = {level: cosine for level, (cosine, _) in fitted}
    for run in runs:
        cell = (experiments.describe(run)["paper_dataset"], run.config.architecture)
        parameters.setdefault(cell, {})[run.config.level] = run.summary["parameters"]
    table = outcomes.by_run(frame, experiments.frame("fine_tune", runs))
    return Evidence(
        table.merge(outcomes.sharpness(runs, curved), how="outer", on=outcomes.RUN),
        outcomes.floors(frame),
        pairs=experiments.frame("pair", runs).query("stage == 'final'"),
        parameters={name: counts for name, counts in parameters.items() if len(counts) > 1},
        maxima=maxima,
        shapes=shapes,
    )


def evidence_of_author():
    """Evidence of the author's public result files: the rows behind Tables 1, 2 and 5-14."""
    names = {"seed_or_name": "seed", "dense_test_accuracy": "dense", "pruned_test_accuracy": "accuracy"}
    rows = tables.author_runs().query("paper_table.notna()").rename(columns={"dataset": "paper_dataset"} | names)
    rows = rows.assign(chance=rows["paper_dataset"].map(PAPER_CHANCE), test_images=PAPER_TEST_IMAGES)
    shot, tuned = rows[rows["fine_tuned"] == 0], rows[rows["fine_tuned"] == 1]
    dense = shot.drop_duplicates(outcomes.RUN)
    dense = dense.assign(pruning_rate=0.0, accuracy=dense["dense"])
    frame = pd.concat([dense, shot])
    by_run = outcomes.by_run(frame, tuned)
    whole = by_run[[f"gap_{rate}" for rate in PAPER_RATES]].notna().all(axis=1)  # others are in Table 1 only
    by_run.loc[~whole, "breaking_point"] = float("nan")
    return Evidence(by_run, outcomes.floors(frame), paired=False, not_five=seeds_behind_tables())


def seeds_behind_tables():
    """How many of the author's networks are behind each mean of Tables 1, 2 and 5-14, where it is not five."""
    keys = ["table", "architecture", "rf_level"]
    cell = ["dataset", *keys[1:], "fine_tuned", "pruning_rate"]
    rows = tables.author_runs().query("paper_table.notna()")[[*cell, "note"]]
    printed = tables.reference().query("metric == 'dense_accuracy'")[["table", *cell]]
    behind = printed.merge(rows, how="left", on=cell)
    elsewhere = (behind["table"] != 1) & behind["note"].str.contains("in Table 1 only", na=False)  # two of October
    frame = behind[~elsewhere].groupby(keys).size().reset_index(name="networks")
    return frame[frame["networks"] != PAPER_SEEDS].reset_index(drop=True)
