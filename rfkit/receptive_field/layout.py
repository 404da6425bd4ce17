"""Where the axes of the image sit in a tensor's dimensions, and how views and joins move them."""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch

from rfkit.receptive_field import rules


class NoRule(Exception):
    """A known operation used in a way that has no rule."""


@dataclass(frozen=True)
class State:
    """What a tensor's elements see of the input."""

    #: For every dimension its factors (size, axis), in memory order; axis is None for channels, batch and the like.
    #: Reshaping multiplies and splits these lists, nothing else.
    dims: tuple
    maps: tuple  #: For every axis of the input its `rules.Axis`. An axis that is in no dimension is seen whole.

    def dim_of(self, axis):
        """The dimension that is this axis and nothing else, or None."""
        found = [i for i, factors in enumerate(self.dims) if any(a == axis for _, a in factors)]
        return found[0] if found else None

    def mapped(self, dim):
        """Axes that are part of a dimension."""
        return [axis for _, axis in self.dims[dim] if axis is not None]

    def with_maps(self, changes):
        """The same layout with other fields along some axes."""
        return State(self.dims, tuple(changes.get(i, each) for i, each in enumerate(self.maps)))


def image_state(shape):
    """State of an input (channels, height, width) with a batch dimension in front."""
    spatial = shape[1:]
    dims = (((2, None),), ((shape[0], None),), *(((size, axis),) for axis, size in enumerate(spatial)))
    return State(dims, (rules.IMAGE,) * len(spatial))


def plain(shape):
    """Dimensions of a tensor of this shape without any axis."""
    return tuple(((size, None),) for size in shape)


def get(tensor):
    """State of a tensor; None where it does not depend on the input."""
    return getattr(tensor, "_rf_state", None)


