"""What a training costs: floating-point operations, and seconds on this machine by a short measurement."""

import functools
import time
from dataclasses import replace

import torch

from rfkit import models
from rfkit.training.loop import check_outputs, pick_device


def flops_per_image(config):
    """Floating-point operations of a training step on one image, for a `RunConfig`.

    A multiplication and an addition are two operations, the backward pass counts double.
    """
    return _flops(**config.network, image_size=config.image_size)


@functools.lru_cache(maxsize=256)
def _flops(architecture, level, width, num_classes, image_size):
    from torch.utils.flop_counter import FlopCounterMode  # takes a compiler with it

    def count(model):
        check_outputs(model, num_classes, image_size)
        counter, images = FlopCounterMode(display=False), torch.zeros(2, 3, image_size, image_size)
        with counter, torch.no_grad():
            model(images)
        return 3 * counter.get_total_flops() // 2

    return models.without_weights(count, architecture, level, width=width, num_classes=num_classes)


def seconds_per_image(config, device=None):
    """Expected seconds of a training step on one image, on one core or on the GPU."""
    kind = replace(config, seed=0, data_sha256="", train_images=1, test_images=1, train=replace(config.train, epochs=1))
    return _seconds_per_image(kind, pick_device(device))


@functools.lru_cache(maxsize=64)
@torch.random.fork_rng(devices=[])
def _seconds_per_image(config, device):
    """The fastest of three training steps on random images, one thread on a CPU."""
    count = min(config.train.batch_size, max(2, int(3e10 / flops_per_image(config))))
    model = models.build(**config.network)
    model = model.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    images = torch.randn(count, 3, config.image_size, config.image_size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(config.num_classes, (count,), device=device)
    threads, best = torch.get_num_threads(), float("inf")
    torch.set_num_threads(1)
    try:
        for _ in range(3):
            start = time.perf_counter()
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return best / count


def image_steps(config):
    """Images trained on over a whole run; an evaluation pass counts a third of a training step."""
    return config.train.epochs * (config.train_images * config.train.train_share + config.test_images / 3)
