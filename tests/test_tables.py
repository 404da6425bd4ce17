import json
import statistics
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rfkit import experiments, numpy_layers, outcomes, presets, report, stats, tables
from rfkit.config import ConfigError

ROOT = Path(__file__).parents[1]


def test_reference_holds_every_printed_number():
    reference = tables.reference()
    assert len(reference) == 278 and set(reference["table"]) == set(range(1, 15))
    one = reference.query("table == 1 and architecture == 'vgg19' and rf_level == 2 and metric == 'pruned_accuracy'")
    assert (one["mean"].item(), one["std"].item()) == (32.4, 15.7)


def test_paper_table_without_runs_is_the_paper():
    table = tables.paper_table(13, runs=[])
    assert list(table["field_px"]) == [181, 359, 537, 715, 108, 213, 318, 423]
    assert table["fine_tuned"].tolist() == [1] * 8 and table["paper_pruned_mean"].iloc[0] == 91.42
    assert table["ours_dense_mean"].isna().all() and all(value is None for value in table["ours_seeds"])
    assert len(tables.paper_table(2, runs=[])) == 7 and len(tables.paper_table("2", runs=[])) == 7


class FakeRun:
    """A record with chosen numbers."""

    def __init__(self, level, seed, dense, pruned, architecture="vgg19", size=32):
        from dataclasses import replace

        from test_config import RUN

        self.config = replace(RUN, level=level, seed=seed, architecture=architecture, image_size=size)
        self.summary = {"test_accuracy": dense, "field_px": 3 + 178 * level}
        self.provenance = {"data": {"label": "made up"}, "device": "cpu"}
        self.pruned, self.tuned = pruned, None
        self.places = lambda name, rates: range(len(rates))

    def result(self, name):
        if name == "fine_tune":
            return self.tuned
        if name != "pruning":
            return None
        rates, accuracy = [0.0, 0.8, 0.9], [self.summary["test_accuracy"], *self.pruned]
        same = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "reestimated_accuracy")
        counts = {"usable": [50, 50], "prunable": [50, 50], "usable_kept": [100, 20, 10]}
        counts |= {"parameters": [110, 30, 20], "multiplications": [1000, 300, 200]}
        return {"rates": rates, **dict.fromkeys(same, accuracy), **counts}


RUNS = [
    FakeRun(1, 0, 90.0, [50.0, 10.0]), FakeRun(1, 1, 92.0, [60.0, 14.0]),
    FakeRun(4, 0, 80.0, [79.0, 70.0]), FakeRun(4, 1, 84.0, [81.0, 78.0]),
]  # fmt: skip


def test_our_columns_are_means_over_seeds_of_each_cell():
    (first, *_) = tables.paper_table(1, runs=RUNS).to_dict("records")
    assert (first["ours_dense_mean"], first["ours_pruned_mean"], first["ours_difference_mean"]) == (91.0, 12.0, 79.0)
    assert first["ours_dense_std"] == pytest.approx(np.sqrt(2)) and first["ours_seeds"] == 2
    assert first["ours_difference_std"] == pytest.approx(np.std([80.0, 78.0], ddof=1))
    assert tables.paper_table(5, runs=RUNS).iloc[3]["ours_pruned_mean"] == 80.0
    assert tables.paper_table(2, runs=RUNS)["ours_seeds"].isna().all()  # 32-pixel runs are not Tiny ImageNet's
    assert tables.paper_table(13, runs=RUNS)["ours_seeds"].isna().all()  # one-shot numbers are not fine-tuned ones
    rate_of = tables.reference().query("dataset == 'cifar10'").set_index("table")["pruning_rate"]
    (first, *_) = tables.paper_table(half := rate_of[rate_of == 0.5].index[0], runs=RUNS).to_dict("records")
    assert (first["ours_dense_mean"], first["ours_pruned_mean"]) == (91.0, None)  # that rate was not run
    assert "Rate 0.5 was not run." in report.show_paper_table(half, RUNS, presets.get("demo"))._repr_markdown_()
    tuned = FakeRun(1, 0, 90.0, [50.0, 10.0])
    tuned.tuned = {"rate": 0.9, "epochs": 3, "pruned_accuracy": 10.0, "test_accuracy": 70.0}
    row = tables.paper_table(13, runs=[*RUNS, tuned]).iloc[0]
    assert (row["ours_dense_mean"], row["ours_pruned_mean"], row["ours_seeds"]) == (90.0, 70.0, 1)
    own = tables.paper_table(1, runs=[FakeRun(2, 0, 50.0, [40.0, 30.0], architecture="mine:net")]).iloc[-1]
    assert own["architecture"] == "mine:net" and own["paper_dense_mean"] is None and own["ours_dense_std"] is None


