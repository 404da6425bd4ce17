"""The analysis that CONTRIBUTING shows, carried from a trained run to a frame; and every registered one is whole."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from rfkit import experiments, outcomes, presets, report, training
from rfkit.config import ConfigError
from rfkit.experiments import networks, registry, runner

ROOT = Path(__file__).parents[1]


def test_the_documented_analysis_goes_from_a_run_to_a_frame(monkeypatch, tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) < 40
    module = SimpleNamespace()
    exec(code, module.__dict__)
    monkeypatch.setitem(experiments.ANALYSES, "weight_norms", module.ANALYSIS)
    smoke = presets.get("smoke").select(architectures="vgg19", levels=3)
    (unit,) = experiments.units(smoke)
    data = experiments.load("digits", smoke.image_limit)
    made = runner.complete(unit, experiments.Store(), analyses=["pruning", "weight_norms"], data=data)
    (found,), _ = experiments.find(smoke, complete=False)
    frame = experiments.frame("weight_norms", [found])
    exact = {name: float(w.norm()) for name, w in made.weights().items() if w.is_floating_point()}
    assert len(frame) > 20 and set(frame["rf_level"]) == {3} and set(frame["field_px"]) == {537}
    assert all(row.norm == pytest.approx(exact[row.layer]) for row in frame.itertuples())
    target = experiments.record(found, tmp_path)
    assert target.result("weight_norms") == found.result("weight_norms")


def test_a_failing_analysis_is_named(monkeypatch):
    def fail(run, settings, work):
        raise ValueError("boom")

    broken = replace(experiments.ANALYSES["pruning"], compute=fail)
    monkeypatch.setitem(experiments.ANALYSES, "pruning", broken)
    smoke = presets.get("smoke").select(architectures="vgg19", levels=3)
    monkeypatch.setattr(runner.pool, "run", runner._here)
    found = runner.run_all(
        experiments.units(smoke), analyses=["pruning"], jobs=1, image_limit=smoke.image_limit, progress=False
    )
    ((_, message),) = found
    assert message == "boom (in analysis 'pruning')"


def test_mistakes_in_a_declaration_are_refused():
    assert len(experiments.ANALYSES) == len(registry._FILES)  # no two have one name
    with pytest.raises(ConfigError, match="unknown needs of analysis 'pruning': 'runs'; did you mean 'run'"):
        replace(experiments.ANALYSES["pruning"], needs="runs")
    with pytest.raises(ConfigError, match="unknown analysis 'pruningg'; did you mean 'pruning'"):
        experiments.frame("pruningg", [])


def test_pruning_of_each_layer_begins_where_that_of_all_does():
    smoke = presets.get("smoke").select(architectures="vgg19", levels=3)
    (unit,) = experiments.units(smoke)
    data = experiments.load("digits", smoke.image_limit)
    runner.complete(unit, experiments.Store(), analyses=["pruning", "layer_pruning"], data=data)
    found, _ = experiments.find(smoke, complete=False)
    at_once, each = (experiments.frame(name, found) for name in ("pruning", "layer_pruning"))
    assert each["pruning_rate"].tolist() == at_once["pruning_rate"].tolist()
    assert each["accuracy"][0] == at_once["accuracy"][0] == at_once["dense"][0]
    table = report.two_ways_table(outcomes.by_run(at_once), outcomes.by_run(each))
    assert table["Level"].tolist() == [3] and table["Seeds"].tolist() == [1]


def test_pruning_of_one_half_leaves_the_other_whole():
    smoke = presets.get("smoke").select(architectures="vgg19", levels=3, rates=0.5)
    (unit,) = experiments.units(smoke)
    data = experiments.load("digits", smoke.image_limit)
    runner.complete(unit, experiments.Store(), analyses=["pruning", "half_pruning"], data=data)
    (run,), _ = experiments.find(smoke, complete=False)
    frame = experiments.frame("half_pruning", [run])
    assert frame["half"].tolist() == ["first"] * 2 + ["second"] * 2
    assert frame["usable_sparsity"][1] == pytest.approx(0.5, abs=1e-3)  # of the first half nothing is dead
    names = [f"features.conv{n}" for n in range(2, 17)]
    for half, layers in (("first", names[:7]), ("second", names[7:])):
        model = networks.at_stage(run, "final", data)
        weights = dict(model.named_parameters())
        smallest = torch.cat([weights[f"{name}.weight"].flatten() for name in layers]).abs().sort().values
        for name in layers:
            weights[f"{name}.weight"].data *= weights[f"{name}.weight"].abs() > smallest[len(smallest) // 2 - 1]
        ours = frame[(frame["half"] == half) & (frame["pruning_rate"] == 0.5)]["accuracy"].item()
        assert ours == training.evaluate(model, data.test_images, data.test_labels)


def test_sensitivity_of_a_layer_is_what_the_network_loses_without_most_of_it():
    smoke = presets.get("smoke").select(architectures="vgg19", levels=3)
    (unit,) = experiments.units(smoke)
    data = experiments.load("digits", smoke.image_limit)
    runner.complete(unit, experiments.Store(), analyses=["pruning", "layer_sensitivity"], data=data)
    (run,), _ = experiments.find(smoke, complete=False)
    frame = experiments.frame("layer_sensitivity", [run]).set_index("layer")
    assert list(frame.index) == [f"features.conv{n}" for n in range(2, 17)] and frame["place"].tolist()[-1] == 15
    model = networks.at_stage(run, "final", data)
    dense = training.evaluate(model, data.test_images, data.test_labels)
    weight = model.features.conv4.weight
    weight.data *= weight.abs() > weight.abs().flatten().sort().values[round(0.9 * weight.numel()) - 1]
    lost = dense - training.evaluate(model, data.test_images, data.test_labels)
    assert frame["lost"]["features.conv4"] == pytest.approx(lost)
    nets = (networks.at_stage(run, "final", data), model)
    again = (training.calibrated(net, data.sample(512).train_images) for net in nets)
    before, after = (training.evaluate(net, data.test_images, data.test_labels) for net in again)
    assert frame["lost_reestimated"]["features.conv4"] == pytest.approx(before - after)


def test_the_lead_of_the_largest_field_is_paired_by_seed_and_says_where_it_never_breaks():
    """Curves that fall in straight lines, so that each loss is reached at a rate known by hand."""
    rows = [
        {"paper_dataset": "cifar10", "architecture": "vgg19", "rf_level": level, "seed": seed, "pruning_rate": rate}
        | {"accuracy": 90 - slope * rate, "reestimated_accuracy": 90 - slope / 10 * rate}
        for (level, seed), slope in {(1, 0): 100, (1, 1): 50, (4, 0): 50, (4, 1): 40, (1, 2): 10}.items()
        for rate in (0.0, 0.9)
    ]
    both = pd.DataFrame(rows)
    first, second = report.leads_table(both, both, losses=(5, 36)).to_dict("records")
    # 5 points at 0.05 and 0.10 (level 1), 0.10 and 0.125 (level 4): 0.0375 ± 12.706 · 0.0125
    assert first["All layers at once"] == first["Each layer for itself"] == "+0.04 (-0.12 to 0.20)"
    assert first["All layers at once, re-estimated"] == "–" and first["Points lost"] == 5  # level 1 does not lose them
    assert second["Each layer for itself"] == "≥ +0.27 (-0.87 to 1.41)" and second["Seeds"] == 2
    assert report.leads_table(both[:0], both[:0]).empty
    assert report.leads_table(one := both[both["rf_level"] == 1], one).empty


@pytest.mark.parametrize("name", experiments.ANALYSES)
def test_every_analysis_has_settings_a_cost_and_a_frame(name):
    """Of a unit without data at hand: what is planned is known, and costed, before anything is there."""
    each, study = experiments.ANALYSES[name], presets.get("study")
    unit = experiments.unit_of(study, "cifar10", "vgg19", 3, 1)
    if each.needs == "network":
        assert all(dataset in (None, "cifar10") for _, dataset in each.settings(study))
    else:
        assert each.needs in ("run", "pair") and each.settings(study, unit) == unit.asked[name]
        assert each.cost(unit.asked[name], unit) > 0 or not each.planned
    assert len(each.frame([])) == 0
