"""Similarity of representations: linear centred kernel alignment between the layers of two networks."""

import itertools
import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import blas
from torch.overrides import TorchFunctionMode

from rfkit.config import whole
from rfkit.training import evaluation_mode, model_inputs

RELUS = ("relu", "relu_")
ADDS = ("add", "__add__", "add_", "__iadd__")
DEAD = 8
"""Features that vary less than this many roundings of their own type do not vary at all."""
CHUNK = 4096
"""Features in one product, so few that float32 keeps CKA to 1e-6."""


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

    def diagonal(self, share=1.0):
        """Mean similarity of each layer to the same layer of the other network, live layers only."""
        if self.matrix.shape[0] != self.matrix.shape[1]:
            return float("nan")
        if not 0 < share <= 1:
            raise ValueError(f"share is {share!r}; expected a share of the layers, above 0 and up to 1")
        values = np.diagonal(self.matrix)[len(self.matrix) - math.ceil(round(share * len(self.matrix), 9)) :]
        values = values[np.isfinite(values)]
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

    Source:
        Kornblith et al. (2019), Sec. 3; unbiased: Song et al. (2012), Eq. 5, as in Nguyen et al. (2021).
    """
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    least = 4 if unbiased else 2
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y) or len(x) < least or 0 in (*x.shape, *y.shape):
        raise ValueError(
            f"features have shapes {tuple(x.shape)} and {tuple(y.shape)}; expected (n, p) and (n, q), n ≥ {least}"
        )
    kernels = [_Kernel(len(x)), _Kernel(len(x))]
    for kernel, features in zip(kernels, (x, y), strict=True):
        kernel.add(features)
    a, b = _vectors(kernels, unbiased)
    for name, kernel in zip("xy", kernels, strict=True):
        if kernel.dead:
            warnings.warn(f"the features of {name} do not vary over the images", DeadFeaturesWarning, stacklevel=2)
    return math.nan if any(k.dead for k in kernels) else float(a @ b / (a.square().sum() * b.square().sum()).sqrt())


class _Kernel:
    """Gram matrix (n, n) of centred features, summed in float64 over parts of the features."""

    def __init__(self, count):
        self.total, self.features = np.zeros((count, count), order="F"), 0
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


def _vectors(kernels, unbiased):
    return torch.stack([kernel.vector(unbiased) for kernel in kernels])


class _Layers(TorchFunctionMode):
    """Hands over the result of every ReLU, and of additions of two maps and of modules if asked, as it is made."""

    def __init__(self, model, take, layers):
        super().__init__()
        self.take, self.adds = take, layers is not None
        self.modules = set() if layers is None or layers == "all" else {name.partition("#")[0] for name in layers}
        self.path, self.calls = [], {}
        self.names = {module: name for name, module in model.named_modules()}
        self.hooks = []
        for module in self.names:
            self.hooks.append(module.register_forward_pre_hook(self._enter))
            self.hooks.append(module.register_forward_hook(self._leave, always_call=True))

    def _enter(self, module, inputs):
        self.path.append(module)

    def _leave(self, module, inputs, output):
        self.path.pop()
        name = self.names[module]
        if name in self.modules and not isinstance(module, torch.nn.ReLU) and isinstance(output, torch.Tensor):
            self._made(name, output)

    def _made(self, label, result):
        self.calls[label] = count = self.calls.get(label, 0) + 1
        self.take(label if count == 1 else f"{label}#{count}", result)

    def remove(self):
        for hook in self.hooks:
            hook.remove()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result, name = func(*args, **(kwargs or {})), getattr(func, "__name__", "")
        is_add = self.adds and name in ADDS and all(isinstance(a, torch.Tensor) and a.dim() > 1 for a in args[:2])
        if name in RELUS or is_add:
            module = self.path[-1] if self.path else None
            label = self.names.get(module, "")
            if not isinstance(module, torch.nn.ReLU):
                label = ".".join(part for part in (label, "add" if is_add else "relu") if part)
            self._made(label, result)
        return result


def _run(model, images, begin, end, take, layers):
    """One batch through a network; every layer is handed over."""
    watched = _Layers(model, take, layers)
    try:
        with evaluation_mode(model), torch.no_grad(), watched:
            model(model_inputs(model, images[begin:end], next(model.parameters()).device))
    finally:
        watched.remove()


def _chosen(model, found, layers):
    """Those of the layers found that are asked for."""
    if not found:
        raise ValueError(f"{type(model).__name__} has no ReLU and no addition of two maps; name modules as layers")
    if isinstance(layers, str) or layers is None:
        return found
    missing = [name for name in layers if name not in found]
    if missing:
        raise ValueError(f"no layer {missing[0]!r}; expected names of modules, or some of {', '.join(found)}")
    return {name: found[name] for name in found if name in set(layers)}


def _check(layers):
    names = isinstance(layers, list | tuple | set) and layers and all(isinstance(name, str) for name in layers)
    if layers not in (None, "all") and not names:
        raise ValueError(f"layers is {layers!r}; expected None (every ReLU), 'all' or a list of names")


def _passes(sizes, room):
    """{layer: slice of its features} for each pass over the images, none needing more features than `room`."""
    starts = dict(zip(sizes, itertools.accumulate(sizes.values(), initial=0), strict=False))
    for begin in range(0, sum(sizes.values()), room):
        parts = {name: (max(0, begin - at), min(sizes[name], begin + room - at)) for name, at in starts.items()}
        yield {name: slice(*part) for name, part in parts.items() if part[0] < part[1]}


def _kernels(model, images, layers, batch_size, max_gib):
    _check(layers)
    count = len(images)
    if batch_size is not None and count <= whole("batch_size", batch_size, 1):
        return _kernels_of_batch(model, images, layers)
    every = {}  # layer to features of one image, in the order of execution
    _run(model, images, 0, 1, lambda name, x: every.update({name: x[0].numel()}), layers)
    sizes = _chosen(model, every, layers)
    if batch_size is None:  # all at once, if the maps fit: a residual network has up to four of them at a time
        if 16 * count * max(every.values()) <= max_gib * 2**30:
            return _kernels_of_batch(model, images, layers)
        batch_size = 250
    kernels = {name: _Kernel(count) for name in sizes}
    room = max(1, int(max_gib * 2**30 / (4 * count)))
    dtype = next(model.parameters()).dtype
    for parts in _passes(sizes, room):
        held = {name: torch.empty(count, part.stop - part.start, dtype=dtype) for name, part in parts.items()}
        for begin in range(0, count, batch_size):

            def take(name, x, begin=begin, parts=parts, held=held):
                if name in parts:  # copied at once: the next layer may work in place
                    held[name][begin : begin + len(x)] = x.flatten(1)[:, parts[name]]

            _run(model, images, begin, begin + batch_size, take, layers)
        for name, features in held.items():
            kernels[name].add(features)
    return kernels


def _kernels_of_batch(model, images, layers):
    """Every layer is whole in one batch: nothing has to be held."""
    kernels, wanted = {}, None if isinstance(layers, str) or layers is None else set(layers)

    def take(name, x):
        kernels[name] = None  # a layer that is there and not asked for
        if wanted is None or name in wanted:
            kernels[name] = _Kernel(len(images))
            kernels[name].add(x.flatten(1))

    _run(model, images, 0, len(images), take, layers)
    return _chosen(model, kernels, layers)


def layer_similarity(model_a, model_b, images, *, layers=None, unbiased=False, batch_size=None, max_gib=4.0):
    """Linear CKA between all layers of two networks on the same images.

    Args:
        model_a: Network; not changed.
        model_b: Network, or the same one; not changed.
        images: As in `rfkit.training.loss_and_accuracy`.
        layers: ``None`` for the output of every ReLU, module or function; ``"all"`` for additions of two maps as well;
            or a list of names, of these or of any modules. A module that runs twice gives two layers, the second one
            named ``name#2``.
        unbiased: As in `linear_cka`.
        batch_size: Images at a time; the result does not depend on it. ``None`` for all at once where `max_gib` allows.
        max_gib: Features held at a time; what does not fit is made in another pass over the images.

    Returns:
        `SimilarityResult`, on features as they are (no averaging over places), to 1e-6.

    Raises:
        ValueError: If there are too few images, a name is unknown, or there is no layer.

    Source:
        Paper Sec. 3.3, Figure 3; Kornblith et al. (2019), Sec. 3.
    """
    least = 4 if unbiased else 2
    if len(images) < least:
        raise ValueError(f"{len(images)} images; expected at least {least}")
    return _compared(model_a, model_b, [images], layers, unbiased, batch_size, max_gib)


def minibatch_similarity(model_a, model_b, images, *, layers=None, batch_size=250, max_gib=4.0):
    """`layer_similarity` for more images than an (n, n) matrix allows, by averaging over batches.

    Source: Nguyen et al. (2021), Eq. 3.
    """
    if min(batch_size, len(images)) < 4:
        raise ValueError(f"batches of {min(batch_size, len(images))} images; expected at least 4")
    parts = (images[begin : begin + batch_size] for begin in range(0, len(images), batch_size))
    parts = [part for part in parts if len(part) >= 4]
    return _compared(model_a, model_b, parts, layers, True, batch_size, max_gib)


def _compared(model_a, model_b, parts, layers, unbiased, batch_size, max_gib):
    """Means over parts of the images; a layer is dead that is so in every part."""
    cross, own_a, own_b, dead = 0, 0, 0, None
    for part in parts:
        a = _kernels(model_a, part, layers, batch_size, max_gib)
        b = a if model_b is model_a else _kernels(model_b, part, layers, batch_size, max_gib)
        flat_a = _vectors(a.values(), unbiased)
        flat_b = flat_a if b is a else _vectors(b.values(), unbiased)
        weight = 1 / (len(part) * (len(part) - 3)) if unbiased else 1  # as in the estimate itself
        cross = cross + weight * (flat_a @ flat_b.T).numpy()
        own_a, own_b = (own + weight * flat.square().sum(1).numpy() for own, flat in ((own_a, flat_a), (own_b, flat_b)))
        here = tuple({name for name, kernel in each.items() if kernel.dead} for each in (a, b))
        dead = here if dead is None else tuple(old & new for old, new in zip(dead, here, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        matrix = cross / np.sqrt(np.outer(own_a, own_b))
    matrix[[name in dead[0] for name in a]] = np.nan
    matrix[:, [name in dead[1] for name in b]] = np.nan
    dead_a, dead_b = (tuple(n for n in each if n in gone) for each, gone in zip((a, b), dead, strict=True))
    return SimilarityResult(matrix, tuple(a), tuple(b), dead_a, dead_b, sum(map(len, parts)))
