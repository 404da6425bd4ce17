"""Following receptive fields through what really runs, operation by operation, on tensors without data."""

import re
from dataclasses import replace
from fractions import Fraction

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rfkit.receptive_field import layout, rules
from rfkit.receptive_field.layout import NoRule, State, collapse, combine, get, plain, slid, tensors


class UnsupportedOperation(RuntimeError):
    """An operation has no rule for receptive fields; the message names it and its module."""


class Recorder(TorchDispatchMode):
    """Runs operations and carries the states along."""

    def __init__(self, follow_statistics, image, where, emit):
        super().__init__()
        self.follow_statistics, self.image, self.where, self.emit = follow_statistics, image, where, emit

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        outputs = _batch_norm_shapes(func, args) or func(*args, **kwargs)
        if any(get(t) is not None for t in tensors((args, kwargs))):
            self._carry(func, args, kwargs, outputs)
        return outputs

    def _carry(self, func, args, kwargs, outputs):
        name = func.overloadpacket.__name__
        rule = RULES.get(re.sub(r"[123]d|_$", "", name), pointwise if torch.Tag.pointwise in func.tags else None)
        if rule is None:
            self._refuse(name, "has no rule for receptive fields")
        named = dict(zip([each.name for each in func._schema.arguments], args, strict=False)) | kwargs
        try:
            states = rule(self, func, args, named, outputs)
        except NoRule as error:
            self._refuse(name, str(error))
        # of further outputs, as statistics and indices, nothing is known
        for output, state in zip(tensors(outputs), states if isinstance(states, list) else [states], strict=False):
            written = func._schema.is_mutable and get(output) != state
            if written and (output._is_view() or output.untyped_storage().nbytes() > output.nbytes):
                self._refuse(name, "writes into a part of a tensor or through a view, which has no rule")
            output._rf_state = state
            if state is not None and name not in SILENT and any(map(state.mapped, range(len(state.dims)))):
                self.emit(name, state)
            elif rule in SLIDING and 2 < 1 + len(state.maps) == output.dim() - 1 and max(output.shape[2:]) > 1:
                self.emit(name, layout.seen_whole(output.shape, self.image))

    def _refuse(self, name, why):
        raise UnsupportedOperation(f"operation {name!r} in module {self.where() or 'the model'!r} {why}")


def _batch_norm_shapes(func, args):
    """Results of a batch norm without data; torch works these shapes out in slow Python, half the time of a trace."""
    if RULES.get(func.overloadpacket.__name__) is not batch_norm:
        return None
    return (torch.empty_like(args[0]), *(args[0].new_empty(0) for _ in func._schema.returns[1:]))


def pointwise(recorder, func, args, kwargs, outputs):
    """Elementwise operations with broadcasting: the union over all operands."""
    out = tensors(outputs)[0]
    return combine([get(t) for t in tensors(kwargs) if get(t) is not None], out.shape)


def unchanged(recorder, func, args, kwargs, outputs):
    """The first tensor's state."""
    return get(tensors(args)[0])


def restrided(recorder, func, args, kwargs, outputs):
    """Another memory layout of the same shape; anything else re-reads memory in ways no rule follows."""
    if tuple(args[1]) != tuple(args[0].shape):
        raise NoRule("re-reads memory as another shape")
    return get(args[0])


def copied(recorder, func, args, kwargs, outputs):
    """An in-place copy takes the state of its source."""
    return get(args[1]) if get(args[1]) is not None else get(args[0])


def constant(recorder, func, args, kwargs, outputs):
    """New tensors that only take the shape of another."""
    return None


def each(value, count):
    """One value for each dimension, as torch reads a single number or an empty list."""
    if isinstance(value, int):
        return [value] * count
    return list(value) * (count if len(value) == 1 else 1)


def convolution(recorder, func, args, kwargs, outputs):
    """Convolution and transposed convolution, any number of dimensions."""
    x, weight, _, stride, padding, dilation, is_transposed, *_ = args
    if get(x) is None:
        raise NoRule("computes its kernel from the input")
    kernel, rule = weight.shape[2:], rules.transposed if is_transposed else rules.window
    sides = list(zip(kernel, *(each(value, len(kernel)) for value in (stride, padding, dilation)), strict=True))
    return slid(get(x), outputs.shape, len(kernel), lambda i, m: rule(m, *sides[i]))


