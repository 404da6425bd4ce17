"""Adam and a small trainer for networks in numpy, ours or your own."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Adam:
    """Adam.

    Source: Kingma & Ba (2015), Algorithm 1.
    """

    lr: float = 1e-3  #: Learning rate; may be changed between steps.
    beta1: float = 0.9  #: Decay of the mean of the gradients.
    beta2: float = 0.999  #: Decay of the mean of their squares.
    eps: float = 1e-8  #: Added to the denominator.
    steps: int = 0  #: Steps taken.
    mean: dict = field(default_factory=dict)  #: State.
    square: dict = field(default_factory=dict)  #: State.

    def step(self, parameters, gradients):
        """One update, in place."""
        self.steps += 1
        for name, gradient in gradients.items():
            self.mean[name] = self.beta1 * self.mean.get(name, 0.0) + (1 - self.beta1) * gradient
            self.square[name] = self.beta2 * self.square.get(name, 0.0) + (1 - self.beta2) * gradient**2
            mean = self.mean[name] / (1 - self.beta1**self.steps)
            square = self.square[name] / (1 - self.beta2**self.steps)
            parameters[name] -= self.lr * mean / (np.sqrt(square) + self.eps)


def answers(net, x):
    """The class of each image's largest score."""
    return np.concatenate([net.scores(x[i : i + 250])[0].argmax(1) for i in range(0, len(x), 250)])


def accuracy(net, x, labels):
    """Percent of images whose largest score is their label's."""
    return 100 * float(np.mean(answers(net, x) == labels))


def train(net, x, labels, optimizer, *, epochs, batch_size=100, held_out=None, flip=False, seed=0, report=None):
    """Train a network in place.

    Args:
        net: With `parameters`, `loss(x, labels)` and `scores(x)` as `ThreeLayerConvNet` has them.
        x: Images (N, C, H, W), as `arrays` makes them.
        labels: Classes (N,).
        optimizer: `Adam`, or another with `lr`, which falls to zero along a cosine, and `step(parameters, gradients)`.
        epochs: Passes over the images.
        batch_size: Images per step.
        held_out: Images and labels whose accuracy is measured after every epoch.
        flip: Mirror half of the images.
        seed: Seed of order and mirroring.
        report: Called with every row, such as `print`.

    Returns:
        One row per epoch: epoch, loss (mean), accuracy (percent of the held-out images, or None).
    """
    random, history, peak = np.random.default_rng(seed), [], optimizer.lr
    step, steps = 0, epochs * -(-len(x) // batch_size)
    for epoch in range(1, epochs + 1):
        order, losses = random.permutation(len(x)), []
        for begin in range(0, len(x), batch_size):
            chosen = order[begin : begin + batch_size]
            images = x[chosen]
            if flip:
                mirrored = random.random(len(images)) < 0.5
                images[mirrored] = images[mirrored, :, :, ::-1]
            loss, gradients = net.loss(images, labels[chosen])
            optimizer.lr = peak * 0.5 * (1 + np.cos(np.pi * step / steps))  # to zero along a cosine
            try:
                optimizer.step(net.parameters, gradients)
            finally:
                optimizer.lr = peak  # also where the training is interrupted
            losses.append(loss * len(images) / len(x))
            step += 1
        measured = accuracy(net, *held_out) if held_out is not None else None
        history.append({"epoch": epoch, "loss": float(np.sum(losses)), "accuracy": measured})
        if report is not None:
            report(history[-1])
    return history


def arrays(data, count=None, *, test=False):
    """Images of a data set as the layers take them: float32 (N, C, H, W), normalised; and labels (N,)."""
    images, labels = (data.test_images, data.test_labels) if test else (data.train_images, data.train_labels)
    scaled = (images[:count].astype(np.float32) / 255 - np.float32(data.mean)) / np.float32(data.std)
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)), labels[:count]
