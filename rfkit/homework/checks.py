"""The tests of the homework that students see: numerical gradients and cases small enough to do by hand."""

import contextlib
import functools
import math

import numpy as np

THREE_LAYERS = [4, 1, 2, 1, 2, 1]
"""Dimensions of the parameters of the network that question 4 gives; one of your own has others."""


def numerical_gradient(function, array, dout, *, step=1e-6):
    """Gradient of ``sum(function() * dout)`` with respect to an array, by central differences."""
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
    """Assert that a student's array is the expected one; its name."""
    assert found is not None, f"{name} is None; is there a return?"
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    assert found.shape == expected.shape, f"{name} has shape {found.shape}; expected {expected.shape}"
    off = np.abs(found - expected)
    place = np.unravel_index(off.argmax(), off.shape)  # of a value that is no number, if there is one
    where = f" at {tuple(map(int, place))}" if place else ""
    assert off[place] <= tolerance, f"{name} is {found[place]:.6g}{where}, where {expected[place]:.6g} is right"
    return name


def _giving(expected, function):
    """A student's function; what it returns has to be a tuple of as many values as expected."""

    @functools.wraps(function)
    def run(*args, **options):
        found = function(*args, **options)
        several = isinstance(found, tuple | list)
        said = f"{len(found)} values" if several else type(found).__name__ if found is not None else "None"
        fits = several and len(found) == expected.count(",") + 1
        assert fits, f"{function.__name__} returns {said}; expected {expected}"
        return found

    return run


@contextlib.contextmanager
def _unchanged(of, **arrays):
    """Assert that the block leaves arrays as they are."""
    before = {name: array.copy() for name, array in arrays.items()}
    yield
    for name, array in arrays.items():
        assert np.array_equal(array, before[name]), f"the {of} pass changes {name}; work on a copy"


def _reported(check):
    """A check that yields the names of what is right prints them in one line, before an error too."""

    @functools.wraps(check)
    def run(*args, **options):
        right = []
        try:
            for name in check(*args, **options):
                right.append(name)  # one by one: an error keeps those before it
        finally:
            if right:
                print(f"Right: {'; '.join(right)}.")

    return run


def _gradients(found, arrays, forward, dout, tolerance=1e-6):
    """Each gradient of ``forward()`` against central differences in its array."""
    with _unchanged("forward", **arrays):
        kind = np.asarray(forward()).dtype  # differences this small drown in the rounding of float32
    assert kind == np.float64, f"the forward pass makes {kind} of float64; keep the type of x, small steps need it"
    for (name, array), gradient in zip(arrays.items(), found, strict=True):
        yield close(f"gradient d{name}", gradient, numerical_gradient(forward, array, dout), tolerance)


@_reported
def fields(first_field, second_field, fields_with_strides, field_of_layer, two_ways):
    """Question 1: cases that can be counted on a drawing."""
    yield close("(a)", first_field(3), 3)
    yield close("(b)", second_field(3, 3), 5)
    yield close("(c)", fields_with_strides(3, 3, 2, 1), (3, 7))
    for k, expected in ((1, 3), (2, 7), (3, 31)):
        yield close(f"(d), layer {k} of three", field_of_layer(k, [3, 3, 5], [2, 3, 1]), expected)
    kernels, strides = [3, 3, 3], [1, 2, 1]
    ways = _giving("two pairs (kernels, strides)", two_ways)(list(kernels), list(strides))
    pairs = all(isinstance(way, tuple | list) and len(way) == 2 for way in ways)
    assert pairs, f"(e) gives {ways!r:.80}; expected two pairs (kernels, strides)"
    different_ways(ways, kernels, strides, field_of_layer)
    yield "(e)"


def different_ways(ways, kernels, strides, field_of_layer):
    """Assert that two networks see more than one before them (its last stride 1), by ways of different kinds."""
    before, kinds = field_of_layer(len(kernels), kernels, strides), set()
    for ks, ss in ways:
        assert len(ks) == len(ss), f"(e) has {len(ks)} kernels and {len(ss)} strides; expected one of each per layer"
        after = field_of_layer(len(ks), list(ks), list(ss))
        assert after > before, f"(e) kernels {ks}, strides {ss} see {after}, not more than {before}"
        longer = len(ks) > len(kernels)
        # a stride acts on the layers above it; that of an added layer, such as a pool, is meant for those to come
        kinds.add((longer, math.prod(ss if longer else ss[:-1]) > math.prod(strides[:-1])))
    assert len(kinds) == 2, "(e) both networks are changed in the same way; use two different ways"


