"""Which input pixels a unit really depends on: by gradients, knowing nothing of kernels, strides or paddings."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from rfkit.receptive_field.layout import tensors

IDENTITY = frozenset(
    "relu relu_ relu6 hardtanh hardtanh_ silu silu_ gelu hardswish leaky_relu leaky_relu_ elu elu_ selu celu prelu "
    "rrelu softplus mish logsigmoid hardshrink softshrink tanhshrink _threshold threshold threshold_ clamp clamp_ "
    "clamp_min clamp_min_ clamp_max clamp_max_ clip clip_ abs dropout dropout1d dropout2d dropout3d alpha_dropout "
    "feature_dropout batch_norm group_norm instance_norm layer_norm local_response_norm normalize sign sgn round floor "
    "ceil trunc".split()
)

GATES = frozenset("sigmoid sigmoid_ tanh tanh_ hardsigmoid softsign".split())
COMPARISONS = frozenset("gt ge lt le eq ne greater less greater_equal less_equal not_equal".split())


class _Linear(TorchFunctionMode):
    """Replaces what is not linear by something linear that reads the same pixels."""

    def __init__(self):
        super().__init__()
        self.compared = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in IDENTITY:
            return args[0] * 1.0
        if name in GATES:  # bounded: products of unbounded maps would soon leave the range of float64
            return args[0] / (1 + args[0].detach().abs())
        if name.startswith(("max_pool", "adaptive_max_pool")):
            pooled = name.removesuffix("_with_indices")
            average = getattr(F, pooled.replace("max", "avg"))  # of adaptive pools; others may be dilated
            made = func(*args, **kwargs)
            shape = (made if pooled == name else made[0]).shape
            mean = _mean_pool(shape, *args, **kwargs) if name.startswith("max") else average(*args[:2])
            return mean if pooled == name else (mean, made[1])
        if name in ("softmax", "log_softmax"):
            dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
            return args[0].mean(dim, keepdim=True).expand_as(args[0])
        if name in COMPARISONS:  # a truth value has no gradient: what it was made from is kept for `where`
            truth = func(*args, **kwargs)
            self.compared.append((truth, sum(1.0 * each for each in args if isinstance(each, torch.Tensor))))
            return truth
        if (name == "where" and len(args) == 3) or (name.startswith("masked_fill") and len(args) > 1):
            condition, *read = args if name == "where" else (args[1], args[0])
            return sum((made for truth, made in self.compared if truth is condition), sum(read))
        of_two = len(args) > 1 and isinstance(args[-1], torch.Tensor)
        if name in ("maximum", "minimum") or (name in ("max", "min") and of_two):
            return args[0] + args[1]
        if name in ("max", "min") and ("dim" in kwargs or len(args) > 1):
            kind = torch.return_types.max if name == "max" else torch.return_types.min
            return kind((torch.mean(*args, **kwargs), func(*args, **kwargs).indices))
        if name in ("amax", "amin"):
            return torch.mean(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            query, key, value = args[:3]
            return query + (key.mean(-2, keepdim=True) + value.mean(-2, keepdim=True)).expand_as(query)
        return func(*args, **kwargs)


def _mean_pool(shape, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Mean over the windows of a max-pool, by a convolution; average pooling in torch knows no dilation."""
    count, channels = x.dim() - 2, x.shape[1]
    kernel = [kernel_size] * count if isinstance(kernel_size, int) else kernel_size
    weight = x.new_full((channels, 1, *kernel), 1 / math.prod(kernel))
    convolve = (F.conv1d, F.conv2d, F.conv3d)[count - 1]
    grown = F.pad(x, [0, max(kernel) * ceil_mode] * count)  # for windows that ceil_mode lets reach out at the far end
    means = convolve(grown, weight, None, stride or kernel_size, padding, dilation, channels)
    return means[tuple(map(slice, shape))]


def positive_copy(model):
    """A float64 copy in evaluation mode whose every weight is positive, so that no two paths can cancel."""
    double = copy.deepcopy(model).to("cpu", torch.float64).eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in double.parameters():
            parameter.uniform_(0.5, 1.5, generator=random)  # a positive bias keeps products of maps from vanishing
            if parameter.dim() > 1:
                parameter.div_(parameter[0].numel())
    return double


def output_of(model, name, call, images):
    """The result of one call of one module in a forward pass; what comes after may fail on odd image sizes."""
    made = []  # copies: the next layer may work in place

    def keep(module, _, output):
        made.append(output.clone() if isinstance(output, torch.Tensor) else output)

    try:
        with model.get_submodule(name).register_forward_hook(keep):
            model(images)
    except (RuntimeError, ValueError) as error:
        if len(made) < call:
            raise RuntimeError(f"the network fails on images of {tuple(images.shape[2:])} pixels: {error}") from error
    if not len(made) >= call > 0 or not isinstance(made[call - 1], torch.Tensor):
        what = "no tensor" if len(made) >= call > 0 else f"no call {call}, it runs {len(made)} times"
        raise ValueError(f"module {name or type(model).__name__!r} has {what}")
    return made[call - 1]


