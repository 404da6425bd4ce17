import functools
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import EXHAUSTIVE
from torch import nn

from rfkit import cka, data, hessian, models, presets, projection, pruning, training
from rfkit.config import TrainConfig

SHORT = TrainConfig(epochs=2, lr=0.05, batch_size=32, nesterov=True, schedule="one_cycle", augmentation="crop")


def net(level=4, seed=0, architecture="vgg19"):
    return models.seeded_build(architecture, level, width=1 / 16, seed=seed)


def fitted(digits, config=SHORT, seed=0, **options):
    model = net(seed=seed)
    return model, training.fit(model, digits, config, seed=seed, **options)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_same_seed_gives_the_same_bits_and_another_does_not(digits):
    (a, first), (b, again), (c, _) = (fitted(digits, seed=s) for s in (0, 0, 1))
    assert same(a, b) and not same(a, c)
    assert [row["train_loss"] for row in first.history] == [row["train_loss"] for row in again.history]


def test_training_lowers_the_loss_and_knows_its_statistics(digits):
    config, model = replace(SHORT, epochs=15), net(level=1)  # level 4 learns by luck in so few steps
    result = training.fit(model, digits, config)
    losses = [row["train_loss"] for row in result.history]
    assert losses[-1] < 0.85 * losses[0]  # .33 to .57 of the first for 24 seeds on three instruction sets
    assert not model.training and result.selected_epoch == 15
    assert all(p.grad is None for p in model.parameters())  # as large as the network
    assert training.evaluate(model, digits.test_images, digits.test_labels) == result.history[-1]["test_accuracy"]
    assert all(torch.equal(result.last_state[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("selection", ["last", "best_test"])
def test_resuming_after_any_epoch_gives_the_same_bits(digits, schedule, selection):
    config = replace(SHORT, epochs=3, schedule=schedule, selection=selection, lr=0.02)
    states = []
    whole, result = fitted(digits, config, on_epoch=lambda state: states.append(torch_copy(state)))
    for state in states:
        resumed, again = fitted(digits, config, resume=state)
        assert same(whole, resumed)
        assert [r["test_loss"] for r in again.history] == [r["test_loss"] for r in result.history]
        assert again.shrink_factor == result.shrink_factor and again.selected_epoch == result.selected_epoch


def test_nothing_of_the_callers_is_changed(digits):
    """Modes are the caller's between two batches; threads, environment and path are after work as before it."""
    model = net().train()
    for _ in training.outputs(model, torch.rand(4, 3, 32, 32), batch_size=2):
        assert model.training and not torch.is_inference_mode_enabled()
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad


def test_dropout_is_part_of_the_seed(digits):
    """The same bits whatever was drawn before, also after an interruption; and nobody else's numbers are touched."""

    def fitted(drawn_before, **options):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3 * 32 * 32, 10))
        torch.manual_seed(drawn_before)
        expected = torch.rand(1)
        torch.manual_seed(drawn_before)
        result = training.fit(model, digits, replace(SHORT, lr=0.01), seed=5, **options)
        assert torch.rand(1) == expected
        return model, [row["train_loss"] for row in result.history]

    states = []
    (a, losses), (b, again) = fitted(1, on_epoch=lambda state: states.append(torch_copy(state))), fitted(2)
    assert same(a, b) and losses == again
    resumed, after = fitted(3, resume=states[0])
    assert same(a, resumed) and after == losses


def torch_copy(state):
    import io

    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_best_test_epoch_is_chosen_only_when_asked(digits, monkeypatch):
    accuracies = iter([10.0, 30.0, 20.0] * 2)
    monkeypatch.setattr("rfkit.training.loop.loss_and_accuracy", lambda *_: (1.0, next(accuracies)))
    states = []
    config = replace(SHORT, epochs=3, selection="best_test")
    model, result = fitted(digits, config, on_epoch=lambda state: states.append(torch_copy(state)))
    assert result.selected_epoch == 2
    assert all(torch.equal(states[1]["model"][k], v) for k, v in model.state_dict().items())
    assert any(not torch.equal(result.last_state[k], v) for k, v in model.state_dict().items())
    assert fitted(digits, replace(config, selection="last"))[1].selected_epoch == 3


def test_only_the_authors_protocol_selects_on_test_accuracy():
    selections = {name: config.selection for name, config in presets.PROTOCOL_TRAINING.items()}
    assert selections == {"as_stated": "last", "as_run": "best_test", "careful": "last", "short": "last"}


def test_protocols_are_the_documented_ones():
    stated, run = presets.PROTOCOL_TRAINING["as_stated"], presets.PROTOCOL_TRAINING["as_run"]
    assert (stated.lr, stated.weight_decay, stated.clip_value, stated.epochs) == (1e-4, 5e-5, 0.1, 200)
    assert (run.lr, run.weight_decay, run.clip_value, run.batch_size) == (0.1, 5e-4, None, 128)
    assert {stated.schedule, run.schedule} == {"cosine"} and {stated.momentum, run.momentum} == {0.9}
    assert replace(run, selection="last") == presets.PROTOCOL_TRAINING["careful"]


def test_learning_rates_follow_the_schedule(digits):
    def rates(**changes):
        return [row["lr"] for row in fitted(digits, replace(SHORT, epochs=4, **changes))[1].history]

    cosine = [0.05 * (1 + math.cos(math.pi * t / 4)) / 2 for t in range(4)]
    assert rates(schedule="cosine") == pytest.approx(cosine)
    assert rates(schedule="constant") == pytest.approx([0.05] * 4)
    cycle = rates(schedule="one_cycle")
    assert cycle[0] == pytest.approx(0.05 / 25) and max(cycle) <= 0.05 and cycle[-1] < cycle[1]


def test_shrink_factor_is_what_decay_leaves_of_a_weight_without_gradient(digits):
    """On 32-pixel images at level 4 the last convolutions only use their centre tap."""
    config = TrainConfig(epochs=6, lr=0.1, batch_size=16, momentum=0.5, weight_decay=0.05, schedule="constant")
    model = net()
    before = model.features.conv16.weight[:, :, 0, 0].clone()
    result = training.fit(model, digits, config)
    ratio = (model.features.conv16.weight[:, :, 0, 0] / before).median().item()
    steps = 6 * 8
    assert result.shrink_factor == pytest.approx((1 - 0.1 * 0.05 / 0.5) ** steps)
    assert ratio == pytest.approx(result.shrink_factor, rel=0.02)


def test_clipping_bounds_the_first_step(digits):
    config = TrainConfig(
        epochs=1, lr=1.0, batch_size=128, momentum=0.0, weight_decay=0.0, schedule="constant", clip_value=1e-4
    )
    model = net()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    training.fit(model, digits, config)
    steps = {name: (p - before[name]).abs().max().item() for name, p in model.named_parameters()}
    assert 0.5e-4 < max(steps.values()) <= 1.01e-4


def test_diverged_training_says_so_and_saves_nothing(digits):
    saved = []
    with pytest.raises(training.DivergedError, match=r"loss became (nan|inf) in epoch 1; lower lr \(1e\+20\)"):
        fitted(digits, replace(SHORT, lr=1e20, schedule="constant"), on_epoch=saved.append)
    few = digits.sample(64, 32)  # two steps: only the test images see what the second one did
    with pytest.raises(training.DivergedError, match="became nan in epoch 1"):
        config = replace(SHORT, epochs=1, lr=1e6, schedule="constant")
        training.fit(net(), few, config, on_epoch=saved.append)
    assert saved == []


def test_scores_that_are_no_numbers_are_wrong(digits):
    broken, _ = fitted(digits, replace(SHORT, epochs=1))
    with torch.no_grad():
        broken.classifier.bias.fill_(float("nan"))
    assert training.evaluate(broken, digits.test_images[:20], np.zeros(20, int)) == 0


def test_evaluate_does_not_depend_on_batches_and_restores_the_mode(digits):
    model, _ = fitted(digits)
    model.train()
    model.features.bn1.eval()
    results = {training.evaluate(model, digits.test_images, digits.test_labels, batch_size=b) for b in (7, 64, 500)}
    assert len(results) == 1 and model.training and not model.features.bn1.training
    with pytest.raises(ValueError, match="3 images and 2 labels"):
        training.evaluate(model, digits.test_images[:3], digits.test_labels[:2])


def test_bfloat16_trains(digits):
    _, result = fitted(digits, replace(SHORT, precision="bfloat16"))
    assert math.isfinite(result.history[-1]["train_loss"])


def test_progress_is_plain_lines_away_from_a_terminal(digits, capsys):
    fitted(digits, progress=True, label="run")
    assert capsys.readouterr().out.splitlines()[1].startswith("run: epoch 2/2, loss ")


def test_unknown_device():
    with pytest.raises(ValueError, match="device 'gpu' cannot be used"):
        training.pick_device("gpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_training_on_cuda(digits):
    model, result = fitted(digits, device="cuda")
    assert next(model.parameters()).is_cuda and math.isfinite(result.history[-1]["test_loss"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_step_is_the_same_step(digits, monkeypatch, tmp_path):
    """The weights after one step; more steps grow apart by rounding, which is why the option is part of the hash."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # the usual one is shared, also by other processors
    if not EXHAUSTIVE:  # a C++ compiler takes a minute, tracing alone a second
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    config = TrainConfig(epochs=1, lr=0.05, batch_size=64, augmentation="crop")
    few, nets = digits.sample(64, 32), []
    for compiled in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
            model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
        training.fit(model, few, replace(config, compiled=compiled))
        nets.append(model)
    plain, compiled = (torch.cat([p.flatten() for p in model.parameters()]) for model in nets)
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-6)
    assert [*nets[0].state_dict()] == [*nets[1].state_dict()]


def test_calibration_with_a_short_last_batch_and_none():
    images = torch.randn(65, 3, 4, 4)
    images[-1] += 100
    mean = training.calibrated(nn.BatchNorm2d(3), images).running_mean
    assert torch.allclose(mean, images.mean((0, 2, 3)), atol=1e-4)
    with pytest.raises(ValueError, match="no images"):
        training.calibrated(nn.BatchNorm2d(3), images[:0])


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_no_number_of_images_at_a_time(size):

    net, images, labels = (
        nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)),
        torch.randn(6, 3, 4, 4),
        [0, 1] * 3,
    )
    for use in (
        lambda: training.evaluate(net, images, labels, size),
        lambda: training.calibrated(net, images, size),
        lambda: cka.layer_similarity(net, net, images, batch_size=size),
        lambda: hessian.top_eigenvalues(net, images, labels, 2, batch_size=size),
    ):
        with pytest.raises(ValueError, match="batch_size is .*; expected a whole number"):
            use()


def test_what_does_not_fit_a_network_is_named():
    few = data.load("digits").sample(20, 20)
    five = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(7, 10))
    training.remember_statistics(five, few.mean, few.std)
    channels_first = few.test_images.transpose(0, 3, 1, 2)
    with pytest.raises(ValueError, match=r"gives logits of shape \(2, 5\).*expected \(2, 10\)"):
        training.fit(five, few, TrainConfig(epochs=1, lr=0.1))
    with pytest.raises(ValueError, match=r"fails on images of \(2, 3, 32, 32\).*change the network"):
        training.fit(flat, few, TrainConfig(epochs=1, lr=0.1))
    with pytest.raises(ValueError, match="labels are . to 9, and the network has the classes 0 to 4"):
        training.evaluate(five, few.test_images, few.test_labels)
    with pytest.raises(ValueError, match="labels are . to 9, and the network has the classes 0 to 4"):
        hessian.top_eigenvalues(five, few.test_images, few.test_labels, k=1)
    with pytest.raises(ValueError, match=r"images are uint8 \(20, 3, 32, 32\); expected uint8 \(N, height, width, 3\)"):
        training.evaluate(five, channels_first, few.test_labels)
    with pytest.raises(ValueError, match="images are a list"):
        training.evaluate(five, list(few.test_images), few.test_labels)
    with pytest.raises(ValueError, match="make_model is a Sequential; expected a callable"):
        projection.gradient_projection(five)
    with pytest.raises(ValueError, match=r"fails on images of shape \(32, 32\).*channels, height and width"):
        pruning.usable_weights(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)), (32, 32))