def test_trends():
    table = report.trend_table(experiments.frame("pruning", RUNS))
    assert table["Rate"].tolist() == ["dense", "0.8", "0.9"]
    assert table["As the field grows"].tolist() == [
        "falls",
        "rises",
        "level 1 near chance",
    ]  # 12 % at level 1, of ten classes
    assert float(table["Rank correlation"].iloc[0]) < -0.8 and table["Rank correlation"].iloc[2] == tables.MISSING
    assert report.trend_table(experiments.frame("pruning", RUNS[:2]))["Rank correlation"].tolist() == ["–"] * 3


def test_view_has_a_literal_caption_and_a_fixed_label():

    view = report.show_paper_table(1, RUNS, presets.get("demo"))
    text = view._repr_markdown_()
    assert text.startswith("(paper-table-1)=") and "**Paper Table 1.** CIFAR-10" in text
    assert (
        " 93.5 ± 0.11 |" in text
        and " 87.6 ± 0.30 |" in text
        and "91.00 ± 1.41" in text
        and "data made up; protocol short" in text
    )
    other = report.show_paper_table(2, RUNS, presets.get("demo"))._repr_markdown_()
    assert "nothing beside Tiny ImageNet: it is not part of this preset" in other and "made up" not in other
    study = presets.get("study")
    for chosen, beside in ((study, False), (study.select(levels=[1, 2]), True)):
        assert ("Dense, recorded study" in report.show_paper_table(1, RUNS, chosen)._repr_markdown_()) == beside
    planned = report.show_paper_table(2, RUNS, study)._repr_markdown_()
    assert "nothing beside Tiny ImageNet: no run of it is recorded yet" in planned
    assert "<table" in view._repr_html_()


def test_glance_says_what_the_numbers_say():

    text = report.glance(experiments.frame("pruning", RUNS), RUNS, presets.get("demo"))
    assert "From 181 to 715 pixels" in text and "from 91.0 to 82.0 %" in text
    assert "pruning 90 % of the weights takes it to 12.0 and 74.0 %" in text
    both = experiments.frame("pruning", RUNS).assign(accuracy=9.94)
    assert "pruning 90 % of the weights leaves 9.9 % at both" in report.glance(both, RUNS, presets.get("demo"))


def test_what_is_recorded_is_counted_cell_by_cell():

    runs = [FakeRun(1, 0, 90.0, [50.0, 10.0]), FakeRun(1, 1, 92.0, [60.0, 14.0]), FakeRun(1, 0, 1, [1, 1], size=64)]
    for run, epochs in zip(runs, ([2.0, 4.0, 40.0], [1.0], [1.0]), strict=True):
        copied = {32: "cifar10_jpeg", 64: "tiny_imagenet_100"}[run.config.image_size]
        run.config, run.metrics = replace(run.config, dataset=copied), [{"seconds": seconds} for seconds in epochs]
        run.provenance |= {"wall_seconds": 1800, "threads": 2}
    runs[1].tuned = {"rate": 0.9}
    images = runs[0].config.train_images
    preset = presets.get("study").select(architectures="vgg19", levels=[1, 2], seeds=[0, 1, 2])
    one, two, three, four = report.recorded_table(preset, runs).to_dict("records")
    assert (one["Data"], one["Seeds"], one["Fine-tuned"], one["Full spectra"]) == ("CIFAR-10", 2, 1, 0)
    assert (one["Images/s"], one["Core-hours"]) == (f"{(images / 4 + images) / 2:,.0f}", "2.00")
    assert two["Seeds"] == 0 and two["Images/s"] == two["Core-hours"] == tables.MISSING
    assert (three["Data"], three["Level"], three["Seeds"]) == ("Tiny ImageNet", 1, 1) and four["Fine-tuned"] == 0
    for run in runs:
        run.config = replace(run.config, dataset="digits")
    preset = presets.get("demo").select(architectures="vgg19", datasets=["digits", "cifar10"], levels=[1], seeds=[0])
    table = report.recorded_table(preset, runs[:1])
    assert table["Seeds"].tolist() == [1, 0]


