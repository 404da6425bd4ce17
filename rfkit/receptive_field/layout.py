"""Where the axes of the image sit in a tensor's dimensions, and how views and joins move them."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce

import torch
from torch.utils._pytree import tree_leaves

from rfkit.receptive_field import rules


class NoRule(Exception):
    """A known operation used in a way that has no rule."""


TOKENS = "tokens"
"""Operation of the entry for tokens with one appended."""


@dataclass(frozen=True)
class State:
    """What a tensor's elements see of the input."""

    #: For every dimension its factors (size, axis), in memory order; axis is None for channels, batch and the like.
    #: Reshaping multiplies and splits these lists, nothing else.
    dims: tuple
    maps: tuple  #: For every axis of the input its `rules.Axis`. An axis that is in no dimension is seen whole.

    def dim_of(self, axis):
        """The dimension that this axis is a part of, or None."""
        return next((i for i in range(len(self.dims)) if axis in self.mapped(i)), None)

    def mapped(self, dim):
        """Axes that are part of a dimension."""
        return [axis for _, axis in self.dims[dim] if axis is not None]

    def with_maps(self, changes):
        """The same layout with other fields along some axes."""
        return State(self.dims, tuple(changes.get(i, each) for i, each in enumerate(self.maps)))


def image_state(shape):
    """State of an input (channels, height, width) with a batch dimension in front."""
    spatial = tuple(((size, axis),) for axis, size in enumerate(shape[1:]))
    return State((*plain((2, shape[0])), *spatial), (rules.IMAGE,) * len(spatial))


def plain(shape):
    """Dimensions of a tensor of this shape without any axis."""
    return tuple(((size, None),) for size in shape)


