"""Similarity of representations: linear centred kernel alignment between the layers of two networks."""

import itertools
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import blas
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from rfkit.config import whole
from rfkit.training import evaluation_mode, model_inputs

DEAD = 8
"""Features that vary less than this many roundings of their own type do not vary at all."""
CHUNK = 4096
"""Features in one product, so few that float32 keeps CKA to 1e-6."""
MAX_GIB = 4.0
"""GiB of features held at a time; where they do not all fit, they are made in several passes over the images."""


class DeadFeaturesWarning(UserWarning):
    """A layer's features do not vary over the images, so that its similarity is not defined."""


@dataclass(frozen=True)
class SimilarityResult:
    """Linear CKA between all layers of two networks."""

    matrix: np.ndarray  #: Array (La, Lb); NaN where a layer is dead.
    layers_a: tuple[str, ...]  #: Names of the layers of the first network, in the order of execution.
    layers_b: tuple[str, ...]  #: Names of the layers of the second one.
    dead_a: tuple[str, ...]  #: Layers of the first network whose features do not vary over the images.
    dead_b: tuple[str, ...]  #: The same of the second one.
    images: int  #: Number of images.

    def diagonal(self):
        """Mean similarity of each layer to the same layer of the other network, live layers only."""
        if self.matrix.shape[0] != self.matrix.shape[1]:
            return float("nan")
        values = np.diagonal(self.matrix)[np.isfinite(np.diagonal(self.matrix))]
        return float(values.mean()) if len(values) else float("nan")


