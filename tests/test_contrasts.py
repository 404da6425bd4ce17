"""The changed networks keep weights and turn one thing at a time; verdicts follow from paired seeds."""

import numpy as np
import pandas as pd
import pytest
import torch

from rfkit import claims, contrast_nets, experiments, models, outcomes, presets, pruning, report
from rfkit.experiments import command

NAMES = {cell[0].partition(":")[2]: cell for cell in reversed(presets.CONTRAST_CELLS)}


def built(cell, seed=0):
    return models.seeded_build(*cell, width=1 / 16, seed=seed).eval()


@pytest.mark.parametrize("cell", presets.CONTRAST_CELLS)
def test_every_weight_is_that_of_the_plain_network(cell):
    changed, plain = built(cell), built(("vgg19", cell[1]))
    assert [(n, p.shape) for n, p in changed.named_parameters()] == [(n, p.shape) for n, p in plain.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(changed.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(
    ("cell", "field", "maps", "dead"),
    [
        (("vgg19", 1), 181, (31, 15, 7, 3), 0.0),
        (("vgg19", 2), 359, (16, 8, 4, 2), 0.0),
        (("vgg19", 3), 537, (11, 5, 2, 1), 0.786),
        (NAMES["centre_taps"], 53, (31, 15, 7, 3), 0.786),
        (NAMES["open_third_pool"], 357, (11, 5, 2, 2), 0.0),
        (NAMES["blurred"], 183, (31, 15, 7, 3), 0.0),
        (NAMES["dilated"], 359, (31, 15, 7, 3), 0.0),
        (NAMES["enlarged"], 181, (32, 16, 8, 4), 0.0),
    ],
)
def test_geometry_as_written_before_the_results(cell, field, maps, dead):
    found = contrast_nets.geometry(*cell)
    assert (found["field_px"], found["maps"]) == (field, maps)
    assert found["dead"] == pytest.approx(dead, abs=5e-4)


def test_centre_taps_are_convolutions_with_the_rest_of_the_kernel_at_zero():
    net, plain = built(NAMES["centre_taps"]), built(("vgg19", 1))
    with torch.no_grad():
        for name in contrast_nets.LAST_CONVS:
            around = torch.ones(3, 3, dtype=torch.bool)
            around[1, 1] = False
            plain.features.get_submodule(name).weight[:, :, around] = 0
        x = torch.randn(4, 3, 32, 32)
        torch.testing.assert_close(net(x), plain(x))
    usable = pruning.usable_weights(net, (3, 32, 32))["features.conv12.weight"]
    assert usable[:, :, 1, 1].all() and usable.sum() == usable[:, :, 1, 1].numel()


def test_levels_a_network_is_not_made_for_are_refused():
    with pytest.raises(ValueError, match="RF level is 2; this network is made for level 1"):
        contrast_nets.dilated(2, 10)
    with pytest.raises(ValueError, match="RF level is 2; this network is made for an odd level"):
        contrast_nets.blurred(2, 10)


def test_they_are_trained_as_the_network_they_change():
    study = presets.get("study")
    changed = presets.of_contrasts(study.select(datasets=["cifar10"], seeds=[0, 1]))
    assert sorted(changed.cells()) == sorted(("cifar10", *cell) for cell in presets.CONTRAST_CELLS)
    assert presets.of_contrasts(study).datasets == ("cifar10",)
    alone = changed.select(architectures=NAMES["dilated"][0], levels=[1], seeds=[1])
    words = f"study --contrasts --architectures {NAMES['dilated'][0]} --levels 1 --seeds 1"
    assert command(alone) == words and command(presets.of_contrasts(study)) == "study --contrasts"
    for _, architecture, level in changed.cells():
        assert changed.training("cifar10_jpeg", architecture) == study.training("cifar10_jpeg", "vgg19")
        unit = experiments.unit_of(changed, "cifar10", architecture, level, 0)
        assert unit.config.width == study.width and unit.config.architecture_sha256 == ""


def runs(cells, outcome="breaking_point"):
    """One row a run, as `outcomes.by_run`, from the outcome of each seed."""
    return pd.DataFrame([
        {"paper_dataset": "cifar10", "architecture": architecture, "rf_level": level, "seed": seed, outcome: value}
        | ({"dense": 50.0} if outcome != "dense" else {"breaking_point": 0.5})
        for (architecture, level), values in cells.items()
        for seed, value in enumerate(values)
    ])  # fmt: skip


def verdicts(cells, outcome="breaking_point"):
    return {f.contrast.key: f for f in claims.judge_contrasts(runs(cells, outcome)) if f.contrast.outcome == outcome}


V = "vgg19"


def test_a_difference_beyond_its_interval_speaks():
    cells = {(V, 1): [0.5, 0.52, 0.51], (V, 3): [0.8, 0.8, 0.8], NAMES["centre_taps"]: [0.7, 0.73, 0.71]}
    found = verdicts(cells)["D1"]
    assert found.verdict == "for" and found.difference == pytest.approx(0.61 / 3)
    cells[NAMES["centre_taps"]] = [0.4, 0.42, 0.42]
    assert verdicts(cells)["D1"].verdict == "against"
    cells[NAMES["centre_taps"]] = [0.4, 0.7, 0.5]
    assert verdicts(cells)["D1"].verdict == "undecided"


def test_one_seed_is_undecided():
    cells = {(V, 1): [0.5], (V, 3): [0.8], NAMES["centre_taps"]: [0.7]}
    found = verdicts(cells)["D1"]
    assert (found.verdict, found.interval, found.difference) == ("undecided", None, pytest.approx(0.2))


def test_two_seeds_decide_nothing():
    cells = {(V, 1): [0.5, 0.5001], (V, 3): [0.8, 0.8], NAMES["centre_taps"]: [0.7, 0.7001]}
    found = verdicts(cells)["D1"]
    assert found.verdict == "undecided" and found.interval[0] > 0


def test_networks_that_never_break_are_not_equal():
    """A breaking point that was not reached is a bound, not a number."""
    cells = {(V, 2): [0.98, 0.98, 0.98], (V, 3): [0.8, 0.8, 0.8], NAMES["open_third_pool"]: [0.98, 0.98, 0.98]}
    for top, expected in ((0.98, "undecided"), (0.99, "for")):
        judged = claims.judge_contrasts(runs(cells).assign(top_rate=top))
        assert {f.verdict for f in judged if f.contrast.key == "D3"} == {expected}


def test_equality_needs_the_margin():
    cells = {(V, 2): [0.60, 0.61, 0.62], (V, 3): [0.8, 0.8, 0.8], NAMES["open_third_pool"]: [0.605, 0.608, 0.622]}
    assert verdicts(cells)["D3"].verdict == "for"
    cells[NAMES["open_third_pool"]] = [0.7, 0.71, 0.73]
    assert verdicts(cells)["D3"].verdict == "against"


def test_nearer_to_which():
    cells = {(V, 1): [80.0, 81.0, 79.0], (V, 2): [70.0, 71.0, 70.0], NAMES["dilated"]: [72.0, 73.5, 71.0]}
    alike = runs(cells, "dense").assign(breaking_point=lambda table: table["dense"] / 100)  # both outcomes say the same
    assert {f.verdict for f in claims.judge_contrasts(alike) if f.contrast.key == "D6"} == {"for"}
    assert verdicts(cells, "dense")["D6"].verdict == "undecided"  # the breaking points are all equal
    cells[NAMES["dilated"]] = [79.0, 79.5, 78.0]
    assert verdicts(cells, "dense")["D6"].verdict == "against"


def test_lower_speaks_for_blur():
    cells = {(V, 1): [80.0, 81.0, 79.0], NAMES["blurred"]: [75.0, 76.5, 74.0]}
    assert verdicts(cells, "dense")["D5"].verdict == "for"
    cells[NAMES["blurred"]] = [85.0, 86.5, 84.0]
    assert verdicts(cells, "dense")["D5"].verdict == "against"


def test_two_outcomes_must_agree():
    """Nearer to level 2 in dense accuracy, nearer to level 1 in the breaking point: not for the field."""
    dense = runs(
        {(V, 1): [80.0, 81.0, 79.0], (V, 2): [70.0, 71.0, 70.0], NAMES["dilated"]: [72.0, 73.5, 71.0]}, "dense"
    )
    points = {1: [0.6, 0.61, 0.62], 2: [0.7, 0.71, 0.72]}
    for i, row in dense.iterrows():
        level = row["rf_level"] if row["architecture"] == V else 1
        dense.loc[i, "breaking_point"] = points[level][row["seed"]]
    found = [f for f in claims.judge_contrasts(dense) if f.contrast.key == "D6"]
    assert [f.verdict for f in found] == ["against", "against"] and found[0].difference > 0 > found[1].difference


def test_dead_weights_change_the_order():
    rates = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9]
    rows = [
        {"paper_dataset": dataset, "architecture": V, "rf_level": level, "seed": seed, "dense": 80.0,
         "usable_sparsity": rate, "accuracy": 80.0 if rate < breaks else 60.0, "kept": round((1 - rate) * 1000)}
        for dataset, level, breaks in (("cifar10", 1, 0.8), ("cifar10", 4, 0.6), ("tiny_imagenet", 1, 0.9))
        for seed in (0, 1) for rate in rates
    ]  # fmt: skip
    by_run = runs({(V, 1): [0.7, 0.7], (V, 4): [0.9, 0.9]}).assign(usable_reestimated=0.8)
    other = by_run.query("rf_level == 1").assign(paper_dataset="tiny_imagenet")
    table = claims.dead_weight_table(pd.concat([by_run, other]), pd.DataFrame(rows))
    mine = table[table["Data (by image size)"] == "CIFAR-10"].set_index("Level")
    assert mine.loc["1", "Breaks at (usable rate)"] == "0.725" and mine.loc["1", "Seeds"] == "2"
    assert (
        mine.loc["order", "Breaks at (printed rate)"] == "1 < 4"
        and mine.loc["order", "Usable rate, re-estimated"] == "1 ≈ 4"
    )
    assert mine.loc["order", "Breaks at (usable rate)"] == "4 < 1"
    assert mine.loc["1", "Usable weights left there"] == "275"


def test_seeds_that_a_network_lacks_are_left_out():
    cells = {(V, 1): [0.5, 0.5, 0.5], (V, 3): [0.8, 0.8], NAMES["centre_taps"]: [0.7, 0.71]}
    assert len(verdicts(cells)["D1"].values[V, 1]) == 2
    assert "D1" not in verdicts({(V, 1): [0.5]})


def test_the_table_says_everything():
    cells = {(V, 1): [0.5, 0.52], (V, 3): [0.8, 0.8], NAMES["centre_taps"]: [0.7, 0.73]}
    (row,) = claims.contrast_table(claims.judge_contrasts(runs(cells))).to_dict("records")
    assert row["Changed"] == "level 1, centre taps" and row["Against"] == "level 1"
    assert row["Outcome"] == "breaking point: 0.715 against 0.510 (level 3: 0.800)"
    assert (
        row["Difference"] == "+0.205 (71% of the way)"
        and row["Seeds"] == 2
        and row["Expected of"] == "dead weights: higher"
    )


def test_what_is_said_of_the_trained_networks_is_what_is_recorded():
    found = experiments.find_contrasts(presets.get("study"))[1]
    table = report.changed_network_table(found).set_index("Network")
    labels = [presets.contrast_label(run.config.architecture, run.config.level) for run in found]
    assert set(table.index) == set(labels)
    for name, row in table.iterrows():
        here = [run for run, of in zip(found, labels, strict=True) if of == name]
        curves, spectra = [run.result("pruning") for run in here], [run.result("spectrum") for run in here]
        broke = [outcomes.breaking_point(curve["rates"], curve["reestimated_accuracy"]) for curve in curves]
        tops = [spectrum["final"]["values"][0] for spectrum in spectra if spectrum]
        assert row["Seeds"] == len(here)
        assert row["Dense (%)"].split(" ± ")[0] == f"{np.mean([run.summary['test_accuracy'] for run in here]):.1f}"
        assert row["Printed rate, re-estimated"].split(" ± ")[0] == f"{np.mean(broke):.3f}"
        assert row["Largest eigenvalue after training"].split(" ± ")[0] == (f"{np.mean(tops):.0f}" if tops else "–")
