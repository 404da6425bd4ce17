"""Question 1, receptive fields: 10 points. Change the numbers, add cases; TESTS must hold (points, name, function)."""

import math

import numpy as np

from rfkit.homework.checks import close

SEED = 1
random = np.random.default_rng(SEED)


def fields(kernels, strides):
    """Receptive field after each layer: every layer adds its taps but one, in steps of all strides below it."""
    field, step, found = 1, 1, []
    for kernel, stride in zip(kernels, strides, strict=True):
        field, step = field + (kernel - 1) * step, step * stride
        found.append(field)
    return found


def _sizes(count, high=8):
    return [int(n) for n in random.integers(1, high, count)]


def first(student):
    m1 = _sizes(1)[0]
    close("field of the first layer", student(f"r = first_field({m1})", ["r"])[0], m1)


def second(student):
    for m1, m2 in (_sizes(2), _sizes(2)):
        close("field of the second layer", student(f"r = second_field({m1}, {m2})", ["r"])[0], m1 + m2 - 1)


def strides(student):
    for m1, m2, s1, s2 in ((5, 3, 4, 2), _sizes(4), _sizes(4)):
        expected = fields([m1, m2], [s1, s2])
        close("fields with strides", student(f"r = fields_with_strides({m1}, {m2}, {s1}, {s2})", ["r"])[0], expected)


def any_layer(student):
    kernels, steps = [3, *_sizes(6)], [2, 3, *_sizes(5, 4)]
    expected = fields(kernels, steps)
    for k in (1, 2, 4, 7):
        found = student(f"r = field_of_layer({k}, {kernels}, {steps})", ["r"])[0]
        close(f"field of layer {k} of 7", found, expected[k - 1])


def two_ways(student):
    kernels, steps = [3, 3, 3], [1, 2, 1]
    code = f"""
(k1, s1), (k2, s2) = two_ways({kernels}, {steps})
k1, s1, k2, s2 = (np.array(list(v), float) for v in (k1, s1, k2, s2))
"""
    k1, s1, k2, s2 = student("import numpy as np\n" + code, ["k1", "s1", "k2", "s2"])
    before = fields(kernels, steps)[-1]
    kinds = set()
    for ks, ss in ((k1, s1), (k2, s2)):
        ks, ss = [int(k) for k in ks], [int(s) for s in ss]
        assert len(ks) == len(ss), f"{len(ks)} kernels and {len(ss)} strides; expected one of each a layer"
        assert fields(ks, ss)[-1] > before, f"kernels {ks}, strides {ss} see no more"
        longer, strided = len(ks) > len(kernels), math.prod(ss) > math.prod(steps)
        kinds.add(("pooling" if longer else "stride") if strided else "depth" if longer else "kernel or dilation")
    assert len(kinds) == 2, f"both ways are of one kind, {kinds.pop()}"


TESTS = [
    (1, "(a) first layer", first),
    (2, "(b) second layer", second),
    (3, "(c) strides", strides),
    (2, "(d) any layer", any_layer),
    (2, "(e) two ways", two_ways),
]