def pooled_dimensions(func):
    """Over how many dimensions a pool slides, by its name: maps may come without a dimension for images."""
    return int(re.search(r"pool(\d)", func.overloadpacket.__name__)[1])


def pooling(recorder, func, args, kwargs, outputs):
    """Max and average pooling with fixed windows; ceil mode only adds units at the border."""
    kernel, count = kwargs["kernel_size"], pooled_dimensions(func)
    numbers = (kernel, kwargs.get("stride") or kernel, kwargs.get("padding", 0), kwargs.get("dilation", 1))
    sides = list(zip(*(each(value, count) for value in numbers), strict=True))
    return slid(get(args[0]), tensors(outputs)[0].shape, count, lambda i, m: rules.window(m, *sides[i]))


def adaptive_pooling(recorder, func, args, kwargs, outputs):
    """Adaptive average and max pooling; a global pool leaves no axis to speak of."""
    out, count = tensors(outputs)[0].shape, pooled_dimensions(func)
    size = args[0].shape[-count:]
    state = slid(get(args[0]), out, count, lambda i, m: rules.adaptive(m, size[i], out[i - count]))
    dims = (((1, None),) if n == 1 else factors for n, factors in zip(out, state.dims, strict=True))
    return State(tuple(dims), state.maps)


def upsampling(recorder, func, args, kwargs, outputs):
    """Nearest, bilinear and bicubic resampling."""
    name, x = func.overloadpacket.__name__, args[0]
    count = outputs.dim() - 2
    names = ["scales"] if count == 1 else [f"scales_{d}" for d in "dhw"[-count:]]
    factors = kwargs.get("scale_factors") or [kwargs.get(scale) for scale in names]
    corners = kwargs.get("align_corners", False)

    def change(i, axis):
        size, out, factor = x.shape[2 + i], outputs.shape[2 + i], factors[i]
        scale = 1 / Fraction(factor).limit_denominator(10_000) if factor else Fraction(size, out)
        if corners:
            scale = Fraction(size - 1, out - 1) if out > 1 else Fraction(0)
        if scale == 0:  # a single unit on one of the two sides: every unit reads the first one
            return rules.remap(axis, 1, 0, lambda r: [0])
        if "nearest" in name:
            return rules.nearest(axis, scale, exact="exact" in name)
        return rules.interpolated(axis, scale, 4 if "cubic" in name else 2, corners)

    return slid(get(x), outputs.shape, count, change)


def padding_op(recorder, func, args, kwargs, outputs):
    """Zero, reflection and replication padding, and cropping by negative padding."""
    x, pad = args[0], args[1]
    count = len(pad) // 2
    return slid(get(x), outputs.shape, count, lambda i, m: rules.window(m, 1, 1, pad[2 * (count - 1 - i)]))


def reduction(recorder, func, args, kwargs, outputs):
    """Mean, sum, max and the like over some dimensions, or all of them."""
    x, state, dim = args[0], get(args[0]), kwargs.get("dim")
    listed = range(x.dim()) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    gone = {d % x.dim() for d in listed} if x.dim() else set()
    keep = kwargs.get("keepdim", False)
    dims = [((1, None),) if i in gone else factors for i, factors in enumerate(state.dims) if keep or i not in gone]
    return [collapse(state, gone, dims)] * len(tensors(outputs))


def along(recorder, func, args, kwargs, outputs):
    """Softmax and cumulative operations: along their dimension every unit sees all."""
    state, dim = get(args[0]), args[1] % args[0].dim()
    changes = {axis: rules.whole(state.maps[axis]) for axis in state.mapped(dim)}
    return state.with_maps(changes)


def statistics(recorder, state, dims):
    """A normalisation by statistics over some dimensions: noted, and counted only if asked for."""
    axes = {axis for i in dims for axis in state.mapped(i)}
    change = rules.whole if recorder.follow_statistics else lambda each: replace(each, statistics=True)
    return state.with_maps({axis: change(state.maps[axis]) for axis in axes})


