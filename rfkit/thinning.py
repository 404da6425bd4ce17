"""The same network without what cannot matter: kernels cropped to the taps that ever meet a real pixel."""

import copy

from torch import nn

from rfkit.pruning import maps, utilisation


def without_dead_taps(model, input_shape):
    """A copy whose convolutions have lost the rows and columns of taps that only ever meet padding.

    A padded 3x3 kernel on a 1x1 map becomes a 1x1 kernel: the same output for images of this size, for less work and
    fewer weights.

    Args:
        model: Network; not changed.
        input_shape: Channels, height and width of its images.

    Returns:
        Copy. Kernels for which no padding leaves the map as large as it was stay as they are.
    """
    thin = copy.deepcopy(model)
    for name, (_, calls) in maps(model, input_shape).items():
        module = thin.get_submodule(name)
        if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str):
            continue
        if sum(module.weight is other for m in thin.modules() for other in m._parameters.values()) > 1:
            continue  # shared with another layer, which may use all of it
        share = utilisation(module, calls)
        rows, columns = (_range((share.sum(1 - axis) > 0).nonzero().flatten()) for axis in (0, 1))
        padding = [_padding(module, axis, taps, calls) for axis, taps in enumerate((rows, columns))]
        if None in padding or (len(rows), len(columns)) == module.kernel_size:
            continue
        module.weight = nn.Parameter(module.weight.detach()[:, :, rows.start : rows.stop, columns.start : columns.stop])
        module.kernel_size, module.padding = (len(rows), len(columns)), tuple(padding)
        module._reversed_padding_repeated_twice = [side for amount in reversed(padding) for side in (amount, amount)]
    return thin


def _range(used):
    return range(int(used[0]), int(used[-1]) + 1) if len(used) else range(0, 0)


def _padding(module, axis, taps, calls):
    """Padding that leaves the kept taps where they were and the map as large as it was; None if there is none."""
    padding = module.padding[axis] - taps.start * module.dilation[axis] if len(taps) else -1
    if padding < 0:
        return None
    span = module.dilation[axis] * (len(taps) - 1) + 1
    sizes = [((before[axis] + 2 * padding - span) // module.stride[axis] + 1, after[axis]) for before, after in calls]
    return padding if all(now == wanted for now, wanted in sizes) else None