def test_every_recorded_training_is_in_one_stage():
    """Read from the files themselves."""
    folder = Path(__file__).parents[1] / "results" / "study"
    stored = [json.loads(path.read_text()) for path in folder.glob("*/seed*/provenance.json")]
    seconds = [each["wall_seconds"] * each["threads"] for each in stored]
    table = report.stage_table()
    assert table["Trainings"].sum() == len(seconds) > 30
    hours = table["Core-hours"].astype(float).sum()
    assert hours == pytest.approx(sum(seconds) / 3600, abs=0.05 * len(table))
    newest = sum(each.get("processor") == "AMD EPYC (family 26, model 2)" for each in stored)
    assert table["Processors"].str.extract(r"AMD 26/2: (\d+)")[0].dropna().astype(int).sum() == newest > 30
    assert table["Processors"].str.contains("not named: ").any()


def test_protocols_stand_side_by_side():
    from dataclasses import replace

    stated, short, other = (
        FakeRun(4, 0, 40.0, [30.0, 20.0]),
        FakeRun(4, 0, 60.0, [58.0, 50.0]),
        FakeRun(1, 0, 80.0, [79.0, 9.0]),
    )
    stated.config = replace(
        stated.config, protocol="as_stated", train=replace(stated.config.train, lr=1e-4, clip_value=0.1)
    )
    for run, shrink in ((stated, 0.9), (short, 0.0123), (other, 0.0123)):
        run.summary["shrink_factor"] = shrink
    first, second, third = report.protocol_table([short, stated, other]).to_dict("records")
    assert (first["Level"], first["Protocol"], first["Dense (%)"]) == (1, "`short`", "80.0")
    assert (second["Level"], second["Protocol"], second["Shrink factor"]) == (4, "`as_stated`", "0.9")
    assert (second["Dense (%)"], second["Pruned at 0.9 (%)"], second["Breaks at (printed rate)"]) == (
        "40.0",
        "20.0",
        "0.400",
    )
    assert (third["Dense (%)"], third["Shrink factor"], third["Seeds"]) == ("60.0", "0.012", 1)


def test_similarities_of_two_data_sets_are_not_averaged():
    from rfkit import report

    pairs = pd.DataFrame([
        {
            "data_label": data, "architecture": "vgg19", "rf_level": level, "field_px": 3 + 178 * level, "stage": stage,
            "similarity": value, "deep_similarity": value, "dead": 0, "barrier": 1.0,
            "matrix": np.full((3, 3), value), "own": np.eye(3), "layers": ["relu1", "relu2", "relu3"],
        }
        for data, value in (("first", 0.2), ("second", 0.6))
        for level in (1, 2)
        for stage in ("init", "final")
    ])  # fmt: skip
    table = report.similarity_table(pairs)
    assert list(table["Data"]) == ["first", "first", "second", "second"]
    assert list(table["All layers, after"]) == ["0.200"] * 2 + ["0.600"] * 2
    titles = [ax.get_title() for ax in report.plot_diagonals(pairs)]
    assert len(titles) == 4 and titles[0].endswith("first") and titles[-1].endswith("second")
    lines = report.plot_diagonals(pairs)[-1].lines
    assert [line.get_ydata().tolist() for line in lines] == [[0.6] * 3] * 2
    labels = [line[0].get_ylabel().splitlines()[-1] for line in report.plot_similarities(pairs)]
    assert labels == ["first", "second"]
    none = report.plot_diagonals(pairs[:0])
    assert all("not in this build" in ax.texts[0].get_text() for ax in none)


def test_a_breaking_point_that_was_not_reached_says_so():
    flat = [FakeRun(1, seed, 90.0, [89.0, 88.0]) for seed in (0, 1)] + [FakeRun(2, 0, 90.0, [89.0, 20.0])]
    by_run = outcomes.by_run(experiments.frame("pruning", flat)).assign(usable_reestimated=0.53)
    rows = []
    for level, seed, bottom in ((1, 0, 80.0), (1, 1, 80.0), (2, 0, 88.0)):
        cell = {"paper_dataset": "cifar10", "architecture": "vgg19", "rf_level": level, "seed": seed, "kept": 9}
        rows += [cell | {"usable_sparsity": r, "accuracy": a} for r, a in ((0.0, 90.0), (0.9, bottom))]
    repruned = pd.DataFrame(rows)
    first, second = report.breaking_point_table(by_run, repruned).to_dict("records")
    assert first["Breaks at (printed rate)"] == "≥ 0.900 ± 0.000" and second["Breaks at (printed rate)"] == "0.806"
    assert first["Breaks at (usable rate)"] == "0.450 ± 0.000" and second["Breaks at (usable rate)"] == "≥ 0.900"
    assert first["Usable rate, re-estimated"] == "≥ 0.530 ± 0.000" and second["Usable rate, re-estimated"] == "0.530"
    first, second = report.two_ways_table(by_run, by_run).to_dict("records")
    for title in ("All layers at once", "All layers at once, re-estimated", "Each layer for itself, re-estimated"):
        assert first[title] == "≥ 0.900 ± 0.000" and second[title] == "0.806"