def batch_norm(recorder, func, args, kwargs, outputs):
    """In evaluation mode elementwise; in train mode its statistics see everything."""
    name, state = func.overloadpacket.__name__, get(args[0])
    if "no_training" in name or args[5] is False:
        return state
    return statistics(recorder, state, [i for i in range(len(state.dims)) if i != 1])


def group_norm(recorder, func, args, kwargs, outputs):
    """Its statistics see the whole image in both modes."""
    state = get(args[0])
    return statistics(recorder, state, range(1, len(state.dims)))


def layer_norm(recorder, func, args, kwargs, outputs):
    """Its statistics run over the normalised dimensions, often the channels alone."""
    state = get(args[0])
    return statistics(recorder, state, range(len(state.dims) - len(args[1]), len(state.dims)))


def matrix_product(recorder, func, args, kwargs, outputs):
    """Products of matrices: the contracted dimension is seen whole, the others stay; what is added to one, as it is."""
    *added, a, b = [t for t in args if isinstance(t, torch.Tensor)]
    parts, out = [get(t) for t in added if get(t) is not None], outputs.dim()
    if get(a) is not None:
        row = [*get(a).dims[:-1], *([] if out < a.dim() else plain(outputs.shape[-1:]))]
        parts.append(collapse(get(a), [a.dim() - 1], row))
    if get(b) is not None:
        contracted = max(b.dim() - 2, 0)
        column = [factors for i, factors in enumerate(get(b).dims) if i != contracted]
        if out == b.dim() >= 2:
            column[-1:-1] = plain(outputs.shape[-2:-1])
        parts.append(collapse(get(b), [contracted], column))
    return combine(parts, outputs.shape)


def attention(recorder, func, args, kwargs, outputs):
    """Every token sees every token."""
    state = get(next(t for t in tensors(args) if get(t) is not None))
    changes = {i: rules.whole(m) for i, m in enumerate(state.maps)}
    return [State(plain(out.shape), state.with_maps(changes).maps) for out in tensors(outputs)]


SLIDING = (convolution, pooling, adaptive_pooling, upsampling)
RULES = {
    name: rule
    for rule, names in {
        convolution: "convolution _convolution",
        pooling: "max_pool_with_indices avg_pool",
        adaptive_pooling: "_adaptive_avg_pool adaptive_avg_pool adaptive_max_pool",
        upsampling: "upsample_nearest _upsample_nearest_exact upsample_linear upsample_bilinear upsample_trilinear "
        "upsample_bicubic",
        padding_op: "constant_pad_nd reflection_pad replication_pad",
        reduction: "mean sum amax amin max min prod var std logsumexp norm linalg_vector_norm any all argmax argmin",
        along: "_softmax _safe_softmax _log_softmax cumsum cumprod",
        batch_norm: "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
        "_batch_norm_with_update batch_norm cudnn_batch_norm",
        group_norm: "native_group_norm",
        layer_norm: "native_layer_norm",
        matrix_product: "mm addmm bmm baddbmm mv dot",
        attention: "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_attention_math scaled_dot_product_attention "
        "_native_multi_head_attention _transformer_encoder_layer_fwd",
        layout.reshape: "view _unsafe_view reshape _reshape_alias",
        layout.transpose: "permute transpose t",
        layout.squeeze: "unsqueeze squeeze",
        layout.slicing: "slice",
        layout.pieces: "split split_with_sizes",
        layout.select: "select unbind",
        layout.concatenation: "cat stack",
        layout.pixel_shuffle: "pixel_shuffle pixel_unshuffle",
        unchanged: "clone detach alias _to_copy contiguous native_dropout bernoulli lift_fresh",
        copied: "copy",
        restrided: "as_strided",
        pointwise: "expand hardswish hardsigmoid hardtanh prelu rrelu_with_noise",
        constant: "empty_like zeros_like ones_like full_like rand_like randn_like new_empty new_zeros new_ones "
        "new_full",
    }.items()
    for name in names.split()
}  # fmt: skip
"""By the name of an operation without its number of dimensions, and without the mark of in-place ones."""
SILENT = frozenset(
    "view _unsafe_view reshape _reshape_alias permute transpose t unsqueeze squeeze expand clone detach alias _to_copy "
    "contiguous split split_with_sizes select unbind copy".split()
)
