"""Question 1 of the homework as functions: what a unit of a chain of convolutions sees, by hand."""

import math


def first_field(m1):
    """(a) Receptive field of a unit of the first convolution.

    Args:
        m1: Side of its kernel, in pixels.

    Returns:
        Pixels.
    """
    return m1


def second_field(m1, m2):
    """(b) Receptive field of a unit of the second convolution, stride 1 in both.

    Args:
        m1: Side of the first kernel.
        m2: Side of the second kernel.

    Returns:
        Pixels.
    """
    return m1 + (m2 - 1)


def fields_with_strides(m1, m2, s1, s2):
    """(c) Receptive fields of units of the first and the second convolution, with strides.

    Args:
        m1: Side of the first kernel.
        m2: Side of the second kernel.
        s1: Stride of the first convolution.
        s2: Stride of the second convolution.

    Returns:
        (pixels of the first, pixels of the second).
    """
    return m1, m1 + (m2 - 1) * s1


def field_of_layer(k, kernels, strides):
    """(d) Receptive field of a unit of the k-th convolution.

    Args:
        k: Number of the layer, counted from 1.
        kernels: Side of the kernel of every layer.
        strides: Stride of every layer.

    Returns:
        Pixels.
    """
    return 1 + sum((kernels[j] - 1) * math.prod(strides[:j]) for j in range(k))


def two_ways(kernels, strides):
    """(e) Two changes of a network that make the field of its last layer larger, each of another kind.

    Args:
        kernels: Side of the kernel of every layer.
        strides: Stride of every layer.

    Returns:
        Two pairs (kernels, strides), both with a larger field than what was given.
    """
    deeper = [*kernels, 3], [*strides, 1]
    larger_kernels = [side + 2 for side in kernels], list(strides)
    return deeper, larger_kernels
