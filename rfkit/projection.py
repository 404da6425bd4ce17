"""Projecting the gradient of the last feature map into the image: how much each pixel matters at initialisation."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from rfkit.config import one_of, whole
from rfkit.models import feature_extractor
from rfkit.training import evaluation_mode

CONSTANT = 3.0
"""The author's constant image; networks without a bias before the first ReLU do not depend on its size."""


@dataclass(frozen=True)
class ProjectionResult:
    """Gradients of many freshly initialised networks, projected into the image."""

    pattern: np.ndarray  #: Array (H, W), mean over networks of the absolute gradient, mean over the colours counted.
    maxima: np.ndarray  #: Array (repeats,), largest absolute gradient of each network.


class _Changed(TorchFunctionMode):
    """Batch norm and ReLU pass through if it is linear, and max-pooling averages if that is asked."""

    def __init__(self, linear, average, keep_first_relu):
        super().__init__()
        self.linear, self.average, self.keep = linear, average, keep_first_relu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if self.linear and name == "batch_norm":
            return args[0]
        if self.linear and name in ("relu", "relu_"):
            if not self.keep:
                return args[0]
            self.keep = False
        if self.average and name == "max_pool2d":
            return _average_pool(*args, **kwargs)
        return func(*args, **kwargs)


def _average_pool(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    if dilation not in (1, (1, 1)) or return_indices:
        raise ValueError("max-pooling with dilation or indices has no average-pooling twin; use pooling='max'")
    return F.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)


def gradient_projection(
    make_model, *, input_size=64, repeats=50, seed=0, backward="true", image="constant", colours="first",
    keep_first_relu=False, pooling=None, prepare=None,
):  # fmt: skip
    """Project a unit gradient at the middle of the last feature map into the image, for many fresh networks.

    A one goes into every channel at index ``ceil(n / 2) - 1`` of the last feature map; the absolute gradient with
    respect to the image is the importance of its pixels. The result is a `ProjectionResult`.

    Args:
        make_model: Callable without arguments that returns a freshly initialised network; called once per
            repeat, under its own seed.
        input_size: Height and width of the image, in pixels.
        repeats: Number of networks.
        seed: The networks get the seeds ``seed``, ``seed + 1``, …
        backward: ``"true"``, autograd as it is; ``"linearised"``, batch norm and ReLU passed through and max-pooling
            as averaging, as in the author's code; Table 4 (ResNet50) needs `keep_first_relu` as well.
        image: ``"constant"`` (every value 3) or ``"gaussian"``, drawn anew for every network.
        colours: ``"first"``, the first colour channel only, as in the author's code, or ``"all"``.
        keep_first_relu: Leave the first ReLU real in the linearised pass, as the author's code does for ResNet50.
        pooling: What max-pooling does, ``"max"`` or ``"average"``; ``None`` is max in the true pass and average in the
            linearised one.
        prepare: Called with each network before its pass and returns the network to use, such as a copy with
            calibrated batch norm; ``None`` takes it as it is.

    Raises:
        ValueError: If an argument is not one of the values above or `repeats` or `input_size` is below 1.

    Source: Paper Sec. 3.4, Tables 3 and 4, Figures 4 and 5; definitions from the author's public code.
    """
    one_of("backward", backward, ("true", "linearised"))
    one_of("image", image, ("constant", "gaussian"))
    one_of("colours", colours, ("first", "all"))
    linear = backward == "linearised"
    pooling = one_of("pooling", pooling or ("average" if linear else "max"), ("max", "average"))
    for name, value in (("repeats", repeats), ("input_size", input_size)):
        whole(name, value, 1)
    if isinstance(make_model, torch.nn.Module) or not callable(make_model):
        made = f"make_model is a {type(make_model).__name__}"
        raise ValueError(f"{made}; expected a callable that returns a new network, such as lambda: ...")
    patterns, maxima, size = [], [], (1, 3, input_size, input_size)
    for repeat in range(repeats):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed + repeat)
            model = make_model()
            x = torch.randn(size) if image == "gaussian" else torch.full(size, CONSTANT)
        model = model if prepare is None else prepare(model)
        with evaluation_mode(model), _Changed(linear, pooling == "average", keep_first_relu):
            features = feature_extractor(model)(x.requires_grad_())
        height, width = features.shape[-2:]
        middle = features[:, :, -(-height // 2) - 1, -(-width // 2) - 1].sum()
        gradient = torch.autograd.grad(middle, x)[0][0].abs()
        counted = gradient[:1] if colours == "first" else gradient
        patterns.append(counted.mean(0).numpy())
        maxima.append(float(counted.max()))
    return ProjectionResult(np.mean(patterns, 0), np.array(maxima))


def coverage(kernel, stride, size):
    """In how many windows of a sliding operation each pixel lies."""
    image = torch.zeros(1, 1, size, size, requires_grad=True)
    windows = F.conv2d(image, torch.ones(1, 1, kernel, kernel), stride=stride)
    return torch.autograd.grad(windows.sum(), image)[0][0, 0].numpy()