@_reported
def convolution(conv_forward, conv_backward):
    """Question 2: a convolution by hand, and its gradients against central differences."""
    conv_forward = _giving("(out, cache)", conv_forward)
    conv_backward = _giving("(dx, dw, db)", conv_backward)
    x, w = np.arange(9.0).reshape(1, 1, 3, 3), np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    yield close("convolution by hand", conv_forward(x, w, np.array([0.5]))[0], np.full((1, 1, 2, 2), -3.5))
    random = np.random.default_rng(0)
    x, w, b = (random.normal(size=shape) for shape in ((2, 3, 6, 5), (2, 3, 3, 3), (2,)))
    options = {"stride": 2, "padding": 1}
    out, cache = conv_forward(x, w, b, **options)
    dout = random.normal(size=(2, 2, 3, 3))
    yield close("shape of the output", np.zeros(np.shape(out)), np.zeros(dout.shape))
    with _unchanged("backward", dout=dout, x=x, w=w):
        found, arrays = conv_backward(dout, cache), {"x": x, "w": w, "b": b}
    yield from _gradients(found, arrays, lambda: conv_forward(x, w, b, **options)[0], dout)
    x, w = np.arange(20.0).reshape(1, 1, 4, 5), np.array([[[[1.0, 0.0], [0.0, -1.0]]]])
    out, _ = conv_forward(x, w, np.zeros(1), stride=(1, 2), dilation=(2, 1))
    yield close("stride and dilation by hand, one number per axis", out, np.full((1, 1, 2, 2), -11.0))
    out, _ = conv_forward(x, w, np.zeros(1), padding=(0, 1))
    yield close("padding by hand, one number per axis", out[0, 0, 0], [-5, -6, -6, -6, -6, 4])


@_reported
def pooling(max_pool_forward, max_pool_backward):
    """Question 2: a max-pool by hand, and its gradient against central differences."""
    max_pool_forward = _giving("(out, cache)", max_pool_forward)
    x = np.array([[1.0, 5, 2, 0], [3, 4, 8, 7], [0, 1, 2, 3], [9, 6, 5, 4]])[None, None]
    yield close("max-pool by hand", max_pool_forward(x, size=2)[0], [[[[5, 8], [9, 5]]]])
    out, _ = max_pool_forward(x, size=(2, 3), stride=(2, 1))
    yield close("max-pool by hand, one number per axis", out, [[[[8, 8], [9, 6]]]])
    x, dout = np.random.default_rng(1).normal(size=(2, 2, 5, 5)), np.random.default_rng(2).normal(size=(2, 2, 2, 2))
    with _unchanged("forward", x=x):
        out, cache = max_pool_forward(x, size=3, stride=2)
    yield close("shape of the output", np.zeros(np.shape(out)), np.zeros(dout.shape))
    with _unchanged("backward", dout=dout):
        found = [max_pool_backward(dout, cache)]
    for name in _gradients(found, {"x": x}, lambda: max_pool_forward(x, size=3, stride=2)[0], dout):
        yield f"{name}, overlapping windows"
    _, cache = max_pool_forward(np.ones((1, 1, 2, 4)), size=2)
    first = np.array([[[[5.0, 0, 7, 0], [0, 0, 0, 0]]]])
    yield close("gradient dx, equal values: the first one", max_pool_backward(np.array([[[[5.0, 7]]]]), cache), first)


@_reported
def batchnorm(spatial_batchnorm_forward, spatial_batchnorm_backward):
    """Question 3: normalised statistics, running statistics, and gradients against central differences."""
    spatial_batchnorm_forward = _giving("(out, cache)", spatial_batchnorm_forward)
    spatial_batchnorm_backward = _giving("(dx, dgamma, dbeta)", spatial_batchnorm_backward)
    random = np.random.default_rng(3)
    x, gamma, beta, running = 2 + 3 * random.normal(size=(4, 3, 3, 3)), np.ones(3), np.zeros(3), {}
    with _unchanged("forward", x=x):
        out, _ = spatial_batchnorm_forward(x, gamma, beta, running, train=True)
    yield close("mean of the output", np.mean(out, (0, 2, 3)), np.zeros(3))
    yield close("deviation of the output", np.std(out, (0, 2, 3)), np.ones(3), 1e-4)
    for name in ("mean", "var"):
        assert name in running, f"running has no {name!r} after training: change the mapping given, do not replace it"
    yield close("running mean after a batch", running["mean"], 0.1 * x.mean((0, 2, 3)))
    yield close("running variance after a batch", running["var"], 0.9 + 0.1 * x.var((0, 2, 3)), 0.1)  # also if unbiased
    kept = {"mean": np.array([1.0, 2.0, 3.0]), "var": np.array([3.0, 8.0, 15.0])}
    here = {name: value.copy() for name, value in kept.items()}
    out, _ = spatial_batchnorm_forward(x, gamma, beta, here, train=False, eps=1.0)
    shifted, deviation = x - kept["mean"][None, :, None, None], np.array([2.0, 3.0, 4.0])
    yield close("output in evaluation, eps = 1", out, shifted / deviation[None, :, None, None])
    yield close("running mean after evaluation", here["mean"], kept["mean"])
    gamma, beta, dout = random.normal(size=3), random.normal(size=3), random.normal(size=x.shape)

    for mode, train in (("training", True), ("evaluation", False)):

        def forward(train=train):
            return spatial_batchnorm_forward(x, gamma, beta, dict(kept), train=train, eps=0.5)

        cache = forward()[1]
        with _unchanged("backward", dout=dout):
            found = spatial_batchnorm_backward(dout, cache)
        arrays = {"x": x, "gamma": gamma, "beta": beta}
        for name in _gradients(found, arrays, lambda: forward()[0], dout, 1e-5):
            yield f"{name} in {mode}"


