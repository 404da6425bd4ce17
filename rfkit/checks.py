"""The tests of the homework that students see: numerical gradients and cases small enough to do by hand."""

import numpy as np


def numerical_gradient(function, array, dout, *, step=1e-6):
    """Gradient of ``sum(function() * dout)`` with respect to an array, by central differences.

    Args:
        function: Without arguments; reads `array` and returns an array.
        array: float64 array, moved entry by entry and put back.
        dout: Array of the shape of the function's value.
        step: How far each entry is moved.

    Returns:
        Array of the shape of `array`.
    """
    gradient = np.zeros_like(array)
    for place in np.ndindex(array.shape):
        kept, sums = array[place], []
        for sign in (1, -1):
            array[place] = kept + sign * step
            sums.append(float((function() * dout).sum()))
        array[place] = kept
        gradient[place] = (sums[0] - sums[1]) / (2 * step)
    return gradient


def close(name, found, expected, tolerance=1e-6):
    """Assert that a student's array is the expected one.

    Args:
        name: What it is.
        found: The student's.
        expected: As it should be.
        tolerance: Largest absolute difference.

    Raises:
        AssertionError: If shape or values differ; says which and by how much.
    """
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    assert found.shape == expected.shape, f"{name} has shape {found.shape}; expected {expected.shape}"
    worst = float(np.abs(found - expected).max())
    assert worst <= tolerance, f"{name} is off by up to {worst:.3g}; expected at most {tolerance:g}"


def _same(name, found, expected, tolerance=1e-6):
    close(name, found, expected, tolerance)
    print(f"{name}: right")


def _gradients(found, arrays, forward, dout, tolerance=1e-6):
    """Each gradient of ``forward()`` against central differences in its array."""
    for (name, array), gradient in zip(arrays.items(), found, strict=True):
        _same(f"gradient d{name}", gradient, numerical_gradient(forward, array, dout), tolerance)


def fields(first_field, second_field, fields_with_strides, field_of_layer, two_ways):
    """Question 1: cases that can be counted on a drawing.

    Args:
        first_field: (a), as in `rfkit.field_answers`.
        second_field: (b).
        fields_with_strides: (c).
        field_of_layer: (d).
        two_ways: (e).

    Raises:
        AssertionError: If an answer is wrong; says which.
    """
    _same("(a)", first_field(3), 3)
    _same("(b)", second_field(3, 3), 5)
    _same("(c)", fields_with_strides(3, 3, 2, 1), (3, 7))
    _same("(d)", field_of_layer(3, [3, 3, 3], [1, 1, 1]), 7)
    assert len(two_ways([3, 3], [1, 1])) == 2, "(e) must return two networks"
    print("(e): two networks")


def convolution(conv_forward, conv_backward):
    """Question 2: a convolution by hand, and its gradients against central differences.

    Args:
        conv_forward: As in `rfkit.numpy_layers`.
        conv_backward: As in `rfkit.numpy_layers`.

    Raises:
        AssertionError: If a value is wrong; says which and by how much.
    """
    x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    _same("convolution by hand", conv_forward(x, w, np.array([0.5]))[0], np.full((1, 1, 2, 2), -3.5))
    random = np.random.default_rng(0)
    x, w, b = (random.normal(size=shape) for shape in ((2, 3, 6, 5), (2, 3, 3, 3), (2,)))
    options = {"stride": 2, "padding": 1}
    out, cache = conv_forward(x, w, b, **options)
    dout = random.normal(size=(2, 2, 3, 3))
    _same("shape of the output", np.zeros(np.shape(out)), np.zeros(dout.shape))
    arrays = {"x": x, "w": w, "b": b}
    _gradients(conv_backward(dout, cache), arrays, lambda: conv_forward(x, w, b, **options)[0], dout)


def pooling(max_pool_forward, max_pool_backward):
    """Question 2: a max-pool by hand, and its gradient against central differences.

    Args:
        max_pool_forward: As in `rfkit.numpy_layers`.
        max_pool_backward: As in `rfkit.numpy_layers`.

    Raises:
        AssertionError: If a value is wrong.
    """
    x = np.array([[1.0, 5, 2, 0], [3, 4, 8, 7], [0, 1, 2, 3], [9, 6, 5, 4]])[None, None]
    _same("max-pool by hand", max_pool_forward(x, size=2)[0], [[[[5, 8], [9, 5]]]])
    x, dout = np.random.default_rng(1).normal(size=(2, 2, 5, 5)), np.random.default_rng(2).normal(size=(2, 2, 2, 2))
    out, cache = max_pool_forward(x, size=3, stride=2)
    _same("shape of the output", np.zeros(np.shape(out)), np.zeros(dout.shape))
    expected = numerical_gradient(lambda: max_pool_forward(x, size=3, stride=2)[0], x, dout)
    _same("gradient dx, overlapping windows", max_pool_backward(dout, cache), expected)


def batchnorm(spatial_batchnorm_forward, spatial_batchnorm_backward):
    """Question 3: normalised statistics, running statistics, and gradients against central differences.

    Args:
        spatial_batchnorm_forward: As in `rfkit.numpy_layers`.
        spatial_batchnorm_backward: As in `rfkit.numpy_layers`.

    Raises:
        AssertionError: If a value is wrong.
    """
    random = np.random.default_rng(3)
    x, gamma, beta, running = 2 + 3 * random.normal(size=(4, 3, 3, 3)), np.ones(3), np.zeros(3), {}
    out, _ = spatial_batchnorm_forward(x, gamma, beta, running, train=True)
    _same("mean of the output", np.mean(out, (0, 2, 3)), np.zeros(3))
    _same("deviation of the output", np.std(out, (0, 2, 3)), np.ones(3), 1e-4)
    _same("running mean after a batch", running["mean"], 0.1 * x.mean((0, 2, 3)))
    gamma, beta, dout = random.normal(size=3), random.normal(size=3), random.normal(size=x.shape)

    def forward():
        return spatial_batchnorm_forward(x, gamma, beta, {}, train=True)[0]

    _, cache = spatial_batchnorm_forward(x, gamma, beta, {}, train=True)
    arrays = {"x": x, "gamma": gamma, "beta": beta}
    _gradients(spatial_batchnorm_backward(dout, cache), arrays, forward, dout, 1e-5)


def network(three_layers):
    """Question 4: loss and gradients of a three-layer network.

    Args:
        three_layers: Class, as `rfkit.numpy_nets.ThreeLayerConvNet`.

    Raises:
        AssertionError: If a value is wrong.
    """
    random = np.random.default_rng(4)
    small = {"filters": 2, "kernel": 3, "hidden": 5, "dtype": np.float64}
    x, labels = random.normal(size=(4, 3, 6, 6)), np.array([0, 1, 2, 1])
    net = three_layers((3, 6, 6), 3, weight_scale=1e-4, **small)
    _same("loss of a network that knows nothing, log 3", net.loss(x, labels)[0], np.log(3), 1e-3)
    net = three_layers((3, 6, 6), 3, **small)
    _, gradients = net.loss(x, labels)
    for name, array in net.parameters.items():
        expected = numerical_gradient(lambda: np.asarray(net.loss(x, labels)[0]), array, np.asarray(1.0))
        _same(f"gradient of {name}", gradients[name], expected, 1e-5)
