"""One-shot magnitude pruning with masks kept outside the network, fine-tuning under them, and weights that matter."""

import copy
import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from numbers import Real

import torch
from torch import nn

from rfkit import training
from rfkit.config import one_of
from rfkit.presets import NEVER_PRUNED
from rfkit.receptive_field import weights_on_a_path

Masks = Mapping[str, torch.Tensor]
"""Parameter name to bool tensor of its shape, True where the weight is kept; prunable weights only."""


def prunable(model, exclude=NEVER_PRUNED):
    """The weights that may be pruned.

    Args:
        model: Network.
        exclude: What is left alone: ``"first_conv"``, ``"last_linear"``, or names of modules.

    Returns:
        Mapping of parameter name to parameter, in the order of the modules: weights of convolutions and
        linear layers, never biases or batch norm.

    Raises:
        ValueError: If an excluded name is not a convolution or linear layer of the model, nothing is left, or a weight
            is not a parameter.

    Source: Paper Sec. 3.3 states the rates only; layers and exclusions from the author's public code.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.modules.conv._ConvNd | nn.Linear)}
    convs = [name for name, m in layers.items() if not isinstance(m, nn.Linear)]
    linears = [name for name, m in layers.items() if isinstance(m, nn.Linear)]
    special = {"first_conv": convs[:1], "last_linear": linears[-1:]}
    left_out = set()
    for name in (exclude,) if isinstance(exclude, str) else exclude:
        if name not in special and name not in layers:
            raise ValueError(f"cannot exclude {name!r}; expected first_conv, last_linear or one of {', '.join(layers)}")
        left_out.update(special.get(name, [name]))
    gone = {id(layers[name].weight) for name in left_out}  # a weight that two layers share is left out with either
    names, weights = {id(weight): name for name, weight in model.named_parameters()}, {}
    for name, module in layers.items():
        if id(module.weight) not in gone and name not in left_out:
            if id(module.weight) not in names:
                raise ValueError(
                    f"{name}.weight is parametrised and no parameter of its own; make it one before pruning, by "
                    "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.prune.remove"
                )
            weights[names[id(module.weight)]] = module.weight
    if not weights:
        raise ValueError(f"{type(model).__name__} has no prunable weights outside {', '.join(exclude) or 'nothing'}")
    return weights


def prune(model, rate, method="global_magnitude", *, exclude=NEVER_PRUNED):
    """Set the smallest weights of a network to zero, in place and in one shot.

    Exactly ``round(rate * n)`` of the n prunable weights (of each layer) are pruned; among equal magnitudes the
    ones that come first in the network go first.

    Args:
        model: Network, changed in place.
        rate: Fraction of the prunable weights, in [0, 1].
        method: ``"global_magnitude"``, one ranking over all layers, or ``"layer_magnitude"``, one in each layer: every
            layer loses the same share.
        exclude: As in `prunable`.

    Returns:
        `Masks`, on the model's device.

    Raises:
        ValueError: If the rate or the method is not valid, or a weight is NaN.

    Source: Paper Sec. 3.3 (one-shot, rates 0.5-0.9).
    """
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate!r}; expected a fraction of the prunable weights in [0, 1], such as 0.9")
    one_of("pruning method", method, ("global_magnitude", "layer_magnitude"))
    weights = prunable(model, exclude)
    magnitudes = [weight.detach().abs().flatten() for weight in weights.values()]
    if any(each.isnan().any() for each in magnitudes):
        raise ValueError("a prunable weight is NaN; pruning by magnitude has no meaning here")
    if method == "layer_magnitude":
        kept = [_largest(each, rate) for each in magnitudes]
    else:
        kept = _largest(torch.cat(magnitudes), rate).split([each.numel() for each in magnitudes])
    masks = {name: keep.view_as(weight) for (name, weight), keep in zip(weights.items(), kept, strict=True)}
    apply_masks(model, masks)
    return masks


def _largest(magnitudes, rate):
    """All but a share of the values, the smallest of them; of equal ones the first."""
    count = round(rate * len(magnitudes))
    keep = torch.ones_like(magnitudes, dtype=torch.bool)
    if count:
        threshold = magnitudes.kthvalue(count).values  # a tenth of the time of sorting
        keep &= magnitudes >= threshold
        ties = (magnitudes == threshold).nonzero().flatten()
        keep[ties[: count - int((~keep).sum())]] = False
    return keep


@torch.no_grad()
def apply_masks(model, masks):
    """Set every masked weight to zero, in place."""
    for name, parameter in _checked(model, masks).items():
        if name in masks:
            parameter.masked_fill_(~masks[name].to(parameter.device), 0)


def _checked(model, masks):
    """The parameters of a model by name, if masks fit them."""
    parameters = dict(model.named_parameters())
    if not masks:
        raise ValueError("masks is empty; expected those that prune returned")
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            shape = tuple(parameters[name].shape) if name in parameters else "no such parameter"
            raise ValueError(f"mask {name!r} has shape {tuple(mask.shape)}, the model has {shape}")
        if mask.dtype != torch.bool:
            raise ValueError(f"mask {name!r} is of {mask.dtype}; expected bool, True where a weight is kept")
    return parameters


def counts(masks):
    """How many weights masks are about, and how many of those they keep."""
    return sum(mask.numel() for mask in masks.values()), sum(int(mask.sum()) for mask in masks.values())


def sparsity(model, masks=None, *, exclude=NEVER_PRUNED):
    """Fraction of the prunable weights that are zero.

    Args:
        model: Network.
        masks: Count over these weights and by these masks, whatever the weights are; by the weights themselves if
            ``None``.
        exclude: As in `prunable`; without masks.

    Returns:
        Fraction in [0, 1].

    Raises:
        ValueError: As in `apply_masks`.
    """
    if masks is not None:
        _checked(model, masks)
        total, kept = counts(masks)
        return 1 - kept / total
    weights = prunable(model, exclude).values()
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def fine_tune(model, masks, data, config, *, seed=0, device=None, frozen_batchnorm=False, label="fine-tuning"):
    """Train a pruned network on, its pruned weights staying exactly zero.

    Args:
        model: Network, changed in place.
        masks: `Masks`; applied before the first and after every step, whatever momentum or decay would do.
        data: `rfkit.data.ImageData`.
        config: `rfkit.config.TrainConfig`.
        seed: As in `rfkit.training.fit`.
        device: As in `rfkit.training.fit`.
        frozen_batchnorm: As in `rfkit.training.fit`; the author's code froze it.
        label: As in `rfkit.training.fit`.

    Returns:
        Test accuracy of the selected epoch, in percent.

    Raises:
        ValueError: As in `apply_masks`.
        rfkit.training.DivergedError: If the loss becomes NaN or infinite.

    Source: Paper Sec. 3.3, Tables 13 and 14; settings of each protocol in `rfkit.presets`.
    """
    device = training.pick_device(device)
    model.to(device)
    apply_masks(model, masks)
    masks = {name: mask.to(device) for name, mask in masks.items()}
    result = training.fit(
        model, data, config, seed=seed, device=device, after_step=partial(apply_masks, model, masks),
        frozen_batchnorm=frozen_batchnorm, label=label,
    )  # fmt: skip
    return result.history[result.selected_epoch - 1]["test_accuracy"]


def usable_weights(model, input_shape):
    """Which prunable weights can change the output at all, by the geometry of the network.

    A weight cannot if its kernel tap only ever meets padding, as all but the centre of a padded 3x3 kernel on a 1x1
    map do, or if it only feeds positions that a later layer cuts off.

    Args:
        model: Network; not changed.
        input_shape: Channels, height and width of its images.

    Returns:
        `Masks`, True where the weight is usable.

    Raises:
        ValueError: As in `prunable`.
    """
    weights, on_a_path = prunable(model), weights_on_a_path(model, input_shape)
    return {name: on_a_path[name].to(weight.device) for name, weight in weights.items()}


def tap_utilisation(model, input_shape):
    """How much of its map each kernel tap of each two-dimensional convolution gets to see; others are left out.

    Args:
        model: Network; not changed.
        input_shape: Channels, height and width of its images.

    Returns:
        Mapping of weight name to a float64 tensor (kernel height, kernel width): the share of output positions at
        which the tap meets a real pixel, 0 for a tap that only meets padding.
    """
    shares = {}
    for name, (conv, calls) in maps(model, input_shape).items():
        if isinstance(conv, nn.Conv2d):
            positions = sum(math.prod(after) for _, after in calls)
            shares[f"{name}.weight".lstrip(".")] = sum(_met(conv, before) for before, _ in calls) / positions
    return shares


@torch.enable_grad()
def _met(conv, before):
    """At how many positions each tap of a convolution meets a real pixel: what its gradient is for an image of ones."""
    taps = torch.ones(conv.groups, 1, *conv.kernel_size, dtype=torch.float64, requires_grad=True)
    image = torch.ones(1, conv.groups, *before, dtype=torch.float64)
    return torch.autograd.grad(conv._conv_forward(image, taps, None).sum(), taps)[0][0, 0]


def multiplications(model, input_shape):
    """How many multiplications each weight takes part in for one image.

    Source: Blalock et al. (2020): theoretical speed-up is the ratio of multiply-adds of dense and pruned network.
    """
    names, places = {id(weight): name for name, weight in model.named_parameters()}, {}
    for layer, (module, calls) in maps(model, input_shape).items():
        spread = isinstance(module, nn.modules.conv._ConvTransposeNd)  # each of its weights meets every place it reads
        name = names.get(id(module.weight), f"{layer}.weight".lstrip("."))  # one weight of several layers has one name
        places[name] = places.get(name, 0) + sum(math.prod(before if spread else after) for before, after in calls)
    return places


def maps(model, input_shape):
    """{layer: (module, [(spatial size before, after) of each call])} of the convolutions and linear layers."""
    kinds, found = nn.modules.conv._ConvNd | nn.Linear, {}
    layers = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}

    def see(name, inputs, output):
        places = slice(1, -1) if isinstance(layers[name], nn.Linear) else slice(2, None)
        calls = found.setdefault(name, (layers[name], []))[1]
        calls.append((tuple(inputs[0].shape[places]), tuple(output.shape[places])))

    weight = next(model.parameters())
    with training.watched(layers, see), training.evaluation_mode(model), torch.no_grad():
        model(torch.zeros(1, *input_shape, device=weight.device, dtype=weight.dtype))
    return found


def without_dead_taps(model, input_shape):
    """A copy in which padded kernels on 1x1 maps are 1x1 kernels, for images of this size: the same output for less."""
    thin = copy.deepcopy(model)
    users = Counter(id(weight) for module in thin.modules() for weight in module._parameters.values())
    for name, (_, calls) in maps(model, input_shape).items():
        conv = thin.get_submodule(name)
        # a kernel that is made of its weights may need all of them, and so may another layer that shares them
        alone = type(conv) is nn.Conv2d and users[id(conv.weight)] == 1 and conv.padding_mode == "zeros"
        if alone and all(before == after == (1, 1) for before, after in calls):
            for row, column in _met(conv, (1, 1)).nonzero().tolist():  # one, if any
                conv.weight = nn.Parameter(conv.weight.detach()[:, :, row : row + 1, column : column + 1])
                conv.kernel_size, conv.padding = (1, 1), (0, 0)
    return thin
