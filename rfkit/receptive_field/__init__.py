"""Receptive fields of any network: by the formula, by tracing, by gradients, and the effective ones."""

import itertools
import math
import operator
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from rfkit.config import whole
from rfkit.receptive_field import gradients, tracing
from rfkit.receptive_field.gradients import EffectiveField, weights_on_a_path
from rfkit.receptive_field.layout import TOKENS, image_state, merged
from rfkit.receptive_field.tracing import UnsupportedOperation

__all__ = [
    "EffectiveField", "Field", "UnsupportedOperation", "closed_form", "effective", "measured", "receptive_field",
    "trace", "weights_on_a_path",
]  # fmt: skip
LARGEST_IMAGE = 4096  # pixels; a field that still fills an image of this size is called endless


@dataclass(frozen=True)
class Field:
    """What one unit of a feature map sees. Sizes, strides and centres are in input pixels, (height, width)."""

    #: Path of the module that made the map; ``#2`` and so on where it ran again, and ``.operation`` for what a module
    #: does between its children.
    name: str
    #: Extent of the field; `math.inf` where the whole image is seen, 0 where nothing is. Where fields depend on the
    #: unit's phase (transposed convolution), the largest.
    size: tuple
    stride: tuple  #: Distance between the fields of neighbouring units.
    #: Centre of the field of the first unit, reckoned back by the stride from a unit with that size; below 0 when
    #: padding reaches beyond the image.
    center: tuple
    shape: tuple = ()  #: Height and width of the map, in units.
    #: False where branches of different stride or centre were joined; `size` is then the extent of their union.
    aligned: bool = True
    #: True where a normalisation on the way took statistics over the image (group and instance norm, batch norm in
    #: training mode), which see all of it and are not counted in `size`.
    statistics: bool = False
    clipped: bool = False  #: True where the image ended before the field did (only `measured` can meet this).
    operation: str = ""  #: The operation that made the map.
    #: The `rfkit.receptive_field.rules.Axis` of each axis, by `trace` only.
    axes: tuple = field(default=(), repr=False, compare=False)


def closed_form(kernels, strides, dilations=None):
    """Receptive field after each layer of a chain.

    Args:
        kernels: Kernel size of each layer.
        strides: Stride of each layer.
        dilations: Dilation of each layer; 1 by default.

    Returns:
        List of sizes in input pixels, as exact integers: ``1 + sum_j (m_j - 1) d_j prod_{i<j} s_i``.

    Raises:
        ValueError: If the lists differ in length or hold anything but positive whole numbers.

    Source: ECE C147 homework 5, question 1(d), with dilation added.
    """
    kernels, strides = list(kernels), list(strides)
    dilations = [1] * len(kernels) if dilations is None else list(dilations)
    if not len(kernels) == len(strides) == len(dilations):
        counts = f"{len(kernels)} kernels, {len(strides)} strides, {len(dilations)} dilations"
        raise ValueError(f"{counts}; expected one of each per layer")
    for name, values in (("kernel", kernels), ("stride", strides), ("dilation", dilations)):
        for value in values:
            whole(name, int(value) if isinstance(value, float) and value.is_integer() else value, 1)
    jumps = itertools.accumulate(map(int, strides), operator.mul, initial=1)  # exact, whatever numpy's ints hold
    growth = ((int(m) - 1) * int(d) * jump for m, d, jump in zip(kernels, dilations, jumps, strict=False))
    return list(itertools.accumulate(growth, initial=1))[1:]


def trace(model, input_shape=(3, 64, 64), *, follow_statistics=False):
    """The receptive field of every spatial tensor of a network, by what really runs.

    The forward pass runs once, in the model's own mode, on tensors that have shapes and no data: it costs neither
    weights nor arithmetic, and sees functional calls, re-used modules and branches. The model is not touched.

    Args:
        model: Any `nn.Module`.
        input_shape: Channels and spatial size (one to three dimensions) of one input.
        follow_statistics: Count group, instance and training-mode batch norm as seeing the whole image, which
            they do through their statistics. By default only their elementwise part counts.

    Returns:
        List of `Field` in execution order, one for every module or operation with a spatial result. Positions that
        follow after the image was seen whole, as in a decoder, see all of it: their size is infinite.

    Raises:
        UnsupportedOperation: If an operation has no rule; names it and its module.
        ValueError: If the model is no `nn.Module`, the shape is not (channels, height, width) of positive whole
            numbers, or the network fails on such images.

    Source: Araujo, Norris and Sim, Distill 2019, Eq. 2-7, extended to phases; see `rfkit.receptive_field.rules`.
    """
    return _traced(model, _checked_shape(input_shape), follow_statistics)[0]


