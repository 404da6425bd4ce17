"""Receptive fields of any network: by the formula, by tracing, by gradients, and the effective ones."""

import itertools
import math
from dataclasses import dataclass, field, replace
from numbers import Real

import torch

from rfkit.config import whole
from rfkit.receptive_field import gradients, tracing
from rfkit.receptive_field.gradients import EffectiveField, weights_on_a_path
from rfkit.receptive_field.layout import image_state, merged
from rfkit.receptive_field.tracing import UnsupportedOperation

__all__ = [
    "EffectiveField",
    "Field",
    "UnsupportedOperation",
    "closed_form",
    "effective",
    "measured",
    "receptive_field",
    "trace",
    "weights_on_a_path",
]
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

    def span(self, axis, unit):
        """What one unit sees along one axis."""
        if not self.axes:
            raise ValueError(f"{self.name} was not traced; spans of single units come with rfkit.receptive_field.trace")
        return self.axes[axis].at(unit)


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

    Source:
        ECE C147 homework 5, question 1(d), with dilation added.
    """
    kernels, strides = list(kernels), list(strides)
    dilations = [1] * len(kernels) if dilations is None else list(dilations)
    if not len(kernels) == len(strides) == len(dilations):
        raise ValueError(
            f"{len(kernels)} kernels, {len(strides)} strides, {len(dilations)} dilations; expected one of each a layer"
        )
    for name, values in (("kernel", kernels), ("stride", strides), ("dilation", dilations)):
        for value in values:
            whole = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
            if not whole or int(value) != value or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
    jumps = itertools.accumulate(map(int, strides[:-1]), lambda a, b: a * b, initial=1)
    growth = ((int(m) - 1) * int(d) * jump for m, d, jump in zip(kernels, dilations, jumps, strict=bool(kernels)))
    return list(itertools.accumulate(growth, initial=1))[1:]


def trace(model, input_shape=(3, 64, 64), *, follow_statistics=False):
    """The receptive field of every spatial tensor of a network, by what really runs.

    The forward pass runs once, in the model's own mode, on tensors that have shapes and no data: it costs
    neither weights nor arithmetic, and sees functional calls, re-used modules and branches. The model is not
    touched.

    Args:
        model: Any `nn.Module`.
        input_shape: Channels and spatial size (one to three dimensions) of one input.
        follow_statistics: Count group, instance and training-mode batch norm as seeing the whole image, which
            they do through their statistics. By default only their elementwise part counts.

    Returns:
        List of `Field` in execution order, one for every module or operation with a spatial result.

    Raises:
        UnsupportedOperation: If an operation has no rule; names it and its module.
        ValueError: If the shape is not (channels, height, width) of positive whole numbers, or the network fails on
            such images.

    Source:
        Araujo, Norris and Sim, Distill 2019, Eq. 2-7, extended to phases; see `rfkit.receptive_field.rules`.
    """
    shape = _checked_shape(input_shape)
    names, records, counts = {id(module): name for name, module in model.named_modules() if name}, [], {}
    running: list[tuple] = []

    def enter(module, _):
        path = names.get(id(module))
        if path is not None:
            counts[path] = counts.get(path, 0) + 1
            label = path if counts[path] == 1 else f"{path}#{counts[path]}"
            running.append((label, not any(True for _ in module.children()), counts[path]))

    def leave(module, *_):
        if id(module) in names:
            running.pop()

    def emit(operation, _, state):
        label, is_leaf, call = running[-1] if running else ("", False, 1)
        key = (label, call) if is_leaf and label else None
        name = label if is_leaf and label else f"{label}.{operation}".lstrip(".")
        made = _field(name, operation, state, shape[1:])
        if key is not None and records and records[-1][0] == key:
            records.pop()  # a module of several operations is one entry, its last
        records.append((key, made))

    recorder = tracing.Recorder(follow_statistics, lambda: running[-1][0] if running else "", emit)
    hooks = [
        torch.nn.modules.module.register_module_forward_pre_hook(enter),
        torch.nn.modules.module.register_module_forward_hook(leave, always_call=True),
    ]
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    stand_ins = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.get_default_dtype())
    # two images: batch norm in training mode refuses a single value a channel
    image = torch.empty(2, *shape, device="meta", dtype=dtype)
    image._rf_state = image_state(shape)
    try:
        with torch.no_grad(), tracing.failing_on(shape), recorder:
            torch.func.functional_call(model, stand_ins, (image,))
    finally:
        for hook in hooks:
            hook.remove()
    return _distinct([made for _, made in records])


def receptive_field(model, input_shape=(3, 64, 64), layer=None):
    """The receptive field of one layer of a network.

    Args:
        model: Any `nn.Module`.
        input_shape: As in `trace`.
        layer: Name of a `Field` of `trace`, or of a module (its last map is meant); by default the last
            feature map before global pooling.

    Returns:
        `Field`.

    Raises:
        ValueError: If there is no such layer; the message lists those there are.
    """
    return _pick(trace(model, input_shape), layer)


def _pick(fields, layer, call=None):
    """The field of a layer, or the last one within it; of one of its calls, or of the last."""
    if layer is None:
        if not fields:
            raise ValueError("the model makes no spatial feature map")
        pools = [i for i, each in enumerate(fields) if _is_global_pool(each, fields)]
        if pools:
            pool, *after = fields[pools[-1] :]
            if all((each.size, each.shape) == (pool.size, pool.shape) for each in after):
                return fields[max(0, pools[-1] - 1)]  # what follows works on the single pixel it leaves
        return fields[-1]
    exact = [each for each in fields if each.name == layer]
    inside = [each for each in fields if each.name.startswith(f"{layer}.")]
    if call is not None:
        number = "" if call == 1 else str(call)
        label = f"{layer}#{call}" if number else layer
        exact = [each for each in fields if each.name == label]
        of_call = [each for each in inside if each.name.partition("#")[2] == number]
        inside = of_call + [each for each in fields if number and each.name.startswith(f"{label}.")] or inside
    if not exact and not inside:
        names = ", ".join(each.name for each in fields)
        raise ValueError(f"no layer {layer!r} with a spatial map; expected one of: {names}")
    return (exact or inside)[-1]


def _is_global_pool(each, fields):
    """Whether a field is that of a pooling window over the whole of a larger map."""
    before = fields[max(fields.index(each) - 1, 0)]
    return "pool" in each.operation and set(each.shape) == {1} and max(before.shape, default=1) > 1


def _checked_shape(shape):
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not 2 <= len(shape) <= 4 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in shape):
        raise ValueError(f"input_shape is {shape!r}; expected (channels, height, width), such as (3, 64, 64)")
    return shape


def _field(name, operation, state, image_size):
    state, size, stride, center, shape = merged(state), [], [], [], []
    for axis, axis_map in enumerate(state.maps):
        phase, low, high = axis_map.largest
        dim = state.dim_of(axis)
        endless = not (math.isfinite(low) and math.isfinite(high))
        nothing = high < low
        size.append(0 if nothing else math.inf if endless else high - low + 1)
        stride.append(axis_map.stride)
        middle = (image_size[axis] - 1) / 2 if endless else (low + high) / 2 - phase * axis_map.stride
        center.append(_whole_if_possible(middle))
        shape.append(1 if dim is None else math.prod(n for n, a in state.dims[dim] if a == axis))
    if 0 in size:  # what sees no row sees no column either
        size = [0] * len(size)
    aligned = all(axis_map.aligned for axis_map in state.maps)
    noted = any(axis_map.statistics for axis_map in state.maps)
    return Field(
        name, tuple(size), tuple(stride), tuple(center), tuple(shape), aligned, noted,
        operation=operation, axes=state.maps,
    )  # fmt: skip


def _whole_if_possible(number):
    return int(number) if number == int(number) else number


def _distinct(fields):
    """Operations of one module that would share a name are counted."""
    seen, result = {}, []
    for each in fields:
        seen[each.name] = seen.get(each.name, 0) + 1
        again = seen[each.name] > 1
        result.append(replace(each, name=f"{each.name}#{seen[each.name]}") if again else each)
    return result


def measured(model, layer=None, input_shape=None):
    """The receptive field by gradients, for a check that shares nothing with `trace` but the layer names.

    A float64 copy gets positive weights and linear stand-ins for what is not linear (max-pool becomes mean), so
    the gradient of a unit is positive exactly at the pixels the unit depends on. Units around the middle of the
    map are looked at, the largest field counts.

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
    first = next((module for module in model.modules() if isinstance(module, torch.nn.modules.conv._ConvNd)), None)
    begin = (3, 64, 64) if first is None else (first.in_channels, *[64] * len(first.kernel_size))
    shape = _checked_shape(input_shape or begin)
    name, call = _module_of(model, layer, shape)
    double = gradients.positive_copy(model)
    size, stride, center, units, clipped = [], [], [], [], False
    for axis in range(len(shape) - 1):
        grown = list(shape)
        before = None
        while True:
            middle, _, cut = _supports(double, name, call, grown, axis, span=0)
            (seen,) = middle.values()
            extent = 0 if seen is None else seen[1] - seen[0] + 1
            # twice the same in a growing image: neither the border nor padding inside the network cuts it
            if input_shape is not None or (not cut and extent == before) or 2 * grown[1 + axis] > LARGEST_IMAGE:
                break
            before = None if cut else extent
            grown[1 + axis] *= 2
        with_image = input_shape is None and not cut and extent != before  # as under an adaptive pool
        found, count, cut = _supports(double, name, call, shape if with_image else grown, axis)
        cut = cut and not with_image
        extents = {unit: 0 if seen is None else seen[1] - seen[0] + 1 for unit, seen in found.items()}
        largest = max(extents.values())
        first = next(unit for unit, extent in extents.items() if extent == largest)
        step = gradients.step_of({u: found[u][0] for u, extent in extents.items() if extent == largest > 0})
        size.append(math.inf if cut and input_shape is None else largest)
        stride.append(_whole_if_possible(step) if step == step else step)
        middle = sum(found[first]) / 2 - first * step if largest else math.nan
        center.append(_whole_if_possible(middle) if middle == middle else middle)
        clipped |= cut
        units.append(count)
    return Field(name, tuple(size), tuple(stride), tuple(center), tuple(units), clipped=clipped)


