"""Two seeds of one network with their channels in one order, so that the line between them compares like with like."""

import copy
from collections import namedtuple

import torch

from rfkit import training

_Group = namedtuple("_Group", "seen made read")
"""Channels that can be put in another order together: where they are seen, made and read."""


def matched(model, other, images):
    """A network with its channels in the order in which they are most like those of another.

    Args:
        model: One of the paper's two networks; not changed.
        other: A network of the same kind; not changed.
        images: As in `rfkit.training.outputs`; correlations of channels are over all images and positions.

    Returns:
        A copy of `other` that computes the same function.

    Raises:
        ValueError: If it is not one of the paper's networks, whose channels are known.

    Source: Activation matching, Ainsworth et al. (2023), Sec. 3.1. Batch norm is to be calibrated anew between the two
    networks, as in REPAIR, Jordan et al. (2023): `line` does.
    """
    from scipy.optimize import linear_sum_assignment

    groups, result = _groups(model), copy.deepcopy(other)
    alike, weights = _correlations(model, other, images, groups), result.state_dict()
    for group, correlation in zip(groups, alike, strict=True):
        order = torch.as_tensor(linear_sum_assignment(correlation.numpy(), maximize=True)[1])
        for name, tensor in weights.items():
            layer, _, kind = name.rpartition(".")
            if layer in group.made and tensor.dim():
                tensor.copy_(tensor[order])
            if layer in group.read and kind == "weight":
                tensor.copy_(tensor[:, order])
    return result


def _groups(model):
    architecture = getattr(model, "architecture", None)
    if architecture == "vgg19":
        read = [*(f"features.conv{i}" for i in range(2, 17)), "classifier"]
        made = [[f"features.conv{i}", f"features.bn{i}"] for i in range(1, 17)]
        return [_Group([f"features.relu{i + 1}"], made[i], [read[i]]) for i in range(16)]
    if architecture == "resnet50":
        return _residual_groups()
    name = type(model).__name__
    raise ValueError(f"{name} is none of the paper's networks, vgg19 and resnet50: which channels may change places?")


def _residual_groups():
    """Inside a block every convolution has an order of its own; all blocks of a stage share that of their outputs."""
    stages = [[f"features.layer{n}.{block}" for block in range(count)] for n, count in enumerate((3, 4, 6, 3), start=1)]
    into = [[f"{stage[0]}.conv1", f"{stage[0]}.shortcut.0"] for stage in stages]
    groups = [_Group(["features.relu1"], ["features.conv1", "features.bn1"], into[0])]
    for stage, after in zip(stages, [*into[1:], ["classifier"]], strict=True):
        for block in stage:
            for i in (1, 2):
                made = [f"{block}.conv{i}", f"{block}.bn{i}"]
                groups.append(_Group([f"{block}.relu{i}"], made, [f"{block}.conv{i + 1}"]))
        made = [f"{block}.{layer}" for block in stage for layer in ("conv3", "bn3")]
        shortcut = [f"{stage[0]}.shortcut.0", f"{stage[0]}.shortcut.1"]
        read = [f"{block}.conv1" for block in stage[1:]]
        groups.append(_Group([f"{block}.relu3" for block in stage], made + shortcut, read + after))
    return groups


def _correlations(model, other, images, groups):
    """Of every group the correlation of its channels in one network (rows) with those in the other (columns)."""
    names, sums, latest = [name for group in groups for name in group.seen], {}, {}
    both = {(i, name): network.get_submodule(name) for i, network in enumerate((model, other)) for name in names}

    def see(key, _, out):
        latest[key] = out.detach().double().movedim(1, -1).flatten(0, -2)  # (positions of all images, channels)

    with training.watched(both, see):
        for _ in zip(training.outputs(model, images), training.outputs(other, images), strict=True):
            for name in names:
                a, b = latest[0, name], latest[1, name]
                parts = torch.tensor(len(a)), a.sum(0), b.sum(0), (a * a).sum(0), (b * b).sum(0), a.T @ b
                sums[name] = [x + y for x, y in zip(sums[name], parts, strict=True)] if name in sums else list(parts)
    return [sum(_correlation(*sums[name]) for name in group.seen).cpu() for group in groups]


def _correlation(count, a, b, aa, bb, ab):
    """From sums over samples; 0 for channels that do not vary."""
    spread = (((aa - a * a / count).clamp_min(0))[:, None] * (bb - b * b / count).clamp_min(0)).sqrt()
    return torch.where(spread > 1e-9, (ab - a[:, None] * b / count) / spread.clamp_min(1e-9), 0.0)
