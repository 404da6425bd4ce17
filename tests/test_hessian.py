import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import dense_hessian
from torch import nn

from rfkit import experiments, hessian, models, presets, pruning, report, training
from rfkit.experiments import runner
from rfkit.hessian import lanczos, landscape


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        return self.head(x.mean((2, 3)))


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.BatchNorm2d(6),
        nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 16, 5),
    )  # fmt: skip


NETWORKS = {"residual": Residual, "plain": plain}


def case(name="residual", count=23, seed=0):
    torch.manual_seed(seed)
    model = NETWORKS[name]().double()
    images, labels = torch.randn(count, 3, 8, 8, dtype=torch.float64), torch.arange(count) % 5
    return training.calibrated(model, images), images, labels


# --- against the dense Hessian --------------------------------------------------------------------


@pytest.mark.parametrize("tol", [0, -1.0, float("nan"), "x"])
def test_a_tolerance_that_is_never_reached_is_refused(tol):
    with pytest.raises(ValueError, match="tol is .*; expected a positive number"):
        hessian.top_eigenvalues(*case("plain"), k=3, tol=tol)


@pytest.mark.parametrize("name", NETWORKS)
def test_top_90_of_the_dense_hessian(name):
    model, images, labels = case(name)
    exact = torch.linalg.eigvalsh(dense_hessian(model, images, labels)).flip(0)
    found = hessian.top_eigenvalues(model, images, labels, tol=1e-10, batch_size=10)
    scale = float(exact.abs().max())
    assert found.parameters == len(exact) and np.abs(found.values - exact[:90].numpy()).max() <= 1e-8 * scale
    assert (np.diff(found.values) <= 1e-12 * scale).all() and (found.residuals <= 1e-9 * scale).all()


def test_train_mode_is_the_hessian_with_statistics_of_the_batch():
    model, images, labels = case("plain", 24)
    model.train()
    exact = torch.linalg.eigvalsh(dense_hessian(copy.deepcopy(model), images, labels)).flip(0)
    found = hessian.top_eigenvalues(model, images, labels, k=30, tol=1e-10, mode="train")
    assert np.abs(found.values - exact[:30].numpy()).max() <= 1e-8 * float(exact.abs().max())
    evaluated = hessian.top_eigenvalues(model, images, labels, k=1, tol=1e-10).values[0]
    assert abs(evaluated - found.values[0]) > 1e-3 * abs(evaluated)
    halves = [dense_hessian(copy.deepcopy(model), images[part], labels[part]) for part in (slice(12), slice(12, 24))]
    exact = torch.linalg.eigvalsh(sum(halves) / 2).flip(0)
    found = hessian.top_eigenvalues(model, images, labels, k=5, tol=1e-10, mode="train", batch_size=12)
    assert found.values == pytest.approx(exact[:5].numpy(), rel=1e-8)


def test_train_mode_is_that_of_every_batch_norm():
    class Frozen(type(case("plain", 24)[0])):
        def train(self, mode=True):
            super().train(mode)
            for module in self.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.training = False
            return self

    model, images, labels = case("plain", 24)
    usual = hessian.top_eigenvalues(model, images, labels, k=2, mode="train").values
    model.__class__ = Frozen
    assert hessian.top_eigenvalues(model, images, labels, k=2, mode="train").values == pytest.approx(usual)


