import numpy as np
import pytest
import torch
import torch.nn.functional as F

from rfkit import data
from rfkit.homework import descent, nets

SMALL = {"shape": (2, 8, 8), "classes": 5, "dtype": np.float64}
NETS = {
    "three": lambda **o: nets.ThreeLayerConvNet(**SMALL, filters=3, kernel=3, hidden=6, **o),
    "deep": lambda **o: nets.DeepConvNet(**SMALL, stages=((3,), (4, 4)), **o),
}


def batch(seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(4, 2, 8, 8)), np.array([0, 2, 4, 1])


@pytest.mark.parametrize(("name", "options"), [("three", {}), ("three", {"decay": 0.1}), ("deep", {})])
def test_gradients_are_those_of_the_loss(name, options):
    net, (x, labels) = NETS[name](**options), batch()
    random, (_, gradients) = np.random.default_rng(1), net.loss(x, labels)
    assert gradients.keys() == net.parameters.keys()
    for key, weights in net.parameters.items():
        for _ in range(4):
            place, old = tuple(random.integers(0, n) for n in weights.shape), None
            old = weights[place]
            values = []
            for step in (1e-5, -1e-5):
                weights[place] = old + step
                values.append(net.loss(x, labels)[0])
            weights[place] = old
            assert gradients[key][place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=1e-6), key


def test_three_layers_are_those_of_torch():
    net, (x, labels) = NETS["three"](), batch()
    p = {name: torch.from_numpy(w).requires_grad_() for name, w in net.parameters.items()}
    out = F.max_pool2d(F.relu(F.conv2d(torch.from_numpy(x), p["w1"], p["b1"], padding=1)), 2).flatten(1)
    out = F.relu(out @ p["w2"] + p["b2"]) @ p["w3"] + p["b3"]
    F.cross_entropy(out, torch.from_numpy(labels)).backward()
    assert np.abs(net.scores(x)[0] - out.detach().numpy()).max() < 1e-10
    for name, gradient in net.loss(x, labels)[1].items():
        assert np.abs(gradient - p[name].grad.numpy()).max() < 1e-10


def test_adam_is_that_of_torch():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=5), None
    theirs = torch.from_numpy(ours.copy()).requires_grad_()
    peer = torch.optim.Adam([theirs], lr=0.1)
    optimizer, parameters = descent.Adam(lr=0.1), {"w": ours}
    for _ in range(20):
        gradient = random.normal(size=5)
        optimizer.step(parameters, {"w": gradient})
        theirs.grad = torch.from_numpy(gradient)
        peer.step()
    assert np.abs(parameters["w"] - theirs.detach().numpy()).max() < 1e-10


@pytest.mark.parametrize("name", ["three", "deep"])
def test_overfits_a_hundred_images(name):
    digits = data.load("digits", image_size=8)
    x, labels = descent.arrays(digits, 100)
    kinds = {"three": nets.ThreeLayerConvNet, "deep": nets.DeepConvNet}
    options = {"three": {"kernel": 3, "filters": 8}, "deep": {"stages": ((16,), (32,))}}
    net = kinds[name]((3, 8, 8), **options[name])
    history = descent.train(net, x, labels, descent.Adam(5e-3), epochs=60, batch_size=20)
    assert descent.accuracy(net, x, labels) == 100 and history[-1]["loss"] < 0.2 * history[0]["loss"]


def test_training_reports_and_restores_the_learning_rate():
    digits, rows = data.load("digits", image_size=8), []
    x, labels = descent.arrays(digits, 60)
    test = descent.arrays(digits, 30, test=True)
    net, optimizer = nets.ThreeLayerConvNet((3, 8, 8), filters=4, kernel=3, hidden=8), descent.Adam(0.05)
    history = descent.train(net, x, labels, optimizer, epochs=2, held_out=test, flip=True, report=rows.append)
    assert history == rows and optimizer.lr == 0.05 and 0 <= rows[-1]["accuracy"] <= 100
    assert x.dtype == np.float32 and abs(x.mean()) < 0.5 and x.shape == (60, 3, 8, 8)


def test_an_interrupted_training_leaves_the_learning_rate():
    x, labels = descent.arrays(data.load("digits", image_size=8), 60)
    net, optimizer = nets.ThreeLayerConvNet((3, 8, 8), filters=4, kernel=3, hidden=8), descent.Adam(0.05)

    def interrupt(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        descent.train(net, x, labels, optimizer, epochs=4, report=interrupt)
    assert optimizer.lr == 0.05
    net.parameters.popitem()  # within a step
    with pytest.raises(KeyError):
        descent.train(net, x, labels, optimizer, epochs=4)
    assert optimizer.lr == 0.05


def test_bad_shapes():
    with pytest.raises(ValueError, match="kernel is 4; expected an odd side"):
        nets.ThreeLayerConvNet(kernel=4)
    with pytest.raises(ValueError, match="images of 7x8; the 2x2 pool needs even sides"):
        nets.ThreeLayerConvNet((3, 7, 8))
    with pytest.raises(ValueError, match="images of 2x2"):
        nets.DeepConvNet((3, 2, 2))