def _supports(model, name, call, shape, axis, **options):
    """`gradients.supports`, and whether the border of the image cuts any of them."""
    found, count = gradients.supports(model, name, call, tuple(shape), axis, **options)
    ends = (0, shape[1 + axis] - 1)
    return found, count, any(seen is not None and (seen[0] == ends[0] or seen[1] == ends[1]) for seen in found.values())


def _module_of(model, layer, shape):
    """(path, call) of the module a layer name stands for."""
    modules = dict(model.named_modules())
    if layer is None and len(modules) == 1:  # a single layer is its own model
        return "", 1
    if layer is None:
        layer = _module_of_last(model, trace(model, shape), shape, modules)
    path, _, call = layer.partition("#")
    if path not in modules or (call and not call.isdigit()):
        raise ValueError(f"no module {layer!r}; gradients are taken at modules: {', '.join(n for n in modules if n)}")
    return path, int(call or 1)


def _module_of_last(model, fields, shape, modules):
    """The module that makes the last feature map, itself or by an operation in it, as a concatenation."""
    last = _pick(fields, None)
    if last.name.partition("#")[0] in modules:
        return last.name
    inside = last.name.rpartition(".")[0]
    double = gradients.positive_copy(model)
    with torch.no_grad():
        output = gradients.output_of(double, inside, 1, torch.ones(1, *shape, dtype=torch.float64))
    if tuple(output.shape[2:]) == last.shape:
        return inside
    alike = [f.name for f in fields if (f.size, f.center, f.shape) == (last.size, last.center, last.shape)]
    found = [name for name in alike if name.partition("#")[0] in modules]
    if not found:
        raise ValueError(f"the last feature map comes from operation {last.name!r}, no module returns it; name a layer")
    return found[-1]