def tensors(tree):
    """Every tensor in nested tuples, lists and mappings, in order."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tree.values()
    return [t for each in tree for t in tensors(each)] if isinstance(tree, list | tuple | type({}.values())) else []


def combine(states, shape):
    """Join the states of broadcast operands."""
    layouts_of, dims = _layouts(states, shape), []
    if max(map(len, layouts_of), default=0) > 1:
        states = [merged(state) for state in states]
        layouts_of = _layouts(states, shape)
    for i, (size, layouts) in enumerate(zip(shape, layouts_of, strict=True)):
        if len(layouts) > 1:
            raise NoRule(f"joins tensors whose dimension {i} means different things")
        dims.append(layouts.pop() if layouts else ((size, None),))
        if math.prod(n for n, _ in dims[-1]) != size:  # a map of one unit spread over a larger one
            dims[-1] = ((size, None),)
    present = {axis for factors in dims for _, axis in factors if axis is not None}
    sizes = {axis: size for factors in dims for size, axis in factors if axis is not None}
    maps = []
    for axis in range(len(states[0].maps)):
        each = [s.maps[axis] if s.dim_of(axis) is not None and axis in present else None for s in states]
        known = [m for m in each if m is not None]
        if not known:
            maps.append(rules.whole(states[0].maps[axis]))
            continue
        joined = known[0]
        for other in known[1:]:
            joined = rules.join(joined, other, sizes[axis])
        maps.append(joined if len(known) == len(each) else rules.whole(joined))
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


def spatial(state, count):
    """(state, axis of each of the last `count` dimensions); sub-pixel dimensions become upsampled maps."""
    state, axes = merged(state), []
    for factors in state.dims[len(state.dims) - count :]:
        factors = [(n, a) for n, a in factors if n > 1 or a is not None]
        marked = [a for _, a in factors if a is not None]
        if marked and len(factors) > 1:
            raise NoRule("needs a dimension that is one axis of the image")
        axes.append(marked[0] if marked else None)
    return state, axes


def slid(state, out_shape, count, change):
    """Apply `change(position, map)` to the map of each of the last `count` dimensions."""
    state, axes = spatial(state, count)
    lead = len(out_shape) - count
    changes = {axis: change(i, state.maps[axis]) for i, axis in enumerate(axes) if axis is not None}
    dims = (*plain(out_shape[:lead]), *(((n, a),) for n, a in zip(out_shape[lead:], axes, strict=True)))
    if any(state.mapped(i) for i in range(len(state.dims) - count)):
        raise NoRule("needs the axes of the image in its last dimensions")
    return State(dims, state.with_maps(changes).maps)


def collapse(state, gone, dims):
    """Axes in dimensions `gone` are seen whole from now on."""
    axes = {axis for i in gone for axis in state.mapped(i)}
    kept = tuple(
        factors if not any(a in axes for _, a in factors) else ((math.prod(n for n, _ in factors), None),)
        for factors in dims
    )
    return State(kept, state.with_maps({axis: rules.whole(state.maps[axis]) for axis in axes}).maps)


# --- operations on layouts, as `rules.RULES` calls them ------------------------------------------


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
    dim, step, start = kwargs.get("dim", 0), kwargs.get("step", 1), kwargs.get("start")
    return cut(get(args[0]), dim % args[0].dim(), start or 0, outputs, step, args[0].shape)


def cut(state, dim, start, output, step, shape):
    """One piece of a dimension."""
    dims, axes = list(state.dims), state.mapped(dim)
    start = max(start + shape[dim], 0) if start < 0 else min(start, shape[dim])
    if output.shape[dim] == shape[dim] and step == 1:
        return state
    if not axes:
        dims[dim] = ((output.shape[dim], None),)
        return State(tuple(dims), state.maps)
    if len(state.dims[dim]) > 1:
        raise NoRule("cuts a dimension that holds more than one axis")
    dims[dim] = ((output.shape[dim], axes[0]),)
    return State(tuple(dims), state.with_maps({axes[0]: rules.shifted(state.maps[axes[0]], start, step)}).maps)


def pieces(recorder, func, args, kwargs, outputs):
    """Split and chunk: consecutive pieces of one dimension."""
    x, dim, start, states = args[0], kwargs.get("dim", 0) % args[0].dim(), 0, []
    for piece in outputs:
        states.append(cut(get(x), dim, start, piece, 1, x.shape))
        start += piece.shape[dim]
    return states


def select(recorder, func, args, kwargs, outputs):
    """One index of a dimension that is not an axis of the image."""
    state = get(args[0])
    dim = kwargs.get("dim", 0) % args[0].dim()
    if state.mapped(dim):
        raise NoRule("takes a single row or column of the image")
    kept = State(tuple(f for i, f in enumerate(state.dims) if i != dim), state.maps)
    return [kept] * len(tensors(outputs))


def concatenation(recorder, func, args, kwargs, outputs):
    """Joined along a dimension that is not an axis: every unit may meet every branch."""
    parts = args[0]
    dim = kwargs.get("dim", 0) % outputs.dim()
    if func.overloadpacket.__name__ == "stack":
        layouts = [
            State((*s.dims[:dim], ((1, None),), *s.dims[dim:]), s.maps) for s in map(get, parts) if s is not None
        ]
    else:
        layouts = [get(part) for part in parts if get(part) is not None]
    if any(len(state.mapped(dim)) == 1 for state in layouts):
        raise NoRule("concatenates along an axis of the image")
    # a list of tokens with more tokens appended is an image no longer
    layouts = [collapse(state, [dim] if state.mapped(dim) else [], state.dims) for state in layouts]
    cleared = [State((*s.dims[:dim], ((1, None),), *s.dims[dim + 1 :]), s.maps) for s in layouts]
    return combine(cleared, outputs.shape)


def pixel_shuffle(recorder, func, args, kwargs, outputs):
    """Channels become pixels (or pixels channels): nearest-neighbour geometry."""
    name, factor = func.overloadpacket.__name__, args[1]
    if name == "pixel_shuffle":
        return slid(get(args[0]), outputs.shape, 2, lambda i, m: rules.nearest(m, Fraction(1, factor)))
    return slid(get(args[0]), outputs.shape, 2, lambda i, m: rules.window(m, factor, factor))
