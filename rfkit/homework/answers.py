"""Question 1 of the homework as functions: what a unit of a chain of convolutions sees, by hand."""

import math


def first_field(m1):
    """(a) Receptive field of a unit of the first convolution."""
    return m1


def second_field(m1, m2):
    """(b) Receptive field of a unit of the second convolution, stride 1 in both."""
    return m1 + (m2 - 1)


def fields_with_strides(m1, m2, s1, s2):
    """(c) A pair: receptive fields of a unit of the first and of the second convolution, with strides."""
    return m1, m1 + (m2 - 1) * s1


def field_of_layer(k, kernels, strides):
    """(d) Receptive field of a unit of the k-th convolution; k counts from 1."""
    return 1 + sum((kernels[j] - 1) * math.prod(strides[:j]) for j in range(k))


def two_ways(kernels, strides):
    """(e) Your two ways, applied to a network: two pairs (kernels, strides), the lists of two changed networks.

    In each, the last layer sees more than before, and each uses another way. List every layer that has a kernel and a
    stride.
    """
    deeper = [*kernels, 3], [*strides, 1]
    larger_kernels = [side + 2 for side in kernels], list(strides)
    return deeper, larger_kernels
