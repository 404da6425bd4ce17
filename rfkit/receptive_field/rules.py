"""How one operation moves receptive fields: exact integer algebra, one rule for each kind of operation.

Along one axis, `Axis` holds the interval of input pixels that each unit of a map sees. Units repeat with a period: unit
``q * period + r`` sees ``[low[r] + q * step, high[r] + q * step]``. The period is 1 for ordinary networks; transposed
convolutions and upsampling give units of different phases different fields. Intervals are not clipped by the image.
Every rule is a list of input units seen by each output unit, for `remap`.

Source: Araujo, Norris and Sim, *Computing Receptive Fields of Convolutional Neural Networks*, Distill 2019, for size,
stride and alignment over all paths; phases are our extension to transposed convolutions.
"""

import math
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Axis:
    """Fields along one axis, in input pixels."""

    low: tuple  #: First pixel seen by the unit of each phase.
    high: tuple  #: Last pixel seen by the unit of each phase; below `low` where a unit sees nothing.
    step: int  #: Pixels between units one period apart.
    aligned: bool = True  #: False once branches of different stride or centre were joined.
    statistics: bool = False  #: True once a normalisation by statistics of the whole image was ignored.

    @property
    def period(self):
        """Number of phases."""
        return len(self.low)

    @property
    def stride(self):
        """Pixels between neighbouring units, on average; an int where it is whole."""
        return self.step / self.period if self.step % self.period else self.step // self.period

    def at(self, unit):
        """(first, last) pixel seen by a unit; infinite where it sees the whole image."""
        turn, phase = divmod(unit, self.period)
        return self.low[phase] + turn * self.step, self.high[phase] + turn * self.step

    @property
    def largest(self):
        """(phase, first, last): the first phase with the largest field."""
        phase = max(range(self.period), key=lambda r: self.high[r] - self.low[r])
        return phase, self.low[phase], self.high[phase]


IMAGE = Axis((0,), (0,), 1)
"""The input itself: every pixel sees itself."""


def whole(axis):
    """Every unit sees the whole image."""
    return Axis((-math.inf,) * axis.period, (math.inf,) * axis.period, axis.step, axis.aligned, axis.statistics)


def remap(axis, period, advance, units):
    """Fields of a new map whose units read units of an old one."""
    turns = axis.period // math.gcd(axis.period, advance)
    low, high = [], []
    for unit in range(period * turns):
        seen = [axis.at(read) for read in units(unit)]
        low.append(min((first for first, _ in seen), default=math.inf))
        high.append(max((last for _, last in seen), default=-math.inf))
    step = axis.step * advance * turns // axis.period
    return Axis(tuple(low), tuple(high), step, axis.aligned, axis.statistics)


def window(axis, kernel, stride=1, padding=0, dilation=1):
    """Convolution, pooling, padding, slices: unit j reads ``j * stride - padding + dilation * k``, k below `kernel`."""
    taps = range(kernel) if axis.period > 1 else {0, kernel - 1}  # with one phase only the ends matter
    return remap(axis, 1, stride, lambda j: [j * stride - padding + dilation * k for k in taps])


def transposed(axis, kernel, stride=1, padding=0, dilation=1):
    """Transposed convolution: unit i reads j wherever ``i = j * stride - padding + dilation * k``."""

    def units(i):
        reach = (i + padding - dilation * k for k in range(kernel))
        return [at // stride for at in reach if at % stride == 0]

    return remap(axis, stride, 1, units)


def adaptive(axis, size, out):
    """Adaptive pooling of `size` units to `out`: torch's bins; a single bin sees the whole image."""
    if out == 1:
        return whole(axis)
    common = math.gcd(size, out)
    return remap(axis, out // common, size // common, lambda r: range(r * size // out, -(-(r + 1) * size // out)))


def nearest(axis, scale, exact=False):
    """Nearest-neighbour upsampling; `scale` is the Fraction of input units an output unit advances."""
    shift = Fraction(1, 2) if exact else 0
    return remap(axis, scale.denominator, scale.numerator, lambda r: [math.floor((r + shift) * scale)])


def interpolated(axis, scale, taps, align_corners=False):
    """Bilinear (2 taps) and bicubic (4 taps) resampling; a tap of weight zero is not read."""

    def units(r):
        at = r * scale if align_corners else (r + Fraction(1, 2)) * scale - Fraction(1, 2)
        first = math.floor(at)
        return [first] if at == first else range(first - taps // 2 + 1, first + taps // 2 + 1)

    return remap(axis, scale.denominator, scale.numerator, units)


def join(a, b, size):
    """Units of two branches, added or concatenated: the union of both intervals."""
    if a == b:
        return a
    same_stride = a.step * b.period == b.step * a.period
    period = math.lcm(a.period, b.period) if same_stride else size
    pairs = [(a.at(unit), b.at(unit)) for unit in range(period)]
    low = tuple(min(first, second) for (first, _), (second, _) in pairs)
    high = tuple(max(first, second) for (_, first), (_, second) in pairs)
    centred = all(p[0] + p[1] == q[0] + q[1] for p, q in pairs if all(map(math.isfinite, (*p, *q))))
    step = period * max(a.step * b.period, b.step * a.period) // (a.period * b.period)
    aligned = a.aligned and b.aligned and same_stride and centred
    return Axis(low, high, step, aligned, a.statistics or b.statistics)