@given(st.integers(1, 23), st.integers(0, 5))
@settings(max_examples=15, deadline=None)
def test_batch_split_and_seed_do_not_matter(batch_size, seed):
    model, images, labels = case()
    vector = torch.randn(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    whole = hessian.HessianOperator(model, images, labels)
    split = hessian.HessianOperator(model, images, labels, batch_size=batch_size)
    vector = vector[: whole.size]
    assert torch.allclose(split(vector), whole(vector), rtol=1e-10, atol=1e-12)
    one, other = (hessian.top_eigenvalues(model, images, labels, k=3, tol=1e-9, seed=s) for s in (0, seed))
    assert one.values == pytest.approx(other.values, rel=1e-7)


def test_memory_bound_splits_the_images(monkeypatch):
    model, images, labels = case()
    with monkeypatch.context() as less:
        less.setattr(hessian, "MAX_GIB", 0.001)
        small = hessian.HessianOperator(model, images, labels)
    assert small._batch < len(images)
    vector = torch.ones(small.size, dtype=torch.float64)
    assert torch.allclose(small(vector), hessian.HessianOperator(model, images, labels)(vector), rtol=1e-10)


# --- multiplicities and zeros ---------------------------------------------------------------------


def test_true_multiplicities_without_ghosts():
    """Softmax regression at zero: each eigenvalue of the inputs' covariance comes nine times."""
    torch.manual_seed(0)
    images, labels = torch.randn(200, 20, dtype=torch.float64), torch.arange(200) % 10
    model = nn.Linear(20, 10, bias=False).double()
    nn.init.zeros_(model.weight)
    values = torch.linalg.eigvalsh(images.T @ images / 200) / 10
    exact = torch.cat([values] * 9).sort(descending=True).values
    operator = hessian.HessianOperator(_Flat(model), images[:, :, None, None], labels)
    found = lanczos.extreme(operator, operator.size, 40, tol=1e-10, basis=60, dtype=torch.float64)
    assert found.values.numpy() == pytest.approx(exact[:40].numpy(), rel=1e-8)


class _Flat(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x.flatten(1))


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_lanczos_on_matrices_of_known_spectrum(seed):
    random = np.random.default_rng(seed)
    size, k = int(random.integers(30, 160)), int(random.integers(1, 25))
    values = random.choice([-3.0, 0.0, 1.0, 2.0, 5.0], size) * random.choice([1.0, random.normal()], size)
    rotation, _ = np.linalg.qr(random.normal(size=(size, size)))
    matrix = torch.from_numpy(rotation * values @ rotation.T)
    found = lanczos.extreme(lambda v: matrix @ v, size, k, tol=1e-9, dtype=torch.float64, seed=seed)
    exact = np.sort(values)[::-1][:k]
    assert np.abs(found.values.numpy() - exact).max() <= 1e-7 * max(1, np.abs(values).max())


def test_dead_units_are_exact_zeros_and_left_out():
    model, images, labels = case("plain")
    with torch.no_grad():
        model[0].weight[0], model[0].bias[0] = 0, -1.0  # a unit that never fires
    exact = torch.linalg.eigvalsh(dense_hessian(model, images, labels)).flip(0)
    found = hessian.top_eigenvalues(model, images, labels, k=600, tol=1e-10)
    assert found.left_out >= 28
    assert np.abs(found.values - exact[:600].numpy()).max() <= 1e-8 * float(exact.abs().max())


def test_weights_that_meet_only_padding_are_left_out():
    model = models.seeded_build("vgg19", 4, width=1 / 16)
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    dead = sum(int((~mask).sum()) for mask in pruning.usable_weights(model, (3, 32, 32)).values())
    operator = hessian.HessianOperator(training.calibrated(model, images), images, labels)
    assert dead > 0.7 * operator.parameters and operator.left_out >= dead


def test_products_of_a_network_with_cropped_kernels():
    """The curvature along random directions, against double backward through the whole network."""
    torch.manual_seed(0)
    images, labels = torch.randn(8, 3, 32, 32, dtype=torch.float64), torch.arange(8) % 10
    model = training.calibrated(models.seeded_build("vgg19", 4, width=1 / 32).double(), images)
    operator = hessian.HessianOperator(model, images, labels)
    parameters, late = list(model.parameters()), {f"features.conv{i}.weight" for i in range(9, 17)}
    gradients = torch.autograd.grad(F.cross_entropy(model(images), labels), parameters, create_graph=True)
    for _ in range(2):
        vectors = [torch.randn_like(p) for p in parameters]
        products = torch.autograd.grad(gradients, parameters, vectors, retain_graph=True)
        whole = sum(float((p * v).sum()) for p, v in zip(products, vectors, strict=True))
        cropped = [
            v[:, :, 1:2, 1:2] if v.dim() == 4 and name in late else v
            for (name, _), v in zip(model.named_parameters(), vectors, strict=True)
        ]
        thin = torch.cat([v.reshape(-1) for v in cropped])
        reduced = thin[operator._rows]
        assert float(reduced @ operator(reduced)) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("architecture, level", [("vgg19", 3), ("vgg19", 2), ("resnet50", 4)])
def test_cropped_kernels_give_the_same_logits_and_products(architecture, level):
    model = models.seeded_build(architecture, level, width=1 / 16).double().eval()
    thin = pruning.without_dead_taps(model, (3, 32, 32))
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    assert torch.allclose(thin(images), model(images), rtol=1e-10)
    before, after = (sum(p.numel() for p in net.parameters()) for net in (model, thin))
    dead = sum(int((~mask).sum()) for mask in pruning.usable_weights(model, (3, 32, 32)).values())
    assert before - after == dead if architecture == "vgg19" else 0 < before - after <= dead


# --- density --------------------------------------------------------------------------------------


def test_density_has_the_moments_of_the_spectrum():
    model, images, labels = case("plain")
    exact = torch.linalg.eigvalsh(dense_hessian(model, images, labels)).numpy()
    found = hessian.spectral_density(model, images, labels, probes=40, steps=60)
    scale = np.abs(exact).max()
    for power in (1, 2):
        moments = (1 - found.zeros) * (found.weights * found.nodes**power).sum(1)
        error = moments.std(ddof=1) / np.sqrt(len(moments))
        assert abs(moments.mean() - (exact**power).mean()) < 4 * error + 1e-9 * scale
    assert found.nodes.max() == pytest.approx(exact.max(), rel=1e-6)
    grid = np.linspace(exact.min() - 0.2 * scale, exact.max() + 0.2 * scale, 2000)
    assert np.trapezoid(found.density(grid, (0.01 * scale) ** 2), grid) == pytest.approx(1, abs=0.01)
    shares = (1 - found.zeros) * (found.weights * (found.nodes < -1e-3 * scale)).sum(1)
    error = shares.std(ddof=1) / np.sqrt(len(shares))
    assert abs(found.mass_below(-1e-3 * scale) - (exact < -1e-3 * scale).mean()) < 5 * error + 0.02


def test_the_authors_construction_is_one_run_from_a_constant_vector():
    model, images, labels = case()
    a, b = (
        hessian.spectral_density(model, images, labels, probes=1, steps=20, start="constant", mode="train", seed=s)
        for s in (0, 1)
    )
    assert np.array_equal(a.nodes, b.nodes) and a.weights.sum() == pytest.approx(1)


# --- manners --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_model_is_untouched_also_after_an_error(mode):
    model, images, labels = case("plain")
    model.train()
    model[4].eval()
    model[0].weight.grad = torch.ones_like(model[0].weight)
    model[0].bias.requires_grad_(False)
    calls = []
    model[1].register_forward_hook(lambda *_: calls.append(1))
    before = copy.deepcopy(model.state_dict())
    random, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    hessian.top_eigenvalues(model, images, labels, k=5, mode=mode)
    hessian.spectral_density(model, images, labels, probes=2, steps=5, mode=mode)
    with pytest.raises(RuntimeError, match="did not converge in .*: the largest residual is"):
        hessian.top_eigenvalues(model, images, labels, k=5, tol=1e-12, max_products=20, mode=mode, basis=12)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes and torch.equal(torch.get_rng_state(), random)
    assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight)) and model[2].training
    assert not model[0].bias.requires_grad and len(model[1]._forward_hooks) == 1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"k": 0}, "k is 0; expected a whole number of at least 1"),
        ({"k": 10**9}, "k is 1000000000; expected"),
        ({"mode": "test"}, "unknown mode 'test'.*eval, train"),
        ({"k": 7, "basis": 8}, "a basis of 8 vectors is too small for 7 eigenvalues; expected at least 9"),
        ({"mode": "train", "batch_size": 11}, "leave a batch of one"),
        ({"k": 90, "basis": 90}, "a basis of 90 vectors is too small for 90 eigenvalues"),
    ],
)
def test_bad_requests(options, message):
    model, images, labels = case()
    with pytest.raises(ValueError, match=message):
        hessian.top_eigenvalues(model, images, labels, **options)
    with pytest.raises(ValueError, match="23 images and 3 labels"):
        hessian.top_eigenvalues(model, images, labels[:3])
    with pytest.raises(ValueError, match="points is 1; expected an odd number from 3 on"):
        hessian.surface(model, images, labels, points=1)
    with pytest.raises(ValueError, match="unknown start 'zero'"):
        hessian.spectral_density(model, images, labels, start="zero")
    images[5] = torch.nan
    with pytest.raises(ValueError, match="the Hessian is not finite; expected finite images"):
        hessian.top_eigenvalues(model, images, labels)