def supports(model, name, call, shape, axis, *, span=64):
    """({unit: range of pixels it depends on} along one axis around the middle of a map, units, whether one is cut)."""
    with _Linear():
        out = output_of(model, name, call, torch.ones(1, *shape, dtype=torch.float64)).shape
    if len(out) != len(shape) + 1:
        raise ValueError(f"module {name!r} makes a tensor of shape {tuple(out)}, not a map over the image")
    size, side = out[2 + axis], shape[1 + axis]
    count = 1 if not span else min(max(2, span // max(1, side // size)), 32)
    first = max(0, size // 2 - count // 2)
    units, found = range(first, min(size, first + count)), {}
    at_once = max(1, int(2e7 / math.prod(shape) / 64))  # images, within a few GiB
    for start in range(0, len(units), at_once):
        chunk = units[start : start + at_once]
        images = torch.ones(len(chunk), *shape, dtype=torch.float64, requires_grad=True)
        with _Linear():
            output = output_of(model, name, call, images)
        # all places along the other axes: where one sees nothing, another may; 0 times the images: some may see nothing
        total = 0 * images.sum() + sum(output[row].select(1 + axis, unit).sum() for row, unit in enumerate(chunk))
        for unit, gradient in zip(chunk, _finite(torch.autograd.grad(total, images))[0], strict=True):
            pixels = gradient.nonzero()[:, 1 + axis]
            found[unit] = range(int(pixels.min()), int(pixels.max()) + 1) if len(pixels) else range(0)
    return found, size, any(0 in seen or side - 1 in seen for seen in found.values())


def _finite(gradients):
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise RuntimeError("the gradients overflow, as products of many maps may; `receptive_field.trace` needs none")
    return gradients


def step_of(found):
    """(pixels from unit to unit, units after which the phases of a map begin again)."""
    last = max(found, default=0)
    for period in range(1, last + 1):
        pairs = [(unit, unit + period) for unit in found if unit + period <= last]
        steps = {found[b][0] - found[a][0] if b in found else math.nan for a, b in pairs}
        if len(steps) == 1 and not math.isnan(step := steps.pop()):
            return step / period, period
    return math.nan, 1


def weights_on_a_path(model, shape):
    """Which weights lie on a path from a pixel or a bias to the output."""
    copied = positive_copy(model)
    image = torch.rand(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    weights = {name: p.requires_grad_() for name, p in copied.named_parameters() if p.dim() > 1}
    with torch.enable_grad(), _Linear():
        try:
            output = copied(image)
        except RuntimeError as error:
            expected = "expected its channels, height and width"
            raise ValueError(f"the network fails on images of shape {tuple(shape)}: {error}; {expected}") from error
    total = sum(each.sum() for each in tensors(output) if each.requires_grad)
    gradients = _finite(torch.autograd.grad(total, list(weights.values()), materialize_grads=True))
    return {name: gradient != 0 for name, gradient in zip(weights, gradients, strict=True)}


def mean_pattern(model, name, call, images):
    """Mean absolute gradient of the middle unit of every channel with respect to the input."""
    double = copy.deepcopy(model).to("cpu", torch.float64).eval()
    total = 0
    for part in torch.as_tensor(images).to("cpu", torch.float64).split(8):
        x = part.clone().requires_grad_()
        output = output_of(double, name, call, x.clone())  # a first layer may work in place
        if output.dim() != x.dim():
            raise ValueError(f"module {name!r} makes a tensor of shape {tuple(output.shape)}, not a map over the image")
        middle = output[(slice(None), slice(None), *(n // 2 for n in output.shape[2:]))]
        total = total + torch.autograd.grad(middle.sum(), x)[0].abs().sum((0, 1))
    return total / len(images)


@dataclass(frozen=True)
class EffectiveField:
    """How strongly the middle unit of a layer depends on each pixel."""

    name: str  #: The layer.
    pattern: np.ndarray  #: Array (H, W), mean absolute gradient.
    size: tuple  #: The theoretical field in pixels, (height, width).

    def radius_px(self, threshold=0.0455):
        """Radius of a disc of as many pixels as have a gradient of at least a share of the largest.

        Source: Luo et al. (2016), Sec. 2: the effective receptive field as pixels above a threshold.
        """
        counted = (self.pattern >= threshold * self.pattern.max()) & (self.pattern > 0)
        return math.sqrt(int(counted.sum()) / math.pi)

    def side_px(self, share=0.5):
        """Side of the smallest square around the middle that holds a share of the whole gradient.

        Source: Ding et al. (2022), Sec. 4.1: high-contribution area.
        """
        rows, columns = (np.abs(np.arange(side) - side // 2) for side in self.pattern.shape)
        held = np.bincount(np.maximum.outer(rows, columns).ravel(), self.pattern.ravel()).cumsum()
        return 2 * int(np.searchsorted(held, share * held[-1])) + 1