def _traced(model, shape, follow_statistics=False):
    """(what `trace` returns, {module that returns a map, with the number of its call: the `Field` of that map})."""
    names, counts = {module: name for name, module in _network(model).named_modules()}, Counter()
    fields, returned, running = [], {}, []  # the last: (label, is a leaf, fields before) of calls under way

    def numbered(name):
        counts[name] += 1
        return name if counts[name] == 1 else f"{name}#{counts[name]}"

    def enter(module, _):
        if module in names:
            label = numbered(names[module])
            running.append((label, bool(label) and not list(module.children()), len(fields)))

    def leave(module, _, output):
        if module in names:
            label, _, before = running.pop()
            if len(fields) > before and getattr(output, "shape", ())[2:] == fields[-1].shape:
                returned[label] = fields[-1]

    def emit(operation, state):
        label, is_leaf, before = running[-1]
        if is_leaf:
            del fields[before:]  # a module of several operations is one entry, its last
        name = label if is_leaf else numbered(f"{label}.{operation}".lstrip("."))
        fields.append(_field(name, operation, state, shape[1:]))

    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    stand_ins = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    # two images: batch norm in training mode refuses a single value per channel
    image = torch.empty(2, *shape, device="meta", dtype=dtype)
    image._rf_state = image_state(shape)
    recorder = tracing.Recorder(follow_statistics, shape[1:], lambda: running[-1][0], emit)
    try:
        with (
            register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True),
            torch.no_grad(), recorder,
        ):  # fmt: skip
            torch.func.functional_call(model, stand_ins, (image,))
    except UnsupportedOperation:
        raise
    except (RuntimeError, IndexError, AssertionError) as error:  # the last: how some networks refuse an image
        reason = str(error).partition("\n")[0]  # often empty: then an assertion without words
        fix = "give the input_shape it is made for, channels and spatial size, without a batch"
        if "meta" in reason:
            fix = "tensors have no data here: keep constants as buffers (register_buffer) or make them on x.device, "
            fix += "and let no value decide what is computed"
        raise ValueError(f"the network fails on images of shape {shape}: {reason}; {fix}") from error
    return fields, returned


def receptive_field(model, input_shape=(3, 64, 64), layer=None):
    """The receptive field of one layer of a network, as a `Field`.

    Args:
        model: Any `nn.Module`.
        input_shape: As in `trace`.
        layer: Name of a `Field` of `trace`, or of a module (its last map is meant; ``#2`` for its second call), or its
            number in an `nn.Sequential`; by default the last feature map before global pooling.

    Raises:
        ValueError: If there is no such layer; the message lists those there are.
    """
    fields, returned = _traced(model, _checked_shape(input_shape))
    if layer is None:
        return _last(fields)
    layer, named = str(layer), returned | {each.name: each for each in fields}
    found = named.get(layer) or next((each for each in reversed(fields) if each.name.startswith(f"{layer}.")), None)
    if found is None:
        names = ", ".join(each.name for each in fields)
        raise ValueError(f"no layer {layer!r} with a spatial map; expected one of: {names}")
    return found


def _last(fields):
    """The field of the last feature map before global pooling, a window over the whole of a larger map."""
    if not fields:
        raise ValueError("the model makes no spatial feature map")
    pools = [
        i for i, (before, each) in enumerate(itertools.pairwise(fields))
        if "pool" in each.operation and set(each.shape) == {1} and max(before.shape) > 1
    ]  # fmt: skip
    if pools:
        last, pool, *after = fields[pools[-1] :]
        if all((each.size, each.shape) == (pool.size, pool.shape) for each in after):
            return last  # what follows works on the single pixel it leaves
    return fields[-1]


def _network(model):
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"model is {model!r}; expected an nn.Module")
    return model


def _checked_shape(shape):
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not 2 <= len(shape) <= 4 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
        shape = type(shape[0]).__name__ if isinstance(shape[0], torch.Tensor) else shape
        raise ValueError(f"input_shape is {shape!r}; expected (channels, height, width), such as (3, 64, 64)")
    return shape


def _field(name, operation, state, image_size):
    state, size, center, shape = merged(state), [], [], []
    for axis, (seen, side) in enumerate(zip(state.maps, image_size, strict=True)):
        phase, low, high = seen.largest
        size.append(max(0, high - low + 1))  # 0 for what sees nothing
        center.append(_short((side - 1) / 2 if math.isinf(low) else (low + high) / 2 - phase * seen.stride))
        dim = state.dim_of(axis)
        shape.append(1 if dim is None else math.prod(n for n, a in state.dims[dim] if a == axis))
    if 0 in size:  # what sees no row sees no column either
        size = [0] * len(size)
    aligned, noted = all(seen.aligned for seen in state.maps), any(seen.statistics for seen in state.maps)
    stride = tuple(seen.stride for seen in state.maps)
    return Field(
        name, tuple(size), stride, tuple(center), tuple(shape), aligned, noted, operation=operation, axes=state.maps
    )


def _short(number):
    return int(number) if number.is_integer() else number