def test_a_batch_of_one_is_refused_for_its_statistics_only():
    _, images, labels = case()
    plain = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 5)).double()
    assert len(hessian.top_eigenvalues(plain, images, labels, k=1, mode="train", batch_size=11).values) == 1


def test_fresh_images_make_an_operator_that_moves():
    model, images, labels = case()
    drawn = iter(range(100))
    moving = hessian.HessianOperator(model, lambda: (images + 0.1 * next(drawn), labels))
    vector = torch.ones(moving.size, dtype=torch.float64)
    assert not torch.equal(moving(vector), moving(vector))


# --- landscape ------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["vgg19", "resnet50"])
def test_a_network_in_another_order_is_found_again(architecture):
    """Matching keeps the function, and undoes any reordering of the channels: then there is no barrier on the way."""
    torch.manual_seed(0)
    images, labels = torch.randn(12, 3, 32, 32), torch.arange(12) % 10
    model = training.calibrated(models.build(architecture, 1, width=1 / 16), images)
    stranger = training.calibrated(models.build(architecture, 1, width=1 / 16), images)
    with torch.no_grad():
        shuffled = hessian.matched(stranger, model, images)
        assert not torch.equal(shuffled.features.conv1.weight, model.features.conv1.weight)
        torch.testing.assert_close(shuffled(images), model(images), rtol=1e-3, atol=1e-4)
        again = hessian.matched(model, shuffled, images)
    for name, weights in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weights, rtol=0, atol=0)
    losses = hessian.line(model, again, images, labels, points=3)[1]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    with pytest.raises(ValueError, match="none of the paper's networks"):
        hessian.matched(plain(), plain(), images)


