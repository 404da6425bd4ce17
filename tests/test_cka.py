import copy
import warnings
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rfkit import cka, data, models, training


def naive(x, y):
    """By the definition: centred Gram matrices, one entry after another."""
    n, x, y = len(x), np.asarray(x, float), np.asarray(y, float)
    centring = np.eye(n) - np.ones((n, n)) / n
    k, m = centring @ x @ x.T @ centring, centring @ y @ y.T @ centring
    return np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))


def naive_unbiased_hsic(k, m):
    """Song et al. (2012), Eq. 5, as printed."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    total = np.trace(k @ m) + one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ m @ one
    return total / (n * (n - 3))


def features(n=20, p=7, q=40, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, p))
    return x, x @ random.normal(size=(p, q)) + 2 * random.normal(size=(n, q))


@given(st.integers(4, 30), st.integers(1, 50), st.integers(1, 50), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_definition(n, p, q, seed):
    x, y = features(n, p, q, seed)
    assert cka.linear_cka(x, y) == pytest.approx(naive(x, y), rel=1e-9)
    k, m = x @ x.T, y @ y.T
    expected = naive_unbiased_hsic(k, m) / np.sqrt(abs(naive_unbiased_hsic(k, k) * naive_unbiased_hsic(m, m)))
    if naive_unbiased_hsic(k, k) > 1e-9 and naive_unbiased_hsic(m, m) > 1e-9:
        assert cka.linear_cka(x, y, unbiased=True) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("offset", [10, 1e3, 1e5])
@pytest.mark.parametrize("scale", [1e-30, 1e-18, 0.01, 1e15, 1e25])
def test_offset_and_scale_do_not_matter(offset, scale):
    x, y = features()
    x, y = x.astype(np.float32), y.astype(np.float32)
    shifted = (scale * (x + np.float32(offset))).astype(np.float32)
    # what float32 has already lost by the offset is lost; nothing more is
    expected = naive(np.asarray(shifted, float) / scale, y)
    assert cka.linear_cka(shifted, y) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(naive(x, y), rel=0.05)


def test_rotation_and_self():
    x, y = features()
    rotation, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 40)))
    assert cka.linear_cka(x, y @ rotation) == pytest.approx(cka.linear_cka(x, y))
    assert cka.linear_cka(x, x) == pytest.approx(1) and 0 < cka.linear_cka(x, y) < 1
    independent = [cka.linear_cka(*np.random.default_rng(s).normal(size=(2, 8, 60)), unbiased=u)
                   for u in (False, True) for s in range(40)]  # fmt: skip
    assert np.mean(independent[:40]) > 0.8 and abs(np.mean(independent[40:])) < 0.1  # why "unbiased" exists


def test_dead_features_are_nan_with_a_warning():
    x, _ = features()
    with pytest.warns(cka.DeadFeaturesWarning, match="features of y do not vary"):
        assert np.isnan(cka.linear_cka(x, np.full((20, 3), 0.1, np.float32)))


@pytest.mark.parametrize("x, y", [((5, 2), (6, 2)), ((5,), (5, 2)), ((1, 2), (1, 2)), ((5, 0), (5, 2))])
def test_bad_features(x, y):
    with pytest.raises(ValueError, match="expected .n, p. and .n, q."):
        cka.linear_cka(np.zeros(x), np.zeros(y))
    with pytest.raises(ValueError, match="n ≥ 4"):
        cka.linear_cka(np.zeros((3, 2)), np.zeros((3, 2)), unbiased=True)


# --- layers ---------------------------------------------------------------------------------------


class Small(nn.Module):
    """In place, functional, called twice, and an addition."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.norm, self.head = nn.ReLU(inplace=True), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, x):
        x = self.act(self.norm(self.conv1(x)))
        y = self.act(self.conv2(x))
        x = F.relu(x + y, inplace=True)
        x -= 0.3
        return self.head(x.mean((2, 3)))


def by_hand(model, images):
    x = F.relu(model.norm(model.conv1(images)))
    y = F.relu(model.conv2(x))
    return {"act": x, "act#2": y, "add": x + y, "relu": F.relu(x + y)}


def pair():
    torch.manual_seed(3)
    a, b = Small().eval(), Small().eval()
    return a, b, torch.randn(30, 3, 6, 6)


def test_every_layer_in_the_order_of_execution():
    a, b, images = pair()
    found = cka.layer_similarity(a, b, images)
    assert found.layers_a == found.layers_b == ("act", "act#2", "relu") and found.images == 30
    with torch.no_grad():
        x, y = by_hand(a, images), by_hand(b, images)
    for i, name in enumerate(found.layers_a):
        for j, other in enumerate(found.layers_b):
            assert found.matrix[i, j] == pytest.approx(naive(x[name].flatten(1), y[other].flatten(1)), rel=1e-5)
    assert not np.allclose(found.matrix, found.matrix.T)  # both halves are computed
    turned = cka.layer_similarity(b, a, images)
    assert np.allclose(turned.matrix, found.matrix.T)
    some = cka.layer_similarity(a, b, images, layers=["relu", "act#2"])
    assert some.layers_a == ("act#2", "relu") and np.allclose(some.matrix, found.matrix[1:, 1:])