@_reported
def network(three_layers):
    """Question 4: loss and gradients of a three-layer network."""
    random = np.random.default_rng(4)
    small = {"filters": 2, "kernel": 3, "hidden": 5, "dtype": np.float64}
    shapes = {"w1": (2, 3, 3, 3), "b1": (2,), "w2": (18, 5), "b2": (5,), "w3": (5, 3), "b3": (3,)}
    x, labels = random.normal(size=(4, 3, 6, 6)), np.array([0, 1, 2, 1])
    net = three_layers((3, 6, 6), 3, weight_scale=1e-4, **small)
    found = {name: np.shape(array) for name, array in net.parameters.items()}
    assert found == shapes, f"parameters have names and shapes {found}; expected {shapes}"
    for name, array in net.parameters.items():
        assert array.dtype == np.float64, f"parameter {name} is {array.dtype}; expected the dtype asked for, float64"
    scores = net.scores(x)
    assert isinstance(scores, tuple), f"scores(x) gives {type(scores).__name__}; expected a tuple (scores, cache)"
    yield close("loss of a network that knows nothing, log 3", net.loss(x, labels)[0], np.log(3), 1e-3)
    net, wrong = three_layers((3, 6, 6), 3, decay=0.1, **small), []
    _, gradients = net.loss(x, labels)
    assert set(gradients) >= set(shapes), f"gradients are of {', '.join(gradients)}; expected {', '.join(shapes)}"
    for name, array in reversed(net.parameters.items()):  # an error in a layer spoils those below it
        expected = numerical_gradient(lambda: np.asarray(net.loss(x, labels)[0]), array, np.asarray(1.0))
        try:
            yield close(f"gradient of {name}", gradients[name], expected, 1e-5)
        except AssertionError as error:
            wrong.append(str(error))
    assert not wrong, "\n".join(wrong)
    squares = sum((net.parameters[name] ** 2).sum() for name in ("w1", "w2", "w3"))
    plain = three_layers((3, 6, 6), 3, **small)
    for name, array in plain.parameters.items():
        array[...] = net.parameters[name]
    yield close("weight decay in the loss", net.loss(x, labels)[0] - plain.loss(x, labels)[0], 0.05 * squares)
    yield close("the network itself, entry by entry", plain.scores(x)[0], _scores(plain.parameters, x))


def _scores(p, x):
    """Scores of the three layers written out, one place after the other."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    maps = np.stack([
        [(padded[:, :, i : i + 3, j : j + 3, None] * p["w1"].transpose(1, 2, 3, 0)).sum((1, 2, 3)) for j in range(6)]
        for i in range(6)
    ])  # fmt: skip
    maps = np.maximum(maps + p["b1"], 0).transpose(2, 3, 0, 1)  # (N, F, H, W)
    pooled = maps.reshape(len(x), 2, 3, 2, 3, 2).max((3, 5))
    hidden = np.maximum(pooled.reshape(len(x), -1) @ p["w2"] + p["b2"], 0)
    return hidden @ p["w3"] + p["b3"]


def held_out(network, images, labels, *, least=90):
    """Question 4: a network of one's own on images it was not trained on."""
    assert not isinstance(network, type), f"{network.__name__} is a class; make a network of it and train that"
    scores = np.asarray(network.scores(images)[0])
    assert scores.shape[:1] == labels.shape, f"scores(x)[0] has shape {scores.shape}; expected ({len(labels)}, classes)"
    right = 100 * (scores.argmax(1) == labels).mean()
    assert right >= least, f"{right:.1f} % of the held-out images are right; {least} % are asked for"
    print(f"{right:.1f} % of the held-out images are right, {least} % are asked for: enough")
    dimensions = sorted(np.ndim(weights) for weights in network.parameters.values() if np.size(weights) > 1)
    if dimensions == sorted(THREE_LAYERS):
        print("It has the parameters of ThreeLayerConvNet: see that it computes something else, or it does not count.")
