"""Networks of the homework on `numpy_layers`: numpy only."""

from functools import partial

import numpy as np

from rfkit import numpy_layers as nl


class ThreeLayerConvNet:
    """Convolution, ReLU, 2x2 max-pool, affine, ReLU, affine, softmax.

    Args:
        shape: Channels, height and width of the images; even height and width.
        classes: Outputs.
        filters: Filters of the convolution.
        kernel: Side of its filters, odd; padding keeps the size.
        hidden: Units of the first affine layer.
        weight_scale: Standard deviation of the initial weights, which are normal with mean 0 (biases are 0); ``None``
            for He's, ``sqrt(2 / fan_in)``, where ``fan_in`` is the number of inputs of a unit.
        decay: Coefficient of ``0.5 * ||w||^2`` over all weights, not biases.
        seed: Seed of the initial weights.
        dtype: Type of the weights.

    Attributes:
        parameters: Mapping of name to array, changed in place by an optimiser: ``w1`` (filters, C, kernel, kernel),
            ``b1`` (filters,), ``w2`` (filters * H/2 * W/2, hidden), its rows in the order channel, row, column, ``b2``
            (hidden,), ``w3`` (hidden, classes) and ``b3`` (classes,).

    Source: UCLA ECE C147 homework 5, question 4.
    """

    def __init__(
        self, shape=(3, 32, 32), classes=10, *, filters=32, kernel=7, hidden=100,
        weight_scale=None, decay=0.0, seed=0, dtype=np.float32,
    ):  # fmt: skip
        channels, height, width = shape
        nl.require(kernel % 2 == 1, f"kernel is {kernel}; expected an odd side, so that padding keeps the size")
        nl.require(height % 2 == 0 and width % 2 == 0, f"images of {height}x{width}; the 2x2 pool needs even sides")
        self.decay, self.padding = decay, kernel // 2
        flat = filters * (height // 2) * (width // 2)
        made = partial(_weights, np.random.default_rng(seed), weight_scale, dtype)
        self.parameters = {
            "w1": made(filters, channels, kernel, kernel),
            "b1": np.zeros(filters, dtype),
            "w2": made(flat, hidden),
            "b2": np.zeros(hidden, dtype),
            "w3": made(hidden, classes),
            "b3": np.zeros(classes, dtype),
        }

    def scores(self, x, *, train=False):
        """Scores (N, classes) of images (N, C, H, W), and whatever the gradients need: a tuple of the two.

        `train` is for networks with layers such as batch norm; this one has none.
        """
        p = self.parameters
        out, conv = nl.conv_forward(x, p["w1"], p["b1"], padding=self.padding)
        out, relu1 = nl.relu_forward(out)
        out, pool = nl.max_pool_forward(out, size=2)
        out, affine1 = nl.affine_forward(out, p["w2"], p["b2"])
        out, relu2 = nl.relu_forward(out)
        out, affine2 = nl.affine_forward(out, p["w3"], p["b3"])
        return out, (conv, relu1, pool, affine1, relu2, affine2)

    def loss(self, x, labels):
        """Mean cross-entropy with its decay, and a mapping of names as in `parameters` to gradients: a tuple."""
        out, caches = self.scores(x, train=True)
        conv, relu1, pool, affine1, relu2, affine2 = caches
        loss, upstream = nl.softmax_loss(out, labels)
        grads = {}
        upstream, grads["w3"], grads["b3"] = nl.affine_backward(upstream, affine2)
        upstream = nl.relu_backward(upstream, relu2)
        upstream, grads["w2"], grads["b2"] = nl.affine_backward(upstream, affine1)
        upstream = nl.relu_backward(nl.max_pool_backward(upstream, pool), relu1)
        _, grads["w1"], grads["b1"] = nl.conv_backward(upstream, conv)
        for name in ("w1", "w2", "w3"):
            loss += 0.5 * self.decay * float((self.parameters[name] ** 2).sum())
            grads[name] = grads[name] + self.decay * self.parameters[name]
        return float(loss), grads


class DeepConvNet:
    """Blocks of convolution 3x3, spatial batch norm and ReLU, a 2x2 max-pool between stages, global mean, affine.

    Args:
        shape: Channels, height and width of the images.
        classes: Outputs.
        stages: Filters of the blocks of each stage.
        seed: Seed of the initial weights.
        dtype: Type of the weights.

    Attributes:
        parameters: Mapping of name to array.
        running: Mapping of batch norm's name to its running statistics.

    Raises:
        ValueError: If the images are too small for so many pools.
    """

    def __init__(
        self, shape=(3, 32, 32), classes=10, *, stages=((32, 32), (64, 64), (128, 128)), seed=0, dtype=np.float32
    ):
        channels, height, width = shape
        least = 2 ** (len(stages) - 1)
        nl.require(min(height, width) >= least, f"images of {height}x{width}; {len(stages)} stages need {least} a side")
        rng = np.random.default_rng(seed)
        self.stages, self.parameters, self.running = stages, {}, {}
        for block, filters in enumerate(f for stage in stages for f in stage):
            self.parameters[f"w{block}"] = _weights(rng, None, dtype, filters, channels, 3, 3)
            self.parameters[f"gamma{block}"] = np.ones(filters, dtype)
            self.parameters[f"beta{block}"] = np.zeros(filters, dtype)
            self.running[block] = {}
            channels = filters
        self.parameters["w"] = _weights(rng, None, dtype, channels, classes)
        self.parameters["b"] = np.zeros(classes, dtype)

    def scores(self, x, *, train=False):
        """Class scores."""
        p, caches, block = self.parameters, [], 0
        for i, stage in enumerate(self.stages):
            if i:
                x, cache = nl.max_pool_forward(x, size=2)
                caches.append(("pool", cache))
            for filters in stage:
                x, conv = nl.conv_forward(x, p[f"w{block}"], np.zeros(filters, x.dtype), padding=1)
                scale, shift = p[f"gamma{block}"], p[f"beta{block}"]
                x, norm = nl.spatial_batchnorm_forward(x, scale, shift, self.running[block], train=train)
                x, relu = nl.relu_forward(x)
                caches.append((block, (conv, norm, relu)))
                block += 1
        out, affine = nl.affine_forward(x.mean((2, 3)), p["w"], p["b"])
        return out, (caches, x.shape, affine)

    def loss(self, x, labels):
        """Loss and its gradients, as in `ThreeLayerConvNet.loss`."""
        out, (caches, size, affine) = self.scores(x, train=True)
        loss, upstream = nl.softmax_loss(out, labels)
        grads = {}
        upstream, grads["w"], grads["b"] = nl.affine_backward(upstream, affine)
        upstream = np.broadcast_to(upstream[:, :, None, None] / (size[2] * size[3]), size)
        for block, cache in reversed(caches):
            if block == "pool":
                upstream = nl.max_pool_backward(upstream, cache)
                continue
            conv, norm, relu = cache
            upstream = nl.relu_backward(upstream, relu)
            upstream, grads[f"gamma{block}"], grads[f"beta{block}"] = nl.spatial_batchnorm_backward(upstream, norm)
            upstream, grads[f"w{block}"], _ = nl.conv_backward(upstream, conv)
        return float(loss), grads


def _weights(random, scale, dtype, *shape):
    fan_in = shape[0] if len(shape) == 2 else np.prod(shape[1:])
    scale = np.sqrt(2 / fan_in) if scale is None else scale
    return (random.normal(size=shape) * scale).astype(dtype)
