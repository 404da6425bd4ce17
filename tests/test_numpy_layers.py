"""Every layer, both methods, against torch autograd in float64 and against central differences."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rfkit import numpy_layers as nl


def tensors(*arrays):
    return [torch.from_numpy(a).requires_grad_() for a in arrays]


def central(f, x, dout, h=1e-6):
    """Numerical gradient of sum(f(x) * dout)."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        old = x[index]
        x[index] = old + h
        above = (f(x) * dout).sum()
        x[index] = old - h
        gradient[index] = (above - (f(x) * dout).sum()) / (2 * h)
        x[index] = old
    return gradient


sides = st.integers(1, 3)


@pytest.mark.parametrize("method", nl.METHODS)
@given(st.tuples(sides, sides, st.integers(1, 7), st.integers(1, 7), sides), st.tuples(sides, sides),
       st.tuples(sides, sides), st.tuples(st.integers(0, 2), st.integers(0, 2)), st.tuples(sides, sides),
       st.integers(0, 999))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_convolution(method, shape, kernel, stride, padding, dilation, seed):
    n, c, h, w, f = shape
    assume(all(s + 2 * p > d * (k - 1) for s, k, p, d in zip((h, w), kernel, padding, dilation, strict=True)))
    random = np.random.default_rng(seed)
    x, weights, b = random.normal(size=(n, c, h, w)), random.normal(size=(f, c, *kernel)), random.normal(size=f)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    out, cache = nl.conv_forward(x, weights, b, method=method, **options)
    tx, tw, tb = tensors(x, weights, b)
    expected = F.conv2d(tx, tw, tb, **options)
    dout = random.normal(size=out.shape)
    assert np.abs(out - expected.detach().numpy()).max() <= 1e-9
    expected.backward(torch.from_numpy(dout))
    for ours, theirs in zip(nl.conv_backward(dout, cache), (tx, tw, tb), strict=True):
        assert ours.shape == theirs.shape and np.abs(ours - theirs.grad.numpy()).max() <= 1e-9


@pytest.mark.parametrize("method", nl.METHODS)
@given(st.tuples(sides, sides, st.integers(1, 8), st.integers(1, 8)), st.tuples(sides, sides), st.tuples(sides, sides),
       st.booleans(), st.integers(0, 999))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_max_pooling(method, shape, size, stride, ties, seed):
    assume(size[0] <= shape[2] and size[1] <= shape[3])
    random = np.random.default_rng(seed)
    x = random.integers(0, 3, shape).astype(float) if ties else random.normal(size=shape)
    out, cache = nl.max_pool_forward(x, size=size, stride=stride, method=method)
    (tx,) = tensors(x)
    expected = F.max_pool2d(tx, size, stride)
    dout = random.normal(size=out.shape)
    expected.backward(torch.from_numpy(dout))
    assert np.array_equal(out, expected.detach().numpy())
    assert np.abs(nl.max_pool_backward(dout, cache) - tx.grad.numpy()).max() <= 1e-9


@given(st.tuples(st.integers(1, 4), sides, st.integers(1, 5), st.integers(1, 5)), st.booleans(), st.integers(0, 999))
@settings(max_examples=200, deadline=None)
def test_spatial_batch_norm(shape, train, seed):
    assume(not train or shape[0] * shape[2] * shape[3] > 1)
    random, c = np.random.default_rng(seed), shape[1]
    x, gamma, beta = 3 + 2 * random.normal(size=shape), random.normal(size=c), random.normal(size=c)
    running = {"mean": random.normal(size=c), "var": random.uniform(0.5, 2, c)}
    before = {key: value.copy() for key, value in running.items()}
    out, cache = nl.spatial_batchnorm_forward(x, gamma, beta, running, train=train)
    tx, tg, tb = tensors(x, gamma, beta)
    mean, var = (torch.from_numpy(before[key].copy()) for key in ("mean", "var"))
    expected = F.batch_norm(tx, mean, var, tg, tb, training=train, momentum=0.1)
    assert np.abs(out - expected.detach().numpy()).max() <= 1e-9
    dout = random.normal(size=shape)
    expected.backward(torch.from_numpy(dout))
    for ours, theirs in zip(nl.spatial_batchnorm_backward(dout, cache), (tx, tg, tb), strict=True):
        assert np.abs(ours - theirs.grad.numpy()).max() <= 1e-9 * max(1, np.abs(ours).max())
    if train:
        assert running["mean"] == pytest.approx(mean.numpy())  # torch's variance is the unbiased one
        assert running["var"] == pytest.approx(0.9 * before["var"] + 0.1 * x.var((0, 2, 3)))
    else:
        assert all(np.array_equal(running[key], before[key]) for key in before)


def test_affine_relu_and_softmax():
    random = np.random.default_rng(0)
    x, w, b = random.normal(size=(6, 2, 3, 2)), random.normal(size=(12, 5)), random.normal(size=5)
    labels = np.arange(6) % 5
    hidden, affine_cache = nl.affine_forward(x, w, b)
    active, relu_cache = nl.relu_forward(hidden)
    loss, dscores = nl.softmax_loss(active, labels)
    gradients = nl.affine_backward(nl.relu_backward(dscores, relu_cache), affine_cache)
    tx, tw, tb = tensors(x, w, b)
    expected = F.cross_entropy(F.relu(tx.flatten(1) @ tw + tb), torch.from_numpy(labels))
    expected.backward()
    assert loss == pytest.approx(expected.item(), abs=1e-9)
    for ours, theirs in zip(gradients, (tx, tw, tb), strict=True):
        assert np.abs(ours - theirs.grad.numpy()).max() <= 1e-9
    assert np.isfinite(nl.softmax_loss(np.array([[1e4, -1e4]]), np.array([1]))[0])