def measured(model, layer=None, input_shape=None):
    """The receptive field by gradients, for a check that shares nothing with `trace` but the layer names.

    A float64 copy gets positive weights and linear stand-ins for what is not linear (max-pool becomes mean), so the
    gradient of a unit is positive exactly at the pixels it depends on. Of units around the middle the largest counts.

    Args:
        model: Any `nn.Module` that leaves the axes of its maps in their places; not changed.
        layer: Path of a module (``#2`` for its second call); by default the last module with a spatial map
            before global pooling.
        input_shape: Channels and spatial size of the image. By default the image has the channels and axes of the
            first convolution, starts at 64 pixels and grows along each axis until the field is not clipped, up to
            `LARGEST_IMAGE`; a field that grows with it, as under an adaptive pool, is that of 64 pixels.

    Returns:
        `Field`. With a given `input_shape` that ends before the field does, `clipped` is true and `size` is what
        is visible. A field that fills even the largest image has size `math.inf`.

    Raises:
        ValueError: If there is no such module, or it makes no map over the image.
    """
    convolutions = (m for m in _network(model).modules() if isinstance(m, torch.nn.modules.conv._ConvNd))
    first = next(convolutions, None)
    begin = (3, 64, 64) if first is None else (first.in_channels, *[64] * len(first.kernel_size))
    shape = _checked_shape(input_shape or begin)
    name, call = _module_of(model, layer, shape)
    double = gradients.positive_copy(model)
    size, stride, center, units, clipped = [], [], [], [], False
    for axis in range(len(shape) - 1):
        used, with_image = (shape, False) if input_shape else _grown(double, name, call, shape, axis)
        found, count, _ = gradients.supports(double, name, call, used, axis)
        largest, end = max(map(len, found.values())), used[1 + axis] - 1
        widest = {unit: seen for unit, seen in found.items() if len(seen) == largest > 0}
        inside = {unit: seen for unit, seen in found.items() if seen and 0 < seen[0] and seen[-1] < end}
        cut = bool(widest) and not widest.keys() & inside.keys() and not with_image
        step, period = gradients.step_of(inside if len(inside) > 1 else widest)
        first = min(widest, key=lambda unit: (unit % period, unit), default=None)  # of the first phase, as in `trace`
        size.append(math.inf if cut and input_shape is None else largest)
        stride.append(_short(step))
        center.append(math.nan if first is None else _short(sum(widest[first]) / largest - first * step))
        clipped |= cut
        units.append(count)
    return Field(name, tuple(size), tuple(stride), tuple(center), tuple(units), clipped=clipped)


def _grown(double, name, call, shape, axis):
    """An image with room for the field along an axis, or `shape` and True if the field grows with the image."""
    grown, before = list(shape), None
    while True:
        middle, _, cut = gradients.supports(double, name, call, grown, axis, span=0)
        extent = max(map(len, middle.values()))
        if not cut and extent == before:  # twice the same: neither the border nor padding inside the network cuts it
            return grown, False
        if 2 * grown[1 + axis] > LARGEST_IMAGE:
            return (grown, False) if cut else (shape, True)
        before = None if cut else extent
        grown[1 + axis] *= 2


def _module_of(model, layer, shape):
    """(path, call) of the module a layer name stands for, by default of the one that returns the last feature map."""
    modules = dict(_network(model).named_modules())
    if layer is None:
        fields, returned = _traced(model, shape)
        last = _last(fields)
        alike = [n for n, f in returned.items() if (f.size, f.center, f.shape) == (last.size, last.center, last.shape)]
        if not alike and last.operation == TOKENS:
            alike = list(returned)  # the last map before the tokens, which have no place in the image
        if not alike:
            raise ValueError(f"the last feature map comes from {last.name!r}, which no module returns; name a layer")
        made = [name for name, field in returned.items() if field is last and name]
        layer = last.name if last.name in returned else (made or alike[-1:])[0]
    path, _, call = layer.partition("#")
    if path not in modules or (call and not call.isdigit()):
        raise ValueError(f"no module {layer!r}; gradients are taken at modules: {', '.join(n for n in modules if n)}")
    return path, int(call or 1)


def effective(model, layer=None, input_size=64, repeats=50, seed=0, images=None):
    """The `EffectiveField` of the middle unit of a layer, over random images or given ones.

    Args:
        model: Any `nn.Module` with weights; used in evaluation mode, not changed.
        layer: As in `measured`.
        input_size: Height and width of the images, in pixels; or their channels, height and width.
        repeats: Number of Gaussian images averaged over.
        seed: Their seed.
        images: Normalised images (N, C, H, W) averaged over instead; the three arguments above are then not used.

    Raises:
        ValueError: If there is no such layer, or `repeats` is below 1.

    Source: Luo et al. (2016): gradient of one unit, one in every channel, averaged over random inputs.
    """
    whole("repeats", repeats, 1)
    if images is None:
        shape = input_size if isinstance(input_size, tuple | list) else (3, input_size, input_size)
        images = torch.randn(repeats, *_checked_shape(shape), generator=torch.Generator().manual_seed(seed))
    shape = _checked_shape(tuple(images.shape[1:]))
    name, call = _module_of(model, layer, shape)
    pattern = gradients.mean_pattern(model, name, call, images).numpy()
    label = name if call == 1 else f"{name}#{call}"
    return EffectiveField(label, pattern, receptive_field(model, shape, label).size)
