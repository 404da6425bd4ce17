"""A stack trains every network as it would be trained alone, but for rounding."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rfkit import models, presets, records, runner, stacked, store, study, training
from rfkit.config import TrainConfig

CONFIG = TrainConfig(epochs=1, lr=0.02, batch_size=64, nesterov=True, augmentation="crop", schedule="one_cycle")
SEEDS = (3, 5)


def nets(architecture="vgg19"):
    return [models.seeded_build(architecture, 2, width=1 / 16, seed=seed) for seed in SEEDS]


class Double(nn.Module):
    """In float64, where rounding is far below any step."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, x):
        return self.net(x.double())


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("clip", [None, 0.01])
def test_one_step_is_that_of_each_network_alone(digits, architecture, clip):
    few, config = digits.sample(64, 32), replace(CONFIG, clip_value=clip)
    alone, together, start = ([Double(net) for net in nets(architecture)] for _ in range(3))
    expected = [training.fit(net, few, config, seed=seed) for net, seed in zip(alone, SEEDS, strict=True)]
    found = stacked.fit(together, few, config, seeds=SEEDS)
    for one, other, before, a, b in zip(alone, together, start, expected, found, strict=True):
        way = (flat(one) - flat(before)).norm()
        assert way > 0 and (flat(other) - flat(one)).norm() < 1e-9 * way
        assert b.history[0]["train_loss"] == pytest.approx(a.history[0]["train_loss"], rel=1e-6)
        assert b.history[0]["train_accuracy"] == pytest.approx(a.history[0]["train_accuracy"])
        assert b.shrink_factor == pytest.approx(a.shrink_factor)
        for name, buffer in one.named_buffers():
            torch.testing.assert_close(dict(other.named_buffers())[name], buffer, rtol=1e-9, atol=1e-9)
    assert not torch.equal(flat(together[0]), flat(together[1]))


def test_stopped_and_resumed_is_the_same_to_the_bit(digits):
    config, states = replace(CONFIG, epochs=3), []
    whole = nets()
    results = stacked.fit(whole, digits, config, seeds=SEEDS, on_epoch=lambda state: states.append(clone(state)))
    again = nets()
    resumed = stacked.fit(again, digits, config, seeds=SEEDS, resume=states[0])
    assert all(torch.equal(flat(a), flat(b)) for a, b in zip(whole, again, strict=True))
    losses = [[[row["test_loss"] for row in result.history] for result in each] for each in (results, resumed)]
    assert losses[0] == losses[1] and len(losses[0][0]) == 3


def clone(value):
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    return [clone(item) for item in value] if isinstance(value, list) else value


def test_the_best_epoch_of_each(digits):
    results = stacked.fit(nets(), digits, replace(CONFIG, epochs=3, selection="best_test"), seeds=SEEDS)
    for result in results:
        accuracies = [row["test_accuracy"] for row in result.history]
        assert accuracies[result.selected_epoch - 1] == max(accuracies)


def test_a_diverging_stack_names_its_seeds(digits):
    with pytest.raises(training.DivergedError, match=r"seeds \[3, 5\].*lower lr"):
        stacked.fit(nets(), digits, replace(CONFIG, lr=1e30, epochs=2), seeds=SEEDS)


def test_seeds_are_stacked_as_many_as_asked():
    preset = presets.get("smoke").select(architectures="vgg19", levels=[1, 3], seeds=[0, 1, 2], stacked=2)
    groups = [[(u.config.level, u.config.seed) for u in group] for group in runner._groups(records.units(preset))]
    assert sorted(groups) == [[(1, 0), (1, 1)], [(1, 2)], [(3, 0), (3, 1)], [(3, 2)]]
    commands = [job["command"] for job in study.jobs_of(preset)]
    assert len(commands) == 4 and sum("--seeds 0,1 " in command for command in commands) == 2
    assert all("--stacked 2" in command for command in commands)