def effective(model, layer=None, input_size=64, repeats=50, seed=0, images=None):
    """The effective receptive field of the middle unit of a layer, over random images or given ones.

    Args:
        model: Any `nn.Module` with weights; used in evaluation mode, not changed.
        layer: As in `measured`.
        input_size: Height and width of the images, in pixels; or their channels, height and width.
        repeats: Number of Gaussian images averaged over.
        seed: Their seed.
        images: Normalised images (N, C, H, W) averaged over instead; the three arguments above are then not used.

    Returns:
        `EffectiveField`.

    Raises:
        ValueError: If there is no such layer, or `repeats` is below 1.

    Source:
        Luo et al. (2016): gradient of one unit, one in every channel, averaged over random inputs.
    """
    whole("repeats", repeats, 1)
    if images is None:
        shape = _checked_shape(input_size if isinstance(input_size, tuple | list) else (3, input_size, input_size))
        images = torch.randn(repeats, *shape, generator=torch.Generator().manual_seed(seed))
    else:
        repeats, *shape = images.shape
        shape, seed = _checked_shape(tuple(shape)), None
    name, call = _module_of(model, layer, shape)
    pattern = gradients.mean_pattern(model, name, call, images).numpy()
    label = name if call == 1 else f"{name}#{call}"
    return EffectiveField(label, pattern, _pick(trace(model, shape), name or None, call).size, repeats, seed)