def test_images_of_another_size_are_a_data_set_of_their_own():
    runs = [FakeRun(level, seed, 90.0 - 9 * level, [50.0, 34.0], size=48) for level in (1, 2, 3) for seed in (0, 1, 2)]
    from dataclasses import replace

    for run in runs:
        run.config = replace(run.config, dataset="photos", num_classes=3)
    frame = experiments.frame("pruning", runs)
    assert set(frame["paper_dataset"]) == {"photos"} and len(outcomes.by_run(frame)) == 9
    assert {("photos", "vgg19", level, 0.9) for level in (1, 2, 3)} <= outcomes.floors(frame)
    table = report.breaking_point_table(outcomes.by_run(frame), experiments.frame("usable_pruning", runs))
    assert set(table["Data (by image size)"]) == {"photos"}
    assert any(said.endswith("near chance") for said in report.trend_table(frame)["As the field grows"])


def test_mean_std():
    assert stats.mean_std([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(np.std([1, 2, 4], ddof=1)))
    assert stats.mean_std([3.0]) == (3.0, None)
    for bad in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError):
            stats.mean_std(bad)


def test_plots_draw_what_they_are_given():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    frame = experiments.frame("pruning", RUNS)
    ax = report.plot_accuracy_by_field(frame, rate=0.9)
    dense, _, pruned, _ = ax.lines
    assert list(dense.get_ydata()) == [91.0, 82.0] and list(pruned.get_ydata()) == [12.0, 74.0]
    ax = report.plot_accuracy_by_rate(frame)
    assert [list(line.get_ydata()) for line in ax.lines] == [[91, 55, 12], [82, 80, 74]]
    assert {line.get_color() for line in ax.lines} == {report.plots.level_style(level)["color"] for level in (1, 4)}
    both = pd.concat([frame, frame.assign(architecture="resnet50")])
    axes = report.by_network(both, report.plot_accuracy_by_rate)
    assert [ax.get_title() for ax in axes.flat] == ["VGG19-like, made up", "ResNet50, made up"]
    plt.close("all")


def test_a_figure_of_nothing_and_a_field_without_bounds():
    empty = pd.DataFrame(columns=["data_label", "architecture", "rf_level", "field_px"])
    assert report.by_network(empty, report.plot_accuracy_by_rate) == []
    report.plot_field_boxes(np.zeros((4, 4, 3)), {1: float("inf")})


def test_curves_have_everything_the_reporting_standard_asks():
    dense, _, last = experiments.frame("pruning", RUNS[:1]).to_dict("records")
    assert (dense["pruning_rate"], dense["usable_sparsity"], dense["speed_up"], dense["chance"]) == (0, 0, 1, 10)
    assert last["usable_sparsity"] == 0.9 and last["compression"] == 5.5 and last["speed_up"] == 5.0


@pytest.mark.parametrize(
    "rates, accuracies, point",
    [
        ([0, 0.5, 0.9], [90, 90, 80], 0.7),
        ([0, 0.5, 0.9], [90, 85, 80], 0.5),
        ([0, 0.5, 0.9], [90, 89, 86], 0.9),
        ([0, 0.5, 0.9], [90, 10, 90], 0.03125),
        ([0, 0, 0.5], [90, 90, 80], 0.25),
    ],
)
def test_breaking_point(rates, accuracies, point):
    assert outcomes.breaking_point(rates, accuracies) == pytest.approx(point)
    with pytest.raises(ValueError, match="expected 0, the dense network, first"):
        outcomes.breaking_point(rates[2:], accuracies[2:])
    with pytest.raises(ValueError, match="expected finite numbers"):
        outcomes.breaking_point(rates, [*accuracies[:2], float("nan")])


