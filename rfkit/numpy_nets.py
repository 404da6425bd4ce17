"""Networks of the homework on `numpy_layers`, two optimisers and a small trainer: numpy only."""

from dataclasses import dataclass, field

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
        weight_scale: Standard deviation of the initial weights; ``None`` for He's, ``sqrt(2 / fan_in)``.
        decay: Coefficient of ``0.5 * ||w||^2`` over all weights, not biases.
        seed: Of the initial weights.
        dtype: Of the weights.

    Attributes:
        parameters: Mapping of name to array, changed in place by an optimiser.

    Source:
        UCLA ECE C147 homework 5, question 4.
    """

    def __init__(
        self, shape=(3, 32, 32), classes=10, *, filters=32, kernel=7, hidden=100, weight_scale=None, decay=0.0, seed=0,
        dtype=np.float32,
    ):  # fmt: skip
        channels, height, width = shape
        nl.require(kernel % 2 == 1, f"kernel is {kernel}; expected an odd side, so that padding keeps the size")
        nl.require(height % 2 == 0 and width % 2 == 0, f"images of {height}x{width}; the 2x2 pool needs even sides")
        self.decay, self.padding, random = decay, kernel // 2, np.random.default_rng(seed)
        flat = filters * (height // 2) * (width // 2)
        self.parameters = {
            "w1": _weights(random, (filters, channels, kernel, kernel), channels * kernel**2, weight_scale, dtype),
            "b1": np.zeros(filters, dtype),
            "w2": _weights(random, (flat, hidden), flat, weight_scale, dtype),
            "b2": np.zeros(hidden, dtype),
            "w3": _weights(random, (hidden, classes), hidden, weight_scale, dtype),
            "b3": np.zeros(classes, dtype),
        }

    def scores(self, x, *, train=False):
        """Class scores.

        Args:
            x: Images (N, C, H, W), normalised.
            train: Not used; this network is the same in training.

        Returns:
            (scores (N, classes), caches for `loss`).
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
        """Loss and its gradients.

        Args:
            x: Images (N, C, H, W), normalised.
            labels: Class indices (N,).

        Returns:
            (loss, gradients): number, and mapping of parameter name to array.
        """
        out, (conv, relu1, pool, affine1, relu2, affine2) = self.scores(x, train=True)
        loss, upstream = nl.softmax_loss(out, labels)
        grads = {}
        upstream, grads["w3"], grads["b3"] = nl.affine_backward(upstream, affine2)
        upstream = nl.relu_backward(upstream, relu2)
        upstream, grads["w2"], grads["b2"] = nl.affine_backward(upstream, affine1)
        upstream = nl.relu_backward(nl.max_pool_backward(upstream, pool), relu1)
        _, grads["w1"], grads["b1"] = nl.conv_backward(upstream, conv)
        return _decayed(loss, grads, self)


class DeepConvNet:
    """Blocks of convolution 3x3, spatial batch norm and ReLU, a 2x2 max-pool between stages, global mean, affine.

    Args:
        shape: Channels, height and width of the images.
        classes: Outputs.
        stages: Filters of the blocks of each stage.
        decay: As in `ThreeLayerConvNet`.
        seed: Of the initial weights.
        dtype: Of the weights.

    Attributes:
        parameters: Mapping of name to array.
        running: Mapping of batch norm's name to its running statistics.

    Raises:
        ValueError: If the images are too small for so many pools.
    """

    def __init__(
        self, shape=(3, 32, 32), classes=10, *, stages=((32, 32), (64, 64), (128, 128)), decay=0.0, seed=0,
        dtype=np.float32,
    ):  # fmt: skip
        least = 2 ** (len(stages) - 1)
        nl.require(
            min(shape[1:]) >= least, f"images of {shape[1]}x{shape[2]}; {len(stages)} stages need {least}x{least}"
        )
        random, channels = np.random.default_rng(seed), shape[0]
        self.decay, self.stages, self.parameters, self.running = decay, stages, {}, {}
        for block, filters in enumerate(f for stage in stages for f in stage):
            self.parameters[f"w{block}"] = _weights(random, (filters, channels, 3, 3), channels * 9, None, dtype)
            self.parameters[f"gamma{block}"] = np.ones(filters, dtype)
            self.parameters[f"beta{block}"] = np.zeros(filters, dtype)
            self.running[block] = {}
            channels = filters
        self.parameters["w"] = _weights(random, (channels, classes), channels, None, dtype)
        self.parameters["b"] = np.zeros(classes, dtype)

    def scores(self, x, *, train=False):
        """Class scores.

        Args:
            x: As in `ThreeLayerConvNet.scores`.
            train: Normalise by the batch, and update the running statistics.

        Returns:
            (scores (N, classes), caches for `loss`).
        """
        p, caches, block = self.parameters, [], 0
        for i, stage in enumerate(self.stages):
            if i:
                x, cache = nl.max_pool_forward(x, size=2)
                caches.append(("pool", cache))
            for filters in stage:
                x, conv = nl.conv_forward(x, p[f"w{block}"], np.zeros(filters, x.dtype), padding=1)
                x, norm = nl.spatial_batchnorm_forward(
                    x, p[f"gamma{block}"], p[f"beta{block}"], self.running[block], train=train
                )
                x, relu = nl.relu_forward(x)
                caches.append((block, (conv, norm, relu)))
                block += 1
        size = x.shape
        out, affine = nl.affine_forward(x.mean((2, 3)), p["w"], p["b"])
        return out, (caches, size, affine)

    def loss(self, x, labels):
        """Loss and its gradients, as in `ThreeLayerConvNet.loss`.

        Args:
            x: Images (N, C, H, W), normalised.
            labels: Class indices (N,).

        Returns:
            (loss, gradients).
        """
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
        return _decayed(loss, grads, self)


