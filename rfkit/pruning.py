"""One-shot magnitude pruning with masks kept outside the network."""

from collections.abc import Mapping

import torch
from torch import nn

Masks = Mapping[str, torch.Tensor]
"""Parameter name to bool tensor of its shape, True where the weight is kept; prunable weights only."""

EXCLUDE = ("first_conv", "last_linear")
"""What the author's code never prunes, by default."""


def prunable(model, exclude=EXCLUDE):
    """The weights that may be pruned.

    Args:
        model: Network.
        exclude: What is left alone: ``"first_conv"``, ``"last_linear"``, or names of modules.

    Returns:
        Mapping of parameter name to parameter, in the order of the modules: weights of convolutions and
        linear layers, never biases or batch norm.

    Raises:
        ValueError: If an excluded name is not a convolution or linear layer of the model, or nothing is left.

    Source:
        Paper Sec. 3.3 states the rates only; layers and exclusions from the author's public code.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)}
    convs = [name for name, m in layers.items() if not isinstance(m, nn.Linear)]
    linears = [name for name, m in layers.items() if isinstance(m, nn.Linear)]
    special = {"first_conv": convs[:1], "last_linear": linears[-1:]}
    left_out = set()
    for name in exclude:
        if name not in special and name not in layers:
            raise ValueError(f"cannot exclude {name!r}; expected first_conv, last_linear or one of {', '.join(layers)}")
        left_out.update(special.get(name, [name]))
    weights = {}
    for name, module in layers.items():
        shared = any(module.weight is weight for weight in weights.values())
        if name not in left_out and not shared:
            weights[f"{name}.weight" if name else "weight"] = module.weight
    if not weights:
        raise ValueError(f"{type(model).__name__} has no prunable weights outside {', '.join(exclude) or 'nothing'}")
    return weights


def prune(model, rate, method="global_magnitude", *, exclude=EXCLUDE):
    """Set the smallest weights of a network to zero, in place and in one shot.

    Exactly ``round(rate * n)`` of the n prunable weights are pruned; among equal magnitudes the ones
    that come first in the network go first.

    Args:
        model: Network, changed in place.
        rate: Fraction of the prunable weights, in [0, 1].
        method: ``"global_magnitude"``, one ranking over all layers.
        exclude: As in `prunable`.

    Returns:
        `Masks`, on the model's device.

    Raises:
        ValueError: If the rate or the method is not valid, or a weight is NaN.

    Source:
        Paper Sec. 3.3 (one-shot, rates 0.5-0.9).
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate!r}; expected a fraction of the prunable weights in [0, 1], such as 0.9")
    if method != "global_magnitude":
        raise ValueError(f"unknown pruning method {method!r}; expected 'global_magnitude'")
    weights = prunable(model, exclude)
    magnitudes = torch.cat([weight.detach().abs().flatten() for weight in weights.values()])
    if magnitudes.isnan().any():
        raise ValueError("a prunable weight is NaN; pruning by magnitude has no meaning here")
    count = round(rate * magnitudes.numel())
    keep = torch.ones_like(magnitudes, dtype=torch.bool)
    if count:
        threshold = magnitudes.kthvalue(count).values
        keep &= magnitudes >= threshold
        ties = (magnitudes == threshold).nonzero().flatten()
        keep[ties[: count - int((~keep).sum())]] = False
    masks, start = {}, 0
    for name, weight in weights.items():
        masks[name] = keep[start : start + weight.numel()].view_as(weight)
        start += weight.numel()
    apply_masks(model, masks)
    return masks


def apply_masks(model, masks):
    """Set every masked weight to zero, in place.

    Args:
        model: Network.
        masks: `Masks`.

    Raises:
        ValueError: If a name is not a parameter of the model or a shape differs.
    """
    parameters = dict(model.named_parameters())
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            shape = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            raise ValueError(f"mask {name!r} has shape {tuple(mask.shape)}, the model has {shape}")
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].masked_fill_(~mask.to(parameters[name].device), 0)


def sparsity(model, masks=None):
    """Fraction of the prunable weights that are zero.

    Args:
        model: Network.
        masks: Count over these weights and by these masks; by the weights themselves if ``None``.

    Returns:
        Fraction in [0, 1].
    """
    if masks is not None:
        return 1 - sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    weights = prunable(model).values()
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)