def test_floor():
    assert outcomes.near_chance(10.0, 0.0, 2, 10, 10_000) and outcomes.near_chance(10.5, None, 1, 10, 10_000)
    assert not outcomes.near_chance(10.7, None, 1, 10, 10_000) and outcomes.near_chance(12.0, 4.24, 2, 10, 10_000)


def test_nothing_trained_is_an_empty_frame():
    frame = experiments.frame("pruning", [])
    by_run = outcomes.by_run(frame)
    assert by_run.empty and report.two_ways_table(by_run, by_run).empty and report.cost_table(frame).empty
    (row, *_) = experiments.ANALYSES["pruning"].frame.__wrapped__(RUNS[0].result("pruning"), RUNS[0])
    assert list(frame)[-len(row) :] == list(row)


def test_more_curves_than_styles_are_all_drawn():
    styles = [tuple(report.plots.level_style(level).values()) for level in range(1, 8)]
    assert len(set(styles)) == 6 and styles[6] == styles[0]
    assert len(report.plot_lines({name: [1, 2] for name in "abcdefgh"}).lines) == 8


def test_one_row_a_run():
    frame = outcomes.by_run(experiments.frame("pruning", RUNS))
    assert frame["breaking_point"].tolist() == pytest.approx([0.1, 0.125, 0.8444444, 0.8666667], abs=1e-3)
    assert frame["gap_0.9"].tolist() == [80, 78, 10, 6] and "gap_0.5" not in frame
    assert frame["breaking_point_reestimated"].tolist() == frame["breaking_point"].tolist()
    half_dead = experiments.frame("pruning", RUNS)
    half_dead["usable_sparsity"] = (2 * half_dead["pruning_rate"] - 1).clip(lower=0)
    found = outcomes.by_run(half_dead)[["usable_reestimated", "breaking_point"]].tail(2)
    assert found["usable_reestimated"].tolist() == pytest.approx((2 * found["breaking_point"] - 1).tolist())


def test_breaking_points_for_readers():
    by_run = outcomes.by_run(experiments.frame("pruning", RUNS))
    keys = {"paper_dataset": "cifar10", "architecture": "vgg19", "rf_level": 4, "seed": 0}
    rows = [keys | {"usable_sparsity": r, "accuracy": a, "kept": 100 - 100 * r} for r, a in ((0, 80), (0.5, 70))]
    table = report.breaking_point_table(by_run, pd.DataFrame(rows)).set_index("Level")
    assert table.loc[4, "Breaks at (usable rate)"] == "0.250" and table.loc[4, "Seeds"] == 2
    assert (
        table.loc[1, "Breaks at (usable rate)"] == "–" and table.loc[1, "Breaks at (printed rate)"] == "0.113 ± 0.018"
    )


@pytest.mark.parametrize("n", [1, 2, *range(5, 15)])
def test_the_studys_tables_follow_from_its_records(n):
    """Mean and standard deviation of every cell, anew from the files of each seed."""
    printed = tables.reference().query("table == @n")
    size = {"cifar10": 32, "tiny_imagenet": 64}[printed["dataset"].iloc[0]]
    rate, tuned = float(printed["pruning_rate"].iloc[0]), bool(printed["fine_tuned"].iloc[0])
    seeds = {}
    for path in (ROOT / "results" / "study").glob("*/seed*/config.json"):
        config = json.loads(path.read_text())
        other = config["width"] != 0.125 or config["protocol"] != "short"
        other |= config["train"]["epochs"] in presets.SHORTER_EPOCHS or config["seed"] not in presets.get("study").seeds
        other |= config["train"].get("precision", "float32") != "float32"
        if config["image_size"] != size or ":" in config["architecture"] or other:
            continue
        dense = json.loads((path.parent / "summary.json").read_text())["test_accuracy"]
        for result in path.parent.glob(
            "analysis/fine_tune-*/result.json" if tuned else "analysis/pruning-*/result.json"
        ):
            found = json.loads(result.read_text())["values"]
            pruned = found["test_accuracy"] if tuned else found["test_accuracy"][found["rates"].index(rate)]
            seeds.setdefault((config["architecture"], config["level"]), []).append((dense, pruned))
    table = tables.paper_table(n, "study").set_index(["architecture", "rf_level"])
    assert {key for key, row in table.iterrows() if row["ours_seeds"] is not None} == set(seeds)
    for key, values in seeds.items():
        row = table.loc[key]
        assert row["ours_seeds"] == len(values)
        columns = {"dense": [d for d, _ in values], "pruned": [p for _, p in values]}
        for name, numbers in (columns | {"difference": [d - p for d, p in values]}).items():
            assert row[f"ours_{name}_mean"] == pytest.approx(statistics.fmean(numbers))
            std = statistics.stdev(numbers) if len(numbers) > 1 else None
            assert row[f"ours_{name}_std"] == (std if std is None else pytest.approx(std))


