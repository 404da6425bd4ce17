"""The layers of the homework in numpy: forward and backward passes, as loops and as matrix products.

Arrays are (N, C, H, W), float32 or float64; every backward pass takes the upstream gradient and the cache of its
forward pass. ``method="naive"`` reads like the formula, ``method="fast"`` has no loop over pixels or images.

Source: UCLA ECE C147 homework 5, questions 2 and 3.
"""

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

METHODS = ("fast", "naive")


def require(condition, message):
    """Refuse what does not hold, as a `ValueError` that says what was found and what was expected."""
    if not condition:
        raise ValueError(message)


def _pair(value):
    return (value, value) if isinstance(value, int | np.integer) else tuple(value)


def conv_forward(x, w, b, *, stride=1, padding=0, dilation=1, method="fast"):
    """Two-dimensional convolution (cross-correlation, as in every deep-learning library).

    Args:
        x: Images (N, C, H, W).
        w: Filters (F, C, kh, kw).
        b: Biases (F,).
        stride: Step, one number or one per axis (rows, columns).
        padding: Zeros on each side, one number or one per axis (rows, columns).
        dilation: Distance of neighbouring taps, one number or one per axis (rows, columns).
        method: ``"fast"`` or ``"naive"``, of the backward pass as well.

    Returns:
        (out, cache): maps (N, F, H', W') with ``H' = floor((H + 2p - d(kh - 1) - 1) / s) + 1``, and what
        `conv_backward` needs.

    Raises:
        ValueError: If shapes do not fit each other; the message has both.
    """
    require(method in METHODS, f"method is {method!r}; expected 'fast' or 'naive'")
    fit = x.ndim == w.ndim == 4 and x.shape[1] == w.shape[1] and b.shape == w.shape[:1]
    require(fit, f"x has shape {x.shape}, w {w.shape}, b {b.shape}; expected (N, C, H, W), (F, C, kh, kw), (F,)")
    stride, padding, dilation = _pair(stride), _pair(padding), _pair(dilation)
    require(min(stride) >= 1 and min(dilation) >= 1 and min(padding) >= 0,
           f"stride {stride}, padding {padding}, dilation {dilation}; expected at least 1, 0 and 1")  # fmt: skip
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    seen = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    size = [(n - m) // s + 1 for n, m, s in zip(padded.shape[2:], seen, stride, strict=True)]
    require(min(size) >= 1, f"x of shape {x.shape} is too small for filters of shape {w.shape}: the output is empty")
    forward = _conv_forward_fast if method == "fast" else _conv_forward_naive
    out, columns = forward(padded, w, b, size, stride, dilation)
    return out, (out.shape, padded, columns, w, stride, padding, dilation, method)


def _conv_forward_naive(x, w, b, size, stride, dilation):
    out = np.zeros((len(x), len(w), *size), x.dtype)
    for n, f, i, j in np.ndindex(*out.shape):
        total = b[f]
        for c, u, v in np.ndindex(*w.shape[1:]):
            row = i * stride[0] + u * dilation[0]
            column = j * stride[1] + v * dilation[1]
            total += w[f, c, u, v] * x[n, c, row, column]
        out[n, f, i, j] = total
    return out, None


def _taps(x, kernel, size, stride, dilation):
    """View (N, C, kh, kw, H', W'): for each tap, the pixels it meets."""
    pixel = np.array(x.strides[2:])
    strides = (*x.strides[:2], *pixel * dilation, *pixel * stride)
    return as_strided(x, (*x.shape[:2], *kernel, *size), strides)


def _conv_forward_fast(x, w, b, size, stride, dilation):
    columns = _taps(x, w.shape[2:], size, stride, dilation)
    columns = columns.reshape(len(x), -1, size[0] * size[1])
    out = np.matmul(w.reshape(len(w), -1), columns)
    out += b[:, None]
    return out.reshape(len(x), len(w), *size), columns


def conv_backward(dout, cache):
    """Gradients of a convolution.

    Args:
        dout: Upstream gradient (N, F, H', W').
        cache: As made by `conv_forward`.

    Returns:
        (dx, dw, db), of the shapes of x, w and b.

    Raises:
        ValueError: If the upstream gradient does not have the shape of the output.
    """
    shape, padded, columns, w, stride, (top, left), dilation, method = cache
    require(dout.shape == shape, f"dout has shape {dout.shape}; the output has {shape}")
    backward = _conv_backward_fast if method == "fast" else _conv_backward_naive
    dpadded, dw, db = backward(dout, padded, columns, w, stride, dilation)
    return dpadded[:, :, top : padded.shape[2] - top, left : padded.shape[3] - left], dw, db


def _conv_backward_naive(dout, x, _, w, stride, dilation):
    dx, dw, db = np.zeros_like(x), np.zeros_like(w), np.zeros(len(w), w.dtype)
    for n, f, i, j in np.ndindex(*dout.shape):
        upstream = dout[n, f, i, j]
        db[f] += upstream
        for c, u, v in np.ndindex(*w.shape[1:]):
            row = i * stride[0] + u * dilation[0]
            column = j * stride[1] + v * dilation[1]
            dw[f, c, u, v] += upstream * x[n, c, row, column]
            dx[n, c, row, column] += upstream * w[f, c, u, v]
    return dx, dw, db


def _conv_backward_fast(dout, x, columns, w, stride, dilation):
    flat = dout.reshape(*dout.shape[:2], -1)
    dw = np.matmul(flat, columns.transpose(0, 2, 1)).sum(0).reshape(w.shape)
    dcolumns = np.matmul(w.reshape(len(w), -1).T, flat)
    dcolumns = dcolumns.reshape(len(x), *w.shape[1:], *dout.shape[2:])
    dx = np.zeros_like(x)
    taps = _taps(dx, w.shape[2:], dout.shape[2:], stride, dilation)
    for u, v in np.ndindex(*w.shape[2:]):  # taps may share pixels: one by one
        taps[:, :, u, v] += dcolumns[:, :, u, v]
    return dx, dw, flat.sum((0, 2))


def max_pool_forward(x, *, size, stride=None, method="fast"):
    """Maximum over windows.

    Args:
        x: Maps (N, C, H, W).
        size: Side of the window, one number or one per axis (rows, columns).
        stride: Step, one number or one per axis; by default the size.
        method: ``"fast"`` or ``"naive"``.

    Returns:
        (out, cache): maps (N, C, H', W') with ``H' = floor((H - size) / stride) + 1``, and what `max_pool_backward`
        needs.

    Raises:
        ValueError: If the window is larger than the map.
    """
    require(method in METHODS, f"method is {method!r}; expected 'fast' or 'naive'")
    require(x.ndim == 4, f"x has shape {x.shape}; expected (N, C, H, W)")
    size, stride = _pair(size), _pair(size if stride is None else stride)
    require(min(*size, *stride) >= 1, f"size {size}, stride {stride}; expected at least 1")
    require(size[0] <= x.shape[2] and size[1] <= x.shape[3], f"window of {size} is larger than x of shape {x.shape}")
    windows = sliding_window_view(x, size, axis=(2, 3))
    windows = windows[:, :, :: stride[0], :: stride[1]]
    if method == "naive":
        out = np.empty(windows.shape[:4], x.dtype)
        chosen = np.empty(out.shape, np.intp)
        for place in np.ndindex(*out.shape):
            chosen[place] = np.argmax(windows[place])
            out[place] = windows[place].flat[chosen[place]]
    else:
        windows = windows.reshape(*windows.shape[:4], -1)
        chosen = windows.argmax(-1)
        out = np.take_along_axis(windows, chosen[..., None], -1)[..., 0]
    return out, (x.shape, chosen, size, stride, method)


def max_pool_backward(dout, cache):
    """Gradient of max-pooling: it goes to the pixel that was the maximum, the first one of equal ones.

    Args:
        dout: Upstream gradient (N, C, H', W').
        cache: As made by `max_pool_forward`.

    Returns:
        dx (N, C, H, W); where windows overlap, gradients add up.

    Raises:
        ValueError: If the upstream gradient does not have the shape of the output.
    """
    shape, chosen, size, stride, method = cache
    require(dout.shape == chosen.shape, f"dout has shape {dout.shape}; the output has {chosen.shape}")
    dx = np.zeros(shape, dout.dtype)
    if method == "naive":
        for n, c, i, j in np.ndindex(*dout.shape):
            u, v = divmod(chosen[n, c, i, j], size[1])
            dx[n, c, i * stride[0] + u, j * stride[1] + v] += dout[n, c, i, j]
        return dx
    taps = _taps(dx, size, dout.shape[2:], stride, (1, 1))
    for u, v in np.ndindex(*size):
        taps[:, :, u, v] += np.where(chosen == u * size[1] + v, dout, 0)
    return dx


def spatial_batchnorm_forward(
    x, gamma, beta, running, *, train, eps=1e-5, momentum=0.9
):  # fmt: skip
    """Batch normalisation of maps: statistics of a channel over images and positions.

    Args:
        x: Maps (N, C, H, W).
        gamma: Scale (C,).
        beta: Shift (C,).
        running: Mapping with arrays ``mean`` and ``var`` (C,); in training they are replaced by
            ``momentum * running + (1 - momentum) * batch``. An empty one starts with mean 0 and variance 1.
        train: Normalise by the batch, and update `running`; else by `running`.
        eps: Added to the variance.
        momentum: Share of the old running statistics that stays.

    Returns:
        (out, cache): maps (N, C, H, W), and what `spatial_batchnorm_backward` needs.

    Raises:
        ValueError: If gamma or beta do not have one value per channel.

    Source: Ioffe & Szegedy (2015), Sec. 3.2.
    """
    require(x.ndim == 4, f"x has shape {x.shape}; expected (N, C, H, W)")
    channels = x.shape[1:2]
    require(gamma.shape == beta.shape == channels, f"gamma {gamma.shape}, beta {beta.shape}, x {x.shape}; not (C,)")
    old_mean = running.get("mean", np.zeros(channels, x.dtype))
    old_var = running.get("var", np.ones(channels, x.dtype))
    if train:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3))
        running["mean"] = momentum * old_mean + (1 - momentum) * mean
        running["var"] = momentum * old_var + (1 - momentum) * var
    else:
        mean, var = old_mean, old_var
    inverse = 1 / np.sqrt(var + eps)
    normalised = (x - _along(mean)) * _along(inverse)
    out = _along(gamma) * normalised + _along(beta)
    return out, (normalised, gamma, inverse, train)