def _weights(random, shape, fan_in, scale, dtype):
    return (random.normal(size=shape) * (np.sqrt(2 / fan_in) if scale is None else scale)).astype(dtype)


def _decayed(loss, grads, net):
    for name, weights in net.parameters.items():
        if net.decay and name.startswith("w"):
            loss += 0.5 * net.decay * float((weights**2).sum())
            grads[name] = grads[name] + net.decay * weights
    return float(loss), grads


@dataclass
class Momentum:
    """Gradient descent with momentum.

    Attributes:
        lr: Learning rate; may be changed between steps.
        momentum: Share of the last step that is taken again.
        velocity: State, by parameter name.
    """

    lr: float = 0.01
    momentum: float = 0.9
    velocity: dict = field(default_factory=dict)

    def step(self, parameters, gradients):
        """One update, in place.

        Args:
            parameters: Mapping of name to array.
            gradients: The same.
        """
        for name, gradient in gradients.items():
            velocity = self.momentum * self.velocity.get(name, 0.0) - self.lr * gradient
            self.velocity[name] = velocity
            parameters[name] += velocity


@dataclass
class Adam:
    """Adam.

    Attributes:
        lr: Learning rate; may be changed between steps.
        beta1: Decay of the mean of the gradients.
        beta2: Decay of the mean of their squares.
        eps: Added to the denominator.
        steps: Steps taken.
        mean: State.
        square: State.

    Source:
        Kingma & Ba (2015), Algorithm 1.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    steps: int = 0
    mean: dict = field(default_factory=dict)
    square: dict = field(default_factory=dict)

    def step(self, parameters, gradients):
        """One update, in place.

        Args:
            parameters: Mapping of name to array.
            gradients: The same.
        """
        self.steps += 1
        for name, gradient in gradients.items():
            self.mean[name] = self.beta1 * self.mean.get(name, 0.0) + (1 - self.beta1) * gradient
            self.square[name] = self.beta2 * self.square.get(name, 0.0) + (1 - self.beta2) * gradient**2
            mean = self.mean[name] / (1 - self.beta1**self.steps)
            square = self.square[name] / (1 - self.beta2**self.steps)
            parameters[name] -= self.lr * mean / (np.sqrt(square) + self.eps)


def accuracy(net, x, labels, batch_size=250):
    """Share of images whose largest score is their label's.

    Args:
        net: `ThreeLayerConvNet` or `DeepConvNet`.
        x: Images (N, C, H, W), normalised.
        labels: Class indices (N,).
        batch_size: Images at a time.

    Returns:
        Percent, 0 to 100.
    """
    right = sum(
        int((net.scores(x[i : i + batch_size])[0].argmax(1) == labels[i : i + batch_size]).sum())
        for i in range(0, len(x), batch_size)
    )
    return 100 * right / len(x)


def train(
    net, x, labels, optimizer, *, epochs, batch_size=100, held_out=None, flip=False, cool=True, seed=0, report=None
):
    """Train a network in place.

    Args:
        net: `ThreeLayerConvNet` or `DeepConvNet`.
        x: Images (N, C, H, W), normalised.
        labels: Class indices (N,).
        optimizer: `Momentum` or `Adam`.
        epochs: Passes over the images.
        batch_size: Images a step.
        held_out: (images, labels) whose accuracy is measured after each epoch.
        flip: Mirror each image with probability one half.
        cool: Let the learning rate fall to zero along half a cosine.
        seed: Of the order and the mirroring.
        report: Called with each row of the history.

    Returns:
        List of mappings, one an epoch: epoch, loss (mean over its steps), accuracy (of held-out images, percent).
    """
    random, history, peak = np.random.default_rng(seed), [], optimizer.lr
    steps = epochs * -(-len(x) // batch_size)
    step = 0
    for epoch in range(1, epochs + 1):
        order, losses = random.permutation(len(x)), []
        for begin in range(0, len(x), batch_size):
            chosen = order[begin : begin + batch_size]
            images = x[chosen]
            if flip:
                mirrored = random.random(len(images)) < 0.5
                images[mirrored] = images[mirrored, :, :, ::-1]
            if cool:
                optimizer.lr = peak * 0.5 * (1 + np.cos(np.pi * step / steps))
            loss, gradients = net.loss(images, labels[chosen])
            optimizer.step(net.parameters, gradients)
            losses.append(loss)
            step += 1
        row = {"epoch": epoch, "loss": float(np.mean(losses))}
        row["accuracy"] = accuracy(net, *held_out) if held_out is not None else None
        history.append(row)
        if report is not None:
            report(row)
    optimizer.lr = peak
    return history


def arrays(data, count=None, *, test=False):
    """Images of a data set as the layers take them.

    Args:
        data: `rfkit.data.ImageData`.
        count: The first so many; ``None`` for all.
        test: Test images instead of training images.

    Returns:
        (images, labels): float32 (N, C, H, W), normalised by the training set, and class indices.
    """
    images, labels = (data.test_images, data.test_labels) if test else (data.train_images, data.train_labels)
    images, labels = images[:count], np.asarray(labels[:count])
    scaled = (images.astype(np.float32) / 255 - np.float32(data.mean)) / np.float32(data.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)), labels