def test_line_between_two_networks():
    (a, images, labels), (b, _, _) = case(seed=0), case(seed=1)
    places, losses, accuracies = landscape.line(a, b, images, labels, points=3)
    assert places.tolist() == [0, 0.5, 1]
    ends = [training.loss_and_accuracy(m, images, labels) for m in (a, b)]
    assert [losses[0], losses[-1]] == pytest.approx([loss for loss, _ in ends])
    assert [accuracies[0], accuracies[-1]] == pytest.approx([accuracy for _, accuracy in ends])
    middle = copy.deepcopy(a)
    with torch.no_grad():
        for p, q in zip(middle.parameters(), b.parameters(), strict=True):
            p.copy_((p + q) / 2)
    again = training.calibrated(middle, images)
    assert landscape.line(a, b, images, labels, points=3, calibration=images)[1][1] == pytest.approx(
        training.loss_and_accuracy(again, images, labels)[0]
    )
    with pytest.raises(ValueError, match="different parameters"):
        landscape.line(a, plain(), images, labels)
    with pytest.raises(ValueError, match="points is 1"):
        landscape.line(a, b, images, labels, points=1)


def test_surface_has_the_network_in_the_middle():
    model, images, labels = case()
    before = copy.deepcopy(model.state_dict())
    places, losses = landscape.surface(model, images, labels, points=5, reach=0.5)
    assert losses[2, 2] == pytest.approx(training.loss_and_accuracy(model, images, labels)[0]) and places[2] == 0
    assert len(set(losses.ravel())) == 25
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(ValueError, match="points is 4; expected an odd number"):
        landscape.surface(model, images, labels, points=4)


def test_the_first_direction_of_a_surface_is_drawn_to_the_right():
    places = np.linspace(-1, 1, 9)
    rising = np.broadcast_to(10 ** places[:, None], (9, 9))  # along the first direction only
    bands = report.plot_surface(places, rising).collections[0].get_paths()
    width, height = np.ptp(bands[len(bands) // 2].vertices, axis=0)
    plt.close("all")
    assert width < 0.5 and height == 2


def test_the_authors_construction_is_one_run_of_an_operator_that_changes(tmp_path):
    """Ritz values of both signs after as many steps as asked, weights that sum to 1, one Gaussian each in the frame."""
    preset = presets.get("smoke").select(architectures="vgg19", levels=[3])
    (unit,) = experiments.units(preset)
    run = runner.complete(unit, experiments.Store(tmp_path), data=experiments.load("digits", preset.image_limit))
    frame = experiments.frame("author_ritz", [run])
    assert list(frame["stage"]) == ["init", "final"] and (frame["images"] == 8).all()
    for row in frame.itertuples():
        assert row.density.nodes.shape == (1, preset.spectrum.author_steps)
        assert row.density.weights.sum() == pytest.approx(1)
        assert (row.smallest, row.largest) == (row.density.nodes.min(), row.density.nodes.max())
    assert frame["smallest"].min() < 0 < frame["largest"].max()


def test_the_limit_on_products_holds_while_values_are_confirmed():
    """Converged is not done: the search goes on from a random direction, and that costs products too."""
    spectrum = torch.linspace(1, 100, 200)
    asked = []

    def product(vector):
        asked.append(1)
        return spectrum * vector

    with pytest.raises(RuntimeError, match="did not converge in 34 products: that none is missing was not confirmed"):
        lanczos.extreme(product, 200, 3, tol=0.2, basis=34, max_products=34)
    assert len(asked) == 34
    assert lanczos.extreme(product, 200, 3, tol=0.2, basis=34, max_products=100).products > 34