def linear_cka(x, y, *, unbiased=False):
    """Linear centred kernel alignment of two sets of features of the same images.

    Args:
        x: Features (n, p), tensor or array.
        y: Features (n, q).
        unbiased: Use the unbiased estimate of the Hilbert-Schmidt independence criterion; needs at least 4 images.

    Returns:
        Similarity; in [0, 1] if biased. NaN, with a `DeadFeaturesWarning`, where features do not vary over the images.

    Raises:
        ValueError: If the features are not matrices with the same number of rows, or there are too few rows.

    Source: Kornblith et al. (2019), Sec. 3; unbiased: Song et al. (2012), Eq. 5, as in Nguyen et al. (2021).
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    least = 4 if unbiased else 2
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or len(x) < least or 0 in (*x.shape, *y.shape):
        raise ValueError(
            f"features have shapes {tuple(x.shape)} and {tuple(y.shape)}; expected (n, p) and (n, q), n ≥ {least}"
        )
    a, b = {"x": _Kernel(len(x))}, {"y": _Kernel(len(x))}
    a["x"].add(x)
    b["y"].add(y)
    result = _compared(a, b, unbiased)
    for name in result.dead_a + result.dead_b:
        warnings.warn(f"the features of {name} do not vary over the images", DeadFeaturesWarning, stacklevel=2)
    return float(result.matrix[0, 0])


class _Kernel:
    """Gram matrix (n, n) of centred features, summed in float64 over parts of the features."""

    def __init__(self, count):
        self.count, self.features, self.total = count, 0, np.zeros((count, count), order="F")
        self.size = self.eps = 0.0
        self.dead = None

    def add(self, features):
        features = features.detach().cpu()
        if features.dtype not in (torch.float32, torch.float64):
            self.eps = max(self.eps, torch.finfo(features.dtype).eps if features.is_floating_point() else 0.0)
            features = features.double()
        self.eps = max(self.eps, torch.finfo(features.dtype).eps)
        for part in features.split(CHUNK, dim=1):
            self.size = max(self.size, *(abs(float(end)) for end in part.aminmax()))
            if not 1e-10 < self.size < 1e15:  # squares leave the range of float32
                part = part.double()
            # the first image taken off: an offset far larger than the variation costs no digits
            shifted = (part - part[:1]).numpy().T
            product = blas.ssyrk if shifted.dtype == np.float32 else blas.dsyrk
            self.total += product(1.0, shifted, trans=1)  # the upper half only
        self.features += features.shape[1]

    def vector(self, unbiased):
        # The matrix as a vector, so that inner products of these vectors are the criterion up to a factor; of a
        # symmetric matrix half is enough. Uses the matrix up: beside it, all layers would need twice the memory.
        gram, self.total = torch.from_numpy(self.total), None
        gram = gram.triu_().add_(gram.triu(1).T)
        # centring it on both sides is the same as centring the features
        gram = gram.sub_(gram.mean(0)).sub_(gram.mean(1, keepdim=True))
        self.dead = bool(float(gram.diagonal().max()) <= self.features * (DEAD * self.eps * self.size) ** 2)
        n = len(gram)
        if unbiased:
            gram.fill_diagonal_(0)
            sums = gram.sum(1, keepdim=True)
            gram = gram - sums / (n - 2) - sums.T / (n - 2) + gram.sum() / ((n - 1) * (n - 2))
            gram.fill_diagonal_(0)
        once, twice = gram.diagonal(), gram[*torch.triu_indices(n, n, 1)]
        return torch.cat([once, twice.mul_(2**0.5)])


def _compared(a, b, unbiased):
    """CKA from the kernels of one network and of the other; NaN for dead layers."""
    flat_a = torch.stack([kernel.vector(unbiased) for kernel in a.values()])
    flat_b = flat_a if b is a else torch.stack([kernel.vector(unbiased) for kernel in b.values()])
    dead_a, dead_b = (tuple(name for name, kernel in each.items() if kernel.dead) for each in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = (flat_a @ flat_b.T).numpy() / np.outer(flat_a.norm(dim=1), flat_b.norm(dim=1))
    matrix[[name in dead_a for name in a]] = np.nan
    matrix[:, [name in dead_b for name in b]] = np.nan
    return SimilarityResult(matrix, tuple(a), tuple(b), dead_a, dead_b, next(iter(a.values())).count)


class _Relus(TorchFunctionMode):
    """Hands over the result of every ReLU, and of modules that are asked for, as it is made."""

    def __init__(self, model, take, layers):
        super().__init__()
        self.take, self.path, self.calls = take, [], Counter()
        self.names = {module: name for name, module in model.named_modules()}
        self.asked = {name.partition("#")[0] for name in layers or ()}

    def enter(self, module, _):
        self.path.append(module if module in self.names else self.path[-1])  # of no name: as its caller

    def leave(self, module, _, output):
        self.path.pop()
        name = self.names.get(module)
        if name in self.asked and not isinstance(module, torch.nn.ReLU) and isinstance(output, torch.Tensor):
            self.made(name, output)

    def made(self, label, result):
        self.calls[label] += 1
        self.take(label if self.calls[label] == 1 else f"{label}#{self.calls[label]}", result)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("relu", "relu_"):
            label = self.names.get(self.path[-1], "")
            is_module = isinstance(self.path[-1], torch.nn.ReLU)
            self.made(label if is_module else f"{label}.relu".lstrip("."), result)
        return result


def _run(model, images, take, layers):
    """One batch through a network; every layer is handed over."""
    relus, inputs = _Relus(model, take, layers), model_inputs(model, images, next(model.parameters()).device)
    with (
        register_module_forward_pre_hook(relus.enter), register_module_forward_hook(relus.leave, always_call=True),
        evaluation_mode(model), torch.no_grad(), relus,
    ):  # fmt: skip
        model(inputs)


def _sizes(model, images, layers):
    """{layer: its features}, of those that are asked for, in the order of execution."""
    every = {}
    _run(model, images[:1], lambda name, x: every.update({name: x[0].numel()}), layers)
    if not every:
        raise ValueError(f"{type(model).__name__} has no ReLU; name modules as layers")
    for name in layers or ():
        if name not in every:
            raise ValueError(f"no layer {name!r}; expected names of modules, or some of {', '.join(every)}")
    return {name: size for name, size in every.items() if layers is None or name in layers}


def _passes(sizes, room):
    """{layer: slice of its features} for each pass over the images, none needing more features than `room`."""
    starts = dict(zip(sizes, itertools.accumulate(sizes.values(), initial=0), strict=False))
    for begin in range(0, sum(sizes.values()), room):
        parts = {name: (max(0, begin - at), min(sizes[name], begin + room - at)) for name, at in starts.items()}
        yield {name: slice(*part) for name, part in parts.items() if part[0] < part[1]}


def _kernels(model, images, layers, batch_size):
    count, sizes = len(images), _sizes(model, images, layers)
    kernels, dtype = {name: _Kernel(count) for name in sizes}, next(model.parameters()).dtype
    if batch_size is None:  # all at once, if the maps fit: a residual network has up to four of them at a time
        batch_size = count if 16 * count * max(sizes.values()) <= MAX_GIB * 2**30 else 250
    if count <= batch_size:  # every layer is whole in one batch: nothing has to be held
        _run(model, images, lambda name, x: kernels[name].add(x.flatten(1)) if name in kernels else None, layers)
        return kernels
    for parts in _passes(sizes, max(1, int(MAX_GIB * 2**30 / (4 * count)))):
        held = {name: torch.empty(count, part.stop - part.start, dtype=dtype) for name, part in parts.items()}
        for begin in range(0, count, batch_size):

            def take(name, x, begin=begin, parts=parts, held=held):
                if name in parts:  # copied at once: the next layer may work in place
                    held[name][begin : begin + len(x)] = x.flatten(1)[:, parts[name]]

            _run(model, images[begin : begin + batch_size], take, layers)
        for name, features in held.items():
            kernels[name].add(features)
    return kernels


def layer_similarity(model_a, model_b, images, *, layers=None, unbiased=False, batch_size=None):
    """Linear CKA between all layers of two networks on the same images.

    Args:
        model_a: Network; not changed.
        model_b: Network, or the same one; not changed.
        images: As in `rfkit.training.loss_and_accuracy`.
        layers: ``None`` for the output of every ReLU, module or function; or a list of names, of these or of any
            modules. A module that runs twice gives two layers, the second one named ``name#2``.
        unbiased: As in `linear_cka`.
        batch_size: Images at a time; the result does not depend on it. ``None`` for all at once where they fit.

    Returns:
        `SimilarityResult`, on features as they are (no averaging over places), to 1e-6.

    Raises:
        ValueError: If there are too few images, a name is unknown, or there is no layer.

    Source: Paper Sec. 3.3, Figure 3; Kornblith et al. (2019), Sec. 3.
    """
    least = 4 if unbiased else 2
    if len(images) < least:
        raise ValueError(f"{len(images)} images; expected at least {least}")
    named = isinstance(layers, list | tuple | set) and layers and all(isinstance(name, str) for name in layers)
    if layers is not None and not named:
        raise ValueError(f"layers is {layers!r}; expected None (every ReLU) or a list of names")
    if batch_size is not None:
        whole("batch_size", batch_size, 1)
    a = _kernels(model_a, images, layers, batch_size)
    b = a if model_b is model_a else _kernels(model_b, images, layers, batch_size)
    return _compared(a, b, unbiased)
