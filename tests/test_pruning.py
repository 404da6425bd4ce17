import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

from rfkit import models, pruning


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
    with pytest.raises(ValueError, match="cannot exclude 'conv9'"):
        pruning.prunable(model, exclude=("conv9",))
    with pytest.raises(ValueError, match="no prunable weights"):
        pruning.prunable(nn.Linear(2, 2))


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
