import copy

import pytest
import torch
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_nets import Functional, networks
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch.utils.flop_counter import FlopCounterMode

from rfkit import data, experiments, models, presets, pruning, training
from rfkit.config import TrainConfig
from rfkit.experiments import runner
from rfkit.experiments.networks import at_stage


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9, 0.999, 1.0])
def test_agrees_with_torch_in_count_and_set(architecture, rate):
    ours = models.seeded_build(architecture, 2, width=1 / 16)
    theirs = copy.deepcopy(ours)
    masks = pruning.prune(ours, rate)
    modules = dict(theirs.named_modules())
    layers = [(modules[name.removesuffix(".weight")], "weight") for name in masks]
    torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=rate)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(rate * total)
    # torch breaks ties as its topk happens to; the sets may differ among weights of equal magnitude only
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    torch_kept = torch.cat([layer.weight_mask.flatten() for layer, _ in layers]).bool()
    disputed = torch.cat([layer.weight_orig.flatten() for layer, _ in layers]).abs()[kept != torch_kept]
    assert len(disputed.unique()) <= 1 and len(disputed) < 10
    for name, mask in masks.items():
        assert torch.equal(dict(ours.named_parameters())[name] != 0, mask)
    assert pruning.sparsity(ours) == pytest.approx(round(rate * total) / total)
    assert pruning.sparsity(ours, masks) == pytest.approx(pruning.sparsity(ours))


def test_what_is_prunable():
    vgg = pruning.prunable(models.build("vgg19", 1, width=1 / 16))
    assert list(vgg) == [f"features.conv{i}.weight" for i in range(2, 17)]
    with torch.device("meta"):
        resnet = pruning.prunable(models.build("resnet50", 1))
    assert sum(w.numel() for w in resnet.values()) == 23_520_842 - 53_120 - 3 * 64 * 9 - 20_490
    assert any("shortcut" in name for name in resnet) and not any("bn" in name for name in resnet)


def test_exclusions_are_a_parameter():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    assert list(pruning.prunable(model)) == ["1.weight"]
    assert list(pruning.prunable(model, exclude=())) == ["0.weight", "1.weight", "3.weight"]
    assert list(pruning.prunable(model, exclude=("1", "last_linear"))) == ["0.weight"]
    assert list(pruning.prunable(model, exclude="first_conv")) == list(pruning.prunable(model, exclude=("first_conv",)))
    with pytest.raises(ValueError, match="cannot exclude 'conv9'"):
        pruning.prunable(model, exclude=("conv9",))
    with pytest.raises(ValueError, match="no prunable weights"):
        pruning.prunable(nn.Linear(2, 2))


def test_each_layer_for_itself():
    """As torch's own pruning of one layer after the other."""
    ours, theirs = (models.seeded_build("vgg19", 2, width=1 / 16) for _ in range(2))
    masks = pruning.prune(ours, 0.7, "layer_magnitude")
    assert list(masks) == list(pruning.prunable(ours))
    for name, module in theirs.named_modules():
        if f"{name}.weight" in masks:
            torch_prune.l1_unstructured(module, "weight", amount=0.7)
            assert torch.equal(masks[f"{name}.weight"], module.weight_mask.bool())
    with pytest.raises(ValueError, match="did you mean 'layer_magnitude'"):
        pruning.prune(ours, 0.7, "layer_magnitud")


def test_ties_go_in_network_order():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.Linear(3, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    masks = pruning.prune(model, 0.6, exclude=("last_linear",))
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    assert kept.tolist() == [False] * 7 + [True] * 5


def test_shared_weights_count_once():
    conv = nn.Conv2d(4, 4, 3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), conv, nn.ReLU(), conv)
    assert sum(m.numel() for m in pruning.prune(model, 0.5, exclude=("first_conv",)).values()) == conv.weight.numel()


