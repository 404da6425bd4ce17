"""Question 1, receptive fields: 10 points. Change the numbers, add cases; TESTS must hold (points, name, function)."""

import numpy as np

from rfkit.homework.answers import field_of_layer
from rfkit.homework.checks import close, different_ways

SEED = 1
random = np.random.default_rng(SEED)


def fields(kernels, strides):
    return [field_of_layer(k, kernels, strides) for k in range(1, len(kernels) + 1)]


def _sizes(count, high=8):
    return [int(n) for n in random.integers(1, high, count)]


def first(student):
    for m1 in (5, *_sizes(1)):
        close(f"first_field({m1})", student(f"r = first_field({m1})", ["r"])[0], m1)


def second(student):
    for m1, m2 in ((5, 4), _sizes(2)):
        call = f"second_field({m1}, {m2})"
        close(call, student(f"r = {call}", ["r"])[0], m1 + m2 - 1)


def strides(student):
    for m1, m2, s1, s2 in ((5, 3, 4, 2), _sizes(4), _sizes(4)):
        call = f"fields_with_strides({m1}, {m2}, {s1}, {s2})"
        close(call, student(f"r = {call}", ["r"])[0], fields([m1, m2], [s1, s2]))


def any_layer(student):
    kernels, steps = [3, *_sizes(6)], [2, 3, *_sizes(5, 4)]
    expected = fields(kernels, steps)
    for k in (1, 2, 4, 7):
        call = f"field_of_layer({k}, {kernels}, {steps})"
        close(call, student(f"r = {call}", ["r"])[0], expected[k - 1])


def two_ways(student):
    # a stride below a 1x1 kernel, and the last one, act on nothing
    kernels, steps = [3, *(n + 1 for n in _sizes(3, 5))], [2, *_sizes(2, 3), 1]
    code = f"""
ways = two_ways({kernels}, {steps})
assert len(ways) == 2 and all(len(way) == 2 for way in ways), "expected two pairs (kernels, strides)"
k1, s1, k2, s2 = (list(numbers) for way in ways for numbers in way)
"""
    k1, s1, k2, s2 = (numbers.tolist() for numbers in student(code, ["k1", "s1", "k2", "s2"]))
    whole = all(n == int(n) > 0 for n in [*k1, *s1, *k2, *s2])
    assert whole, f"kernels {k1} and {k2}, strides {s1} and {s2}: expected whole numbers from 1 on"
    different_ways([(k1, s1), (k2, s2)], kernels, steps, field_of_layer)


TESTS = [
    (1, "(a) first layer", first),
    (2, "(b) second layer", second),
    (3, "(c) strides", strides),
    (2, "(d) any layer", any_layer),
    (2, "(e) two ways", two_ways),
]