def test_a_relu_that_is_no_part_of_the_network_has_the_name_of_its_caller():
    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 6)

        def forward(self, x):
            return nn.ReLU()(self.fc(F.relu(x)))

    assert cka.layer_similarity(Loose(), Loose(), torch.randn(9, 6)).layers_a == ("relu", "relu#2")


def test_in_place_layers_are_seen_before_they_are_overwritten():
    """Two public tools return 1.0 here."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True))
    x = torch.randn(25, 6)
    found = cka.layer_similarity(net, net, x).matrix
    assert found[0, 1] == pytest.approx(1) and found[0, 2] < 0.99


@given(st.integers(1, 40), st.floats(1e-7, 1e-4))
@settings(max_examples=25, deadline=None)
def test_neither_batch_size_nor_memory_matter(batch_size, max_gib):
    a, b, images = pair()
    for unbiased in (False, True):
        whole = cka.layer_similarity(a, b, images, unbiased=unbiased).matrix
        with mock.patch.object(cka, "MAX_GIB", max_gib):
            split = cka.layer_similarity(a, b, images, unbiased=unbiased, batch_size=batch_size).matrix
        assert np.abs(whole - split).max() < 1e-6


def test_any_modules_by_name():
    torch.manual_seed(0)
    a, b = (nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.ReLU()) for _ in range(2))
    x = torch.randn(25, 6)
    found = cka.layer_similarity(a, b, x, layers=["0", "1", "3"])
    assert found.layers_a == found.layers_b == ("0", "1", "3")
    with torch.no_grad():
        for i, name in enumerate(found.layers_a):
            expected = cka.linear_cka(a[: int(name) + 1](x), b[: int(name) + 1](x))
            assert found.matrix[i, i] == pytest.approx(expected)
    in_parts = cka.layer_similarity(a, b, x, layers=["0", "1", "3"], batch_size=7)
    assert in_parts.matrix == pytest.approx(found.matrix)
    for wrong in ([], nn.Linear, [1], (["0"], ["1"])):
        with pytest.raises(ValueError, match="layers is .*; expected None"):
            cka.layer_similarity(a, b, x, layers=wrong)


def test_dead_layers():
    a, b, images = pair()
    with torch.no_grad():
        b.conv2.weight.zero_(), b.conv2.bias.fill_(-1)
    found = cka.layer_similarity(a, b, images)
    assert found.dead_b == ("act#2",) and found.dead_a == ()
    assert np.isnan(found.matrix[:, 1]).all() and np.isfinite(found.matrix[:, [0, 2]]).all()
    assert found.diagonal() == pytest.approx(np.mean([found.matrix[0, 0], found.matrix[2, 2]]))


def test_the_papers_layers():
    resnet, vgg = models.build("resnet50", 2, width=1 / 32), models.build("vgg19", 2, width=1 / 32)
    images = torch.randn(6, 3, 32, 32)
    found = cka.layer_similarity(resnet, vgg, images)
    assert found.matrix.shape == (49, 16) and len(set(found.layers_a)) == 49 and np.isnan(found.diagonal())
    own = cka.layer_similarity(resnet, resnet, images)
    resnet_pair = cka.layer_similarity(resnet, models.seeded_build("resnet50", 2, width=1 / 32, seed=5), images)
    alive = [name not in own.dead_a for name in own.layers_a]
    assert np.diagonal(own.matrix)[alive] == pytest.approx(1) and np.allclose(own.matrix, own.matrix.T, equal_nan=True)
    assert resnet_pair.diagonal() == pytest.approx(np.nanmean(np.diagonal(resnet_pair.matrix)))


def test_the_models_are_untouched_also_after_an_error():
    a, b, images = pair()
    a.train()
    a.norm.eval()
    before, modes = copy.deepcopy(a.state_dict()), [m.training for m in a.modules()]
    cka.layer_similarity(a, b, images)
    with pytest.raises(RuntimeError):
        cka.layer_similarity(a, b, torch.randn(30, 7, 6, 6))
    assert [m.training for m in a.modules()] == modes
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in a.modules())
    assert all(torch.equal(before[name], value) for name, value in a.state_dict().items())


def test_bad_requests():
    a, b, images = pair()
    with pytest.raises(ValueError, match="no layer 'relu9'; expected names of modules, or some of act, act#2"):
        cka.layer_similarity(a, b, images, layers=["relu9"])
    with pytest.raises(ValueError, match="layers is 'every'; expected None"):
        cka.layer_similarity(a, b, images, layers="every")
    with pytest.raises(ValueError, match="1 images; expected at least 2"):
        cka.layer_similarity(a, b, images[:1])
    with pytest.raises(ValueError, match="Linear has no ReLU"):
        cka.layer_similarity(nn.Linear(3, 2), nn.Linear(3, 2), torch.randn(5, 3))


def test_uint8_images_of_a_trained_network():
    from rfkit.training import remember_statistics

    digits = data.load("digits")
    net = models.seeded_build("vgg19", 2, width=1 / 32)
    remember_statistics(net, digits.mean, digits.std)
    net = training.calibrated(net, digits.train_images[:100])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cka.layer_similarity(net, net, digits.test_images[:40])
    assert found.matrix.shape == (16, 16)