@pytest.mark.parametrize("method", nl.METHODS)
def test_central_differences(method):
    random = np.random.default_rng(1)
    x, w, b = random.normal(size=(2, 2, 5, 4)), random.normal(size=(3, 2, 3, 2)), random.normal(size=3)
    options = {"stride": (2, 1), "padding": 1, "dilation": (1, 2), "method": method}
    out, cache = nl.conv_forward(x, w, b, **options)
    dout = random.normal(size=out.shape)
    dx, dw, db = nl.conv_backward(dout, cache)
    assert np.abs(dx - central(lambda a: nl.conv_forward(a, w, b, **options)[0], x, dout)).max() <= 1e-6
    assert np.abs(dw - central(lambda a: nl.conv_forward(x, a, b, **options)[0], w, dout)).max() <= 1e-6
    assert np.abs(db - central(lambda a: nl.conv_forward(x, w, a, **options)[0], b, dout)).max() <= 1e-6
    out, cache = nl.max_pool_forward(x, size=2, stride=1, method=method)
    dout = random.normal(size=out.shape)
    numerical = central(lambda a: nl.max_pool_forward(a, size=2, stride=1, method=method)[0], x, dout)
    assert np.abs(nl.max_pool_backward(dout, cache) - numerical).max() <= 1e-6


@pytest.mark.parametrize("train", [True, False])
def test_central_differences_of_batch_norm(train):
    random = np.random.default_rng(2)
    x, gamma, beta = random.normal(size=(2, 2, 5, 4)), random.normal(size=2), random.normal(size=2)
    running = {"mean": random.normal(size=2), "var": random.uniform(1, 2, 2)}

    def forward(a, scale=gamma, shift=beta):
        return nl.spatial_batchnorm_forward(a, scale, shift, dict(running), train=train)

    out, cache = forward(x)
    dout = random.normal(size=out.shape)
    dx, dgamma, dbeta = nl.spatial_batchnorm_backward(dout, cache)
    assert np.abs(dx - central(lambda a: forward(a)[0], x, dout)).max() <= 1e-6
    assert np.abs(dgamma - central(lambda a: forward(x, a)[0], gamma, dout)).max() <= 1e-6
    assert np.abs(dbeta - central(lambda a: forward(x, gamma, a)[0], beta, dout)).max() <= 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_stays(dtype):
    x, w, b = np.ones((2, 3, 6, 6), dtype), np.ones((4, 3, 3, 3), dtype), np.ones(4, dtype)
    for method in nl.METHODS:
        out, cache = nl.conv_forward(x, w, b, method=method)
        assert {a.dtype for a in (out, *nl.conv_backward(out, cache))} == {np.dtype(dtype)}
        out, cache = nl.max_pool_forward(x, size=2, method=method)
        assert out.dtype == nl.max_pool_backward(out, cache).dtype == dtype
    out, cache = nl.spatial_batchnorm_forward(x, b[:3], b[:3], {}, train=True)
    assert {a.dtype for a in (out, *nl.spatial_batchnorm_backward(out, cache))} == {np.dtype(dtype)}


def test_shape_mistakes_name_both_shapes():
    x, w, b = np.zeros((2, 3, 6, 6)), np.zeros((4, 2, 3, 3)), np.zeros(4)
    for call, message in (
        (lambda: nl.conv_forward(x, w, b), r"x has shape \(2, 3, 6, 6\), w \(4, 2, 3, 3\), b \(4,\); expected"),
        (lambda: nl.conv_forward(x, np.zeros((4, 3, 3, 3)), np.zeros(3)), r"b \(3,\); expected"),
        (
            lambda: nl.conv_forward(x, np.zeros((4, 3, 9, 9)), b),
            r"of shape \(2, 3, 6, 6\) is too small .* \(4, 3, 9, 9\)",
        ),
        (lambda: nl.conv_forward(x, w, b, method="slow"), "method is 'slow'; expected 'fast' or 'naive'"),
        (lambda: nl.max_pool_forward(x, size=7), r"window of \(7, 7\) is larger than x of shape \(2, 3, 6, 6\)"),
        (lambda: nl.affine_forward(x, np.zeros((5, 2)), np.zeros(2)), r"flattened \(2, 108\); w has \(5, 2\)"),
        (lambda: nl.spatial_batchnorm_forward(x, b, b, {}, train=True), r"gamma \(4,\), beta \(4,\), x \(2, 3, 6, 6\)"),
        (lambda: nl.softmax_loss(np.zeros((2, 3)), np.zeros(3, int)), r"scores \(2, 3\), labels \(3,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    out, cache = nl.conv_forward(x, np.zeros((4, 3, 3, 3)), b)
    with pytest.raises(ValueError, match=r"dout has shape \(2, 4, 3, 3\); the output has \(2, 4, 4, 4\)"):
        nl.conv_backward(out[:, :, :3, :3], cache)