def _along(values):
    return values[None, :, None, None]


def spatial_batchnorm_backward(dout, cache):
    """Gradients of spatial batch normalisation.

    Args:
        dout: Upstream gradient (N, C, H, W).
        cache: As made by `spatial_batchnorm_forward`; its mode decides whether the statistics depend on x.

    Returns:
        (dx, dgamma, dbeta).

    Raises:
        ValueError: If the upstream gradient does not have the shape of the output.
    """
    normalised, gamma, inverse, train = cache
    require(dout.shape == normalised.shape, f"dout has shape {dout.shape}; the output has {normalised.shape}")
    dgamma, dbeta = (dout * normalised).sum((0, 2, 3)), dout.sum((0, 2, 3))
    dx = dout
    if train:  # mean and variance move with x: take out what they absorb
        count = dout.size / dout.shape[1]
        dx = dout - _along(dbeta / count) - normalised * _along(dgamma / count)
    return _along(gamma * inverse) * dx, dgamma, dbeta


def affine_forward(x, w, b):
    """Fully connected layer.

    Args:
        x: Inputs (N, ...), flattened.
        w: Weights (D, M).
        b: Biases (M,).

    Returns:
        (out, cache): (N, M), and what `affine_backward` needs.

    Raises:
        ValueError: If shapes do not fit each other.
    """
    flat = x.reshape(len(x), -1)
    require(flat.shape[1] == w.shape[0] and b.shape == w.shape[1:],
           f"x has shape {x.shape}, flattened {flat.shape}; w has {w.shape} and b {b.shape}")  # fmt: skip
    return flat @ w + b, (x.shape, flat, w)


def affine_backward(dout, cache):
    """Gradients (dx, dw, db) of a fully connected layer, from the upstream gradient (N, M)."""
    shape, flat, w = cache
    return (dout @ w.T).reshape(shape), flat.T @ dout, dout.sum(0)


def relu_forward(x):
    """The positive part of an array of any shape: (out, cache)."""
    return np.maximum(x, 0), x > 0


def relu_backward(dout, cache):
    """Gradient dx of ReLU from the upstream gradient, of the same shape; 0 at 0."""
    return dout * cache


def softmax_loss(scores, labels):
    """Mean cross-entropy of softmax.

    Args:
        scores: (N, classes).
        labels: Class indices (N,).

    Returns:
        (loss, dscores).

    Raises:
        ValueError: If there is not one label per row.
    """
    require(scores.ndim == 2 and labels.shape == scores.shape[:1], f"scores {scores.shape}, labels {labels.shape}")
    shifted = scores - scores.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(scores))
    dscores = np.exp(log_probabilities)
    dscores[rows, labels] -= 1
    return -log_probabilities[rows, labels].mean(), dscores / len(scores)