@pytest.mark.parametrize("rate", [-0.1, 1.1, 90, True, "0.5"])
def test_bad_rates(rate):
    with pytest.raises(ValueError, match=f"rate is {rate!r}; expected a fraction"):
        pruning.prune(nn.Conv2d(3, 3, 3), rate, exclude=())


def test_bad_method_and_weights():
    model = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3))
    with pytest.raises(ValueError, match="unknown pruning method 'random'"):
        pruning.prune(model, 0.5, "random")
    with torch.no_grad():
        model[1].weight[0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        pruning.prune(model, 0.5)


def test_masks_must_fit_the_model():
    model = nn.Sequential(nn.Conv2d(3, 3, 3))
    with pytest.raises(ValueError, match=r"mask '0.weight' has shape \(2,\), the model has \(3, 3, 3, 3\)"):
        pruning.apply_masks(model, {"0.weight": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ValueError, match="no such parameter"):
        pruning.apply_masks(model, {"9.weight": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ValueError, match="no such parameter"):
        pruning.sparsity(model, {"9.weight": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"mask '0.weight' is of torch.float32; expected bool"):
        pruning.apply_masks(model, {"0.weight": torch.ones(3, 3, 3, 3)})
    with pytest.raises(ValueError, match="masks is empty"):
        pruning.fine_tune(model, {}, None, None)


# --- fine-tuning ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():

    return data.load("digits").sample(192, 96)


SHORT = TrainConfig(epochs=2, lr=0.02, batch_size=64, augmentation="crop", schedule="constant")


def pruned_network(rate=0.8):
    model = models.seeded_build("vgg19", 2, width=1 / 16)
    return model, pruning.prune(model, rate)


def test_pruned_weights_stay_exactly_zero_after_every_step(digits, monkeypatch):
    model, masks = pruned_network()
    before = copy.deepcopy(model.state_dict())
    seen, step = [], torch.optim.SGD.step

    def stepped(optimizer, *args, **options):
        seen.append(pruning.sparsity(model))
        return step(optimizer, *args, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", stepped)
    accuracy = pruning.fine_tune(model, masks, digits, SHORT)
    assert len(seen) == 6 and seen == [pytest.approx(0.8, abs=1e-4)] * 6 and pruning.sparsity(model) == seen[0]
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        assert (weight[~mask] == 0).all() and not torch.equal(weight, before[name])
    assert accuracy == training.evaluate(model, digits.test_images, digits.test_labels)


def test_masking_gradients_alone_revives_weights_once_momentum_is_carried_over():
    """Why the mask is applied to the weights: a momentum from before pruning goes on moving them."""
    model, x = nn.Linear(8, 2, bias=False), torch.randn(4, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(x).square().sum().backward()
    optimizer.step()
    mask = torch.rand(2, 8) > 0.5
    with torch.no_grad():
        model.weight.mul_(mask)
    optimizer.zero_grad()
    model(x).square().sum().backward()
    model.weight.grad.mul_(mask)
    optimizer.step()
    assert (model.weight[~mask] != 0).all()


def test_frozen_batch_norm_stays_as_it_was(digits):
    model, masks = pruned_network()
    norm = model.features.bn1
    before = copy.deepcopy(norm.state_dict())
    pruning.fine_tune(model, masks, digits, SHORT, frozen_batchnorm=True)
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    pruning.fine_tune(model, masks, digits, SHORT)
    assert not torch.equal(before["running_mean"], norm.running_mean) and not torch.equal(before["weight"], norm.weight)


def test_prune_save_load_fine_tune(digits, tmp_path):
    model, masks = pruned_network()
    torch.save(models.seeded_build("vgg19", 2, width=1 / 16).state_dict(), tmp_path / "dense.pt")
    torch.save(model.state_dict(), tmp_path / "pruned.pt")
    assert (tmp_path / "pruned.pt").stat().st_size <= 1.05 * (tmp_path / "dense.pt").stat().st_size
    again = models.build("vgg19", 2, width=1 / 16)
    again.load_state_dict(torch.load(tmp_path / "pruned.pt", weights_only=True))
    assert pruning.sparsity(again) == pruning.sparsity(model)
    pruning.fine_tune(again, masks, digits, SHORT)
    assert pruning.sparsity(again) == pytest.approx(0.8, abs=1e-4)


def test_protocols_fine_tune_differently():
    tuning = {p: presets.get("paper", p).fine_tuning("cifar10", 0) for p in ("as_stated", "as_run", "careful")}
    assert tuning["as_stated"]["train"].clip_value == 0.1 and tuning["careful"]["train"].clip_value is None
    assert tuning["as_run"]["frozen_batchnorm"] and tuning["as_run"]["train"].train_share * 50_000 == 5_000
    assert {t["train"].lr for t in tuning.values()} == {1e-4} and {t["train"].epochs for t in tuning.values()} == {10}
    assert presets.get("demo").fine_tuning("digits", 1) is None


# --- weights that matter --------------------------------------------------------------------------


def unusable(model, size):
    masks = pruning.usable_weights(model, (3, size, size))
    return 1 - sum(int(m.sum()) for m in masks.values()) / sum(m.numel() for m in masks.values())


@pytest.mark.parametrize(
    "architecture, level, size, share",
    [
        ("vgg19", 2, 32, 0), ("vgg19", 3, 32, 0.786), ("vgg19", 4, 32, 0.786), ("vgg19", 4, 64, 0),
        ("resnet50", 3, 32, 0), ("resnet50", 4, 32, 0.235), ("resnet50", 4, 64, 0),
    ],
)  # fmt: skip
def test_unusable_share_of_the_papers_networks(architecture, level, size, share):
    assert unusable(models.build(architecture, level), size) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize("architecture, level", [("vgg19", 3), ("resnet50", 4)])
def test_unusable_weights_change_no_logit(architecture, level):
    model = models.seeded_build(architecture, level, width=1 / 16).eval()
    images = torch.randn(4, 3, 32, 32)
    logits, usable = model(images), pruning.usable_weights(model, (3, 32, 32))
    pruning.apply_masks(model, usable)
    assert pruning.sparsity(model) > 0.2 and torch.equal(model(images), logits)
    with torch.no_grad():
        for name, mask in usable.items():
            model.get_parameter(name)[~mask] = 1e3
    assert torch.equal(model(images), logits)


def test_weights_of_a_network_of_several_outputs():
    class Several(nn.Sequential):
        def forward(self, x):
            return {"out": super().forward(x), "image": x}

    layers = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3, padding=1), nn.Flatten(), nn.Linear(2, 2)]
    found = [pruning.usable_weights(kind(*layers), (3, 1, 1))["1.weight"] for kind in (nn.Sequential, Several)]
    assert torch.equal(*found) and found[0].sum() == 8  # on one pixel the centres of the kernels


@given(networks(), st.integers(6, 14))
@settings(max_examples=60, deadline=None)
def test_usable_means_that_a_gradient_can_reach_it(net, size):
    """Against gradients of the network itself, on many images: one definition is geometry, the other is measured."""
    net = net.double().eval()
    try:
        with torch.no_grad():
            output = net(torch.zeros(2, 3, size, size, dtype=torch.float64))
            assume(output.numel() and output.isfinite().all())  # a pool that meets nothing but padding gives -inf
    except RuntimeError:  # the image is too small for this network
        assume(False)
    for module in net.modules():  # so that no unit is dead by chance
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.uniform_(module.weight, -1, 1), nn.init.uniform_(module.bias, 0.5, 1.5)
    usable = pruning.usable_weights(net, (3, size, size))
    total = [0] * len(usable)
    for seed in range(12):
        images = torch.randn(8, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        weights = [net.get_parameter(name) for name in usable]
        output = net(images)
        gradients = torch.autograd.grad((output * torch.randn_like(output)).sum(), weights, allow_unused=True)
        total = [t + (0 if g is None else g.abs()) for t, g in zip(total, gradients, strict=True)]
    for (name, mask), measured in zip(usable.items(), total, strict=True):
        measured = torch.as_tensor(measured).expand(mask.shape)
        assert (measured[~mask] == 0).all(), name
        # relu and max can hide a path from every image tried, geometry cannot
        assert (measured[mask] > 0).double().mean() > 0.9 or not mask.any() or dead(net), name


def dead(net):
    return any(isinstance(module, Functional) for module in net.modules())


def test_tap_utilisation():
    model = models.build("vgg19", 3, width=1 / 16)
    shares = pruning.tap_utilisation(model, (3, 32, 32))
    assert shares["features.conv16.weight"].tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    two = pruning.tap_utilisation(nn.Conv2d(3, 4, 3, padding=1), (3, 2, 2))["weight"]
    assert two.tolist() == [[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]
    odd = pruning.tap_utilisation(nn.Conv2d(3, 4, (3, 1), stride=2, padding=(1, 0), dilation=2), (3, 5, 5))["weight"]
    assert odd.ravel().tolist() == [0.5, 1, 0.5]


def test_nine_in_a_kernel_of_which_one_is_used():
    """The signature of 1x1 maps: at rate 8/9 of such a layer only its centres are left after long decay."""
    usable = pruning.usable_weights(models.build("vgg19", 4, width=1 / 16), (3, 32, 32))
    for i in range(9, 17):
        assert usable[f"features.conv{i}.weight"].double().mean() == pytest.approx(1 / 9)


def test_multiplications():
    model = models.build("resnet50", 1, width=1 / 16)
    times = pruning.multiplications(model, (3, 32, 32))
    counted = sum(model.get_parameter(name).numel() * n for name, n in times.items())
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, 32, 32))
    assert 2 * counted == counter.get_total_flops()


def test_multiplications_of_a_shared_weight_are_those_of_both_layers():
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.MaxPool2d(4), nn.Conv2d(3, 3, 3, padding=1))
    model[2].weight = model[0].weight
    assert pruning.multiplications(model, (3, 4, 4)) == {"0.weight": 16 + 1}


class Standardised(nn.Conv2d):
    """A kernel that is made of all of its weights."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


@pytest.mark.parametrize("made", ["standardised", "normalised"])
def test_only_taps_that_stand_alone_are_taken_out(made):
    last = Standardised(4, 4, 3, padding=1)
    if made == "normalised":
        last = torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), last).eval()
    images = torch.randn(2, 3, 4, 4)
    assert torch.equal(pruning.without_dead_taps(model, (3, 4, 4))(images), model(images))


class Bounded(nn.Sequential):
    """Two convolutions, a bound after the first, a mean and a linear layer."""

    def __init__(self, bound):
        super().__init__(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2))
        self.bound = bound

    def forward(self, x):
        return self[2](self[1](self.bound(self[0](x))).mean((2, 3)))


BOUNDS = {
    "clip": lambda x: torch.clip(x, 0, 1),
    "clamp_": lambda x: x.clamp_(0, 1),
    "clamp_max": lambda x: x.clamp_max(0.1),
    "threshold": nn.Threshold(5, 0),
}


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_bounded_activation_kills_no_weight(bound):
    assert pruning.counts(pruning.usable_weights(Bounded(BOUNDS[bound]), (3, 8, 8))) == (144, 144)


def test_of_a_network_with_gates_no_weight_that_meets_padding_only_is_usable():
    net = torchvision.models.efficientnet_b0(num_classes=10)
    met, usable = pruning.tap_utilisation(net, (3, 32, 32)), pruning.usable_weights(net, (3, 32, 32))
    dead = {name: met[name] == 0 for name in met if name in usable}
    assert sum(int(mask.sum()) for mask in dead.values()) > 50
    assert not any(usable[name][..., mask].any() for name, mask in dead.items())


def kept_of(masks):
    return sum(int(mask.sum()) for mask in masks.values())


def test_pruning_again_without_dead_weights(tmp_path, monkeypatch):
    """The same usable weights go as at the nominal rate that prunes as many of them; outputs do not change before."""
    preset = presets.get("smoke").select(architectures="vgg19", levels=[1, 3], rates=[0.5, 0.9])
    data = experiments.load("digits", preset.image_limit)
    first, unit = experiments.units(preset)
    plain, dead = (runner.complete(each, experiments.Store(tmp_path), data=data) for each in (first, unit))
    assert plain.result("usable_pruning") == {"usable": plain.summary["prunable_weights"], "dead": 0}
    again = dead.result("usable_pruning")
    assert again["dead"] > again["usable"]
    model = at_stage(dead, "final", data)
    usable, bare = pruning.usable_weights(model, (3, 32, 32)), copy.deepcopy(model)
    pruning.apply_masks(bare, usable)
    before, after = (torch.cat(list(training.outputs(net, data.test_images))) for net in (model, bare))
    assert (after - before).abs().max() <= 1e-4
    total = sum(mask.numel() for mask in usable.values())
    for rate in range(1, 200):  # some nominal rate leaves about as many usable weights as the rate 0.5 of those
        twin = copy.deepcopy(model)
        masks = pruning.prune(twin, rate / 200)
        kept = sum(int((mask & usable[name]).sum()) for name, mask in masks.items())
        if kept <= again["usable"] / 2:
            break
    pruning.apply_masks(model, usable)
    assert kept_of(pruning.prune(model, (total - kept) / total)) == kept
    pruning.apply_masks(twin, usable)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    counts, prune = [], pruning.prune
    monkeypatch.setattr(pruning, "prune", lambda *a, **k: counts.append(kept_of(prune(*a, **k))))
    work = experiments.Work(data, torch.device("cpu"))
    again = experiments.ANALYSES["usable_pruning"].compute(dead, unit.asked["usable_pruning"], work)
    assert counts == [again["usable"] - round(rate * again["usable"]) for rate in (0.5, 0.9)]
    frame = experiments.frame("usable_pruning", [plain, dead])
    part = frame[frame["rf_level"] == 3].set_index("usable_sparsity")
    assert list(part.index) == [0, 0.5, 0.9] and part.loc[0.5, "kept"] == round(again["usable"] / 2)
    curve = experiments.frame("pruning", [plain]).set_index("pruning_rate")["accuracy"]
    assert frame[frame["rf_level"] == 1]["accuracy"].tolist() == curve.tolist()


# --- weights that are shared, parametrised or spread ------------------------------------------------


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 8, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(self.b(self.a(x)))


def test_a_shared_weight_is_left_out_with_the_layer_that_is():
    net = Tied()
    before = net.a.weight.clone()
    assert list(pruning.prune(net, 0.9)) == ["c.weight"] and torch.equal(net.a.weight, before)
    assert list(pruning.usable_weights(net, (3, 8, 8))) == ["c.weight"]
    assert list(pruning.prunable(net, ())) == ["a.weight", "c.weight"]


def test_a_weight_that_is_computed_is_named():
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 3)))
    with pytest.raises(ValueError, match=r"1.weight is parametrised and no parameter"):
        pruning.prune(net, 0.5)


def test_sparsity_of_the_same_weights_that_were_pruned():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    pruning.prune(net, 0.5, exclude=())
    assert pruning.sparsity(net, exclude=()) == 0.5
    with pytest.raises(ValueError, match="masks is empty"):
        pruning.sparsity(net, {})


def test_weights_of_a_transposed_convolution_meet_what_they_read():
    assert pruning.multiplications(nn.ConvTranspose2d(1, 1, 2, stride=2), (1, 4, 4)) == {"weight": 16}