def seen_whole(shape, image):
    """State of a map made after the image was seen whole, as in a decoder: each of its units sees all of it."""
    steps = [side // n if side % n == 0 else side / n for side, n in zip(image, shape[2:], strict=True)]
    dims = (*plain(shape[:2]), *(((n, axis),) for axis, n in enumerate(shape[2:])))
    return State(dims, tuple(replace(rules.whole(rules.IMAGE), step=step) for step in steps))


def get(tensor):
    """State of a tensor; None where it does not depend on the input."""
    return getattr(tensor, "_rf_state", None)


def tensors(tree):
    """Every tensor in nested tuples, lists and mappings, in order."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def combine(states, shape):
    """Join the states of broadcast operands."""
    if any(len(layouts) > 1 for layouts in _layouts(states, shape)):
        states = [merged(state) for state in states]
    dims = []
    for i, (size, layouts) in enumerate(zip(shape, _layouts(states, shape), strict=True)):
        if len(layouts) > 1:
            raise NoRule(f"joins tensors whose dimension {i} means different things")
        factors = layouts.pop() if layouts else ((size, None),)
        # another product: a map of one unit spread over a larger one
        dims.append(factors if math.prod(n for n, _ in factors) == size else ((size, None),))
    sizes, maps = {axis: size for factors in dims for size, axis in factors}, []
    for axis, first in enumerate(states[0].maps):
        known = [s.maps[axis] for s in states if s.dim_of(axis) is not None and axis in sizes]
        joined = reduce(lambda a, b: rules.join(a, b, sizes[axis]), known or [first])
        maps.append(joined if len(known) == len(states) else rules.whole(joined))
    return State(tuple(dims), tuple(maps))


def _layouts(states, shape):
    """For each dimension, the layouts of those operands in which it is one of the image."""
    padded = [(*plain((1,) * (len(shape) - len(s.dims))), *s.dims) for s in states]
    return [{each[i] for each in padded if any(a is not None for _, a in each[i])} for i in range(len(shape))]


def merged(state):
    """Sub-pixel dimensions become upsampled maps."""
    dims, maps = list(state.dims), list(state.maps)
    for i, factors in enumerate(dims):
        factors = [(n, a) for n, a in factors if n > 1 or a is not None]
        if len(factors) > 1 and factors[0][1] is not None and all(a is None for _, a in factors[1:]):
            axis, repeat = factors[0][1], math.prod(n for n, _ in factors[1:])
            maps[axis] = rules.nearest(maps[axis], Fraction(1, repeat))
            dims[i] = ((factors[0][0] * repeat, axis),)
    return State(tuple(dims), tuple(maps))


def slid(state, out_shape, count, change):
    """Apply `change(position, map)` to the map of each of the last `count` dimensions."""
    state, dims, changes = merged(state), list(plain(out_shape)), {}
    lead = len(state.dims) - count
    for i, factors in enumerate(state.dims[lead:]):
        for axis in state.mapped(lead + i):
            if sum(n > 1 or a is not None for n, a in factors) > 1:
                raise NoRule("needs a dimension that is one axis of the image")
            dims[i - count] = ((out_shape[i - count], axis),)
            changes[axis] = change(i, state.maps[axis])
    if any(state.mapped(i) for i in range(lead)):
        raise NoRule("needs the axes of the image in its last dimensions")
    return State(tuple(dims), state.with_maps(changes).maps)


def collapse(state, gone, dims):
    """Axes in dimensions `gone` are seen whole from now on."""
    axes = {axis for i in gone for axis in state.mapped(i)}
    kept = tuple(
        factors if not any(a in axes for _, a in factors) else ((math.prod(n for n, _ in factors), None),)
        for factors in dims
    )
    return State(kept, state.with_maps({axis: rules.whole(state.maps[axis]) for axis in axes}).maps)


def reshape(recorder, func, args, kwargs, outputs):
    """Views: the list of factors, in memory order, is cut anew."""
    state, shape = get(args[0]), outputs.shape
    todo = [[n, a] for factors in state.dims for n, a in factors if n != 1 or a is not None]
    dims = []
    for size in shape:
        factors, left = [], size
        while left > 1 and todo:
            n, axis = todo[0]
            if left % n == 0:
                factors.append((n, axis))
                left //= n
                todo.pop(0)
            elif axis is None and n % left == 0:
                factors.append((left, None))
                todo[0][0] //= left
                left = 1
            else:
                raise NoRule(f"splits an axis of the image (shape {tuple(args[0].shape)} to {tuple(shape)})")
        if size == 1 and todo and todo[0][0] == 1:
            factors.append(tuple(todo.pop(0)))
        dims.append(tuple(factors) or ((size, None),))
    return State(tuple(dims), state.maps)


def transpose(recorder, func, args, kwargs, outputs):
    """Dimensions in another order."""
    state, name = get(args[0]), func.overloadpacket.__name__
    order = list(range(len(state.dims)))
    if name == "permute":
        order = [d % len(order) for d in args[1]]
    elif len(order) > 1:
        first, second = args[1:3] if name.startswith("transpose") else (0, 1)
        order[first], order[second] = order[second], order[first]
    return State(tuple(state.dims[d] for d in order), state.maps)


def squeeze(recorder, func, args, kwargs, outputs):
    """Dimensions of size one appear or vanish."""
    state, name = get(args[0]), func.overloadpacket.__name__
    dims = list(state.dims)
    if name.startswith("unsqueeze"):
        dims.insert(args[1] % (len(dims) + 1), ((1, None),))
        return State(tuple(dims), state.maps)
    asked = range(len(dims)) if len(args) == 1 else [args[1]] if isinstance(args[1], int) else args[1]
    gone = {d % len(dims) for d in asked if args[0].shape[d] == 1}
    return collapse(state, gone, [f for i, f in enumerate(dims) if i not in gone])


def slicing(recorder, func, args, kwargs, outputs):
    """Crops and strided slices of one dimension."""
    return cut(args[0], kwargs.get("dim", 0), kwargs.get("start"), outputs, kwargs.get("step", 1))


def cut(x, dim, start, piece, step=1):
    """One piece of a dimension."""
    state, dim = get(x), dim % x.dim()
    if piece.shape == x.shape and step == 1:
        return state
    dims, axes = list(state.dims), state.mapped(dim)
    if axes and len(dims[dim]) > 1:
        raise NoRule("cuts a dimension that holds more than one axis")
    start, _, _ = slice(start, None).indices(x.shape[dim])
    dims[dim] = ((piece.shape[dim], axes[0] if axes else None),)
    changes = {axis: rules.window(state.maps[axis], 1, step, -start) for axis in axes}
    return State(tuple(dims), state.with_maps(changes).maps)


def pieces(recorder, func, args, kwargs, outputs):
    """Split and chunk: consecutive pieces of one dimension."""
    dim, start, states = kwargs.get("dim", 0), 0, []
    for piece in outputs:
        states.append(cut(args[0], dim, start, piece))
        start += piece.shape[dim]
    return states


def select(recorder, func, args, kwargs, outputs):
    """One index of a dimension that is not an axis of the image."""
    state, dim = get(args[0]), kwargs.get("dim", 0) % args[0].dim()
    if state.mapped(dim):
        raise NoRule("takes a single row or column of the image")
    kept = State(tuple(f for i, f in enumerate(state.dims) if i != dim), state.maps)
    return [kept] * len(tensors(outputs))


def concatenation(recorder, func, args, kwargs, outputs):
    """Joined along a dimension that is not an axis: every unit may meet every branch."""
    states, dim = [get(part) for part in args[0] if get(part) is not None], kwargs.get("dim", 0) % outputs.dim()
    if func.overloadpacket.__name__ == "stack":
        states = [State((*s.dims[:dim], ((1, None),), *s.dims[dim:]), s.maps) for s in states]
    if any(len(state.mapped(dim)) == 1 for state in states):
        raise NoRule("concatenates along an axis of the image")
    joined = combine([collapse(state, [dim], state.dims) for state in states], outputs.shape)
    lists = [state for state in states if state.mapped(dim)]
    whole_image = len(lists) == 1 and set(lists[0].mapped(dim)) == set(range(len(lists[0].maps)))
    if whole_image and len(args[0]) > 1 and outputs.dim() > 2:
        recorder.emit(TOKENS, joined)  # a list of tokens with one appended is an image no longer
    return joined


def pixel_shuffle(recorder, func, args, kwargs, outputs):
    """Channels become pixels (or pixels channels): nearest-neighbour geometry."""
    name, factor = func.overloadpacket.__name__, args[1]
    if name == "pixel_shuffle":
        return slid(get(args[0]), outputs.shape, 2, lambda i, m: rules.nearest(m, Fraction(1, factor)))
    return slid(get(args[0]), outputs.shape, 2, lambda i, m: rules.window(m, factor, factor))