def test_a_study_of_stacks(tmp_path):
    """Two seeds in one program, a third alone: every run is there, with its own numbers, and is not made again."""
    preset = presets.get("smoke").select(architectures="vgg19", levels=[3], seeds=[0, 1, 2], stacked=2)
    units = [replace(unit, fine_tuning=None, spectrum=None) for unit in records.units(preset)]
    assert {unit.config.train.stacked for unit in units} == {2}
    assert runner.run_all(units, jobs=1, root=tmp_path, image_limit=preset.image_limit, progress=False) == []
    runs = [store.Store(tmp_path).run(unit.config) for unit in units]
    assert all(unit.is_complete(run) for unit, run in zip(units, runs, strict=True))
    assert len({run.metrics[0]["train_loss"] for run in runs}) == 3
    assert not list(tmp_path.rglob("checkpoint.pt"))
    plain = records.unit_of(presets.get("smoke"), "digits", "vgg19", 3, 0, records.load("digits"))
    assert plain.config.hash10 != units[0].config.hash10


def test_a_checkpoint_of_other_seeds_is_not_taken(tmp_path, monkeypatch):
    preset = presets.get("smoke").select(architectures="vgg19", levels=[3], seeds=[0, 1, 2], stacked=2, epochs=2)
    units = [replace(unit, fine_tuning=None, spectrum=None) for unit in records.units(preset)]
    data, runs = records.load("digits", preset.image_limit), store.Store(tmp_path)
    finish = store.finish
    monkeypatch.setattr(store, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):  # trained, and killed before the first of them was finished
        runner.complete_together(units[:2], runs, data=data)
    monkeypatch.setattr(store, "finish", finish)
    assert (runs.run(units[0].config).path / "checkpoint.pt").is_file()
    runner.complete_together([units[0], units[2]], runs, data=data)
    runner.complete_together(units[1:2], runs, data=data)
    made = [runs.run(unit.config) for unit in units]
    assert len({run.metrics[-1]["train_loss"] for run in made}) == 3 and not list(tmp_path.rglob("checkpoint.pt"))


def test_what_is_left_of_a_stack_goes_on_from_its_own_checkpoint(tmp_path, monkeypatch):
    preset = presets.get("smoke").select(architectures="vgg19", levels=[3], seeds=[0, 1], stacked=2, epochs=2)
    units = [replace(unit, fine_tuning=None, spectrum=None) for unit in records.units(preset)]
    data, runs = records.load("digits", preset.image_limit), store.Store(tmp_path)
    runner.complete_together(units[:1], runs, data=data)
    with monkeypatch.context() as patch:
        patch.setattr(store, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            runner.complete_together(units[1:], runs, data=data)
    resumed, fit = [], stacked.fit
    monkeypatch.setattr(stacked, "fit", lambda *a, **k: resumed.append(k["resume"]["epoch"]) or fit(*a, **k))
    runner.complete_together(units, runs, data=data)
    assert resumed == [2] and all(runs.run(unit.config).done for unit in units)


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_stack_that_was_killed_goes_on(tmp_path, monkeypatch):
    preset = presets.get("smoke").select(architectures="vgg19", levels=[3], seeds=[0, 1], stacked=2, epochs=3)
    units = [replace(unit, fine_tuning=None, spectrum=None) for unit in records.units(preset)]
    data, whole, broken = (
        records.load("digits", preset.image_limit),
        store.Store(tmp_path / "a"),
        store.Store(tmp_path / "b"),
    )
    runner.complete_together(units, whole, data=data)
    epoch, epochs = stacked._epoch, []

    def stop_in_the_second(*arguments):
        epochs.append(1)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return epoch(*arguments)

    monkeypatch.setattr(stacked, "_epoch", stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        runner.complete_together(units, broken, data=data)
    runner.complete_together(units, broken, data=data)
    assert len(epochs) == 4
    for unit in units:
        a, b = (each.run(unit.config) for each in (whole, broken))
        assert a.summary == b.summary and all(map(torch.equal, a.weights().values(), b.weights().values()))