def test_two_data_sets_of_one_size_are_not_averaged():
    rows = pd.DataFrame({"paper_dataset": ["CIFAR-10"] * 2, "data_label": ["CIFAR-10", "CIFAR-10 (JPEG q75)"]})
    with pytest.raises(ConfigError, match=r"CIFAR-10, CIFAR-10 \(JPEG q75\)"):
        outcomes.refuse_mixed(rows)
    outcomes.refuse_mixed(rows[:1])


def test_numbers_have_three_significant_digits():
    values = {0: "0", 1.3: "1.30", -70.24: "-70.2", 3083: "3,080", 203_000: "2.03·10⁵", -0.00123: "-1.23·10⁻³"}
    values |= {0.9999: "1.00", 9.999: "10.0", 99.96: "100", 9999.6: "1.00·10⁴"}
    assert {value: tables.three(value) for value in values} == values


def test_tables_fold_and_stand_in_tabs():
    runs, preset = experiments.recorded(presets.get("study").select(seeds=0)), presets.get("study")
    text = report.show_paper_tables((5, 6), runs, preset)._repr_markdown_()
    assert text.count("{tab-item}") == 2 and "(paper-table-5)=" in text and "(paper-table-6)=" in text
    assert "CIFAR-10, 0.8" in text and text.startswith(":::::{tab-set}")
    body = pd.DataFrame({"a": [1]})
    assert ":class: sortable" in report.Table(body, "A caption.", "tab-a", sortable=True)._repr_markdown_()


@pytest.mark.parametrize("name", ["max_pool_forward", "spatial_batchnorm_forward", "_conv_forward_naive", "_taps"])
def test_shown_code_is_the_librarys_and_runs(name):
    shown = report.show_code(getattr(numpy_layers, name)).data
    assert "require(" not in shown and '"""' not in shown
    names = dict(vars(numpy_layers))
    exec(shown.removeprefix("```python\n").removesuffix("```"), names)
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    options = {
        "max_pool_forward": {"size": 3, "stride": 1},
        "spatial_batchnorm_forward": {"gamma": np.ones(3), "beta": np.zeros(3), "running": {}, "train": True},
        "_conv_forward_naive": {"w": x[:1, :, :2, :2], "b": np.ones(1), "size": (5, 5), "stride": (1, 1)},
        "_taps": {"kernel": (2, 2), "size": (5, 5), "stride": (1, 1)},
    }[name] | ({"dilation": (1, 1)} if name.startswith("_") else {})
    ours, theirs = (each(x, **options) for each in (getattr(numpy_layers, name), names[name]))
    first = [each[0] if isinstance(each, tuple) else each for each in (ours, theirs)]
    assert (first[0] == first[1]).all()


def test_widths_are_compared_run_by_run():
    runs = experiments.recorded_at_widths(presets.get("study").select(architectures="vgg19", levels=4, seeds=0))
    found = outcomes.by_width([run for run in runs if run.config.image_size == 32])
    narrow, *wider = found.sort_values("width").to_dict("records")
    assert len(wider) >= 2 and {row["precision"] for row in wider} >= {"float32", "bfloat16"}
    assert all(row["prunable"] > narrow["prunable"] and row["dense"] > narrow["dense"] for row in wider)
    table = report.width_table(found)
    assert [each.partition(",")[0] for each in table["Width"]] == [
        str(Fraction(row["width"])) for row in (narrow, *wider)
    ]
    report.plot_by_width(found)
    unmeasured = report.width_table(found.assign(usable=np.nan, left=np.nan))
    quarter = found[found["width"] == 0.25]
    assert set(quarter["precision"]) == {"float32", "bfloat16"}
    ((line, rings),) = [axes.lines for axes in report.plot_by_width(quarter).figure.axes if axes.lines]
    assert list(line.get_ydata()) == quarter["dense"][quarter["precision"] == "float32"].tolist()
    assert list(rings.get_ydata()) == quarter["dense"][quarter["precision"] == "bfloat16"].tolist()
    assert set(unmeasured["Usable left (thousand)"]) == set(unmeasured["Breaks at (usable rate)"]) == {tables.MISSING}
