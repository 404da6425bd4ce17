"""Data pipeline and whole epochs against torchvision transforms, a DataLoader and a plain PyTorch loop.

Both sides make the same augmentation (random crop with padding 4, horizontal flip, normalisation), hold the images in
memory, use one thread, and train the same network at the study's scale with the same optimiser.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

from dataclasses import replace

import numpy as np
import torch
from common import alternate, report, sized
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from rfkit import models, training
from rfkit.data import ImageData, Source
from rfkit.presets import get

IMAGES = sized(4096, 256)
STUDY = get("study")


def noise_images():
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = random.integers(0, 10, IMAGES)
    names = tuple(str(i) for i in range(10))
    moments = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
    return ImageData(images, labels, images[:256], labels[:256], names, *moments, Source("noise", "noise", ""))


class Cifar(Dataset):
    """As in torchvision.datasets.CIFAR10: an array in memory, a Pillow image a sample."""

    def __init__(self, data):
        self.data = data
        self.transform = transforms.Compose([
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ])
        self.to_pillow = transforms.ToPILImage()

    def __len__(self):
        return IMAGES

    def __getitem__(self, i):
        return self.transform(self.to_pillow(self.data.train_images[i])), int(self.data.train_labels[i])


def pipelines(data):
    ours = training.TrainingBatches(data, 128, "crop_flip", 0)
    theirs = DataLoader(Cifar(data), batch_size=128, shuffle=True)
    best = alternate({"rfkit": lambda: sum(1 for _ in ours), "torchvision": lambda: sum(1 for _ in theirs)})
    return {
        "what": "data pipeline, one core",
        "rfkit_images_per_s": round(IMAGES / best["rfkit"]),
        "peer_images_per_s": round(IMAGES / best["torchvision"]),
        "ratio": round(best["torchvision"] / best["rfkit"], 2),
    }


def plain_epoch(model, loader):
    """The loop of many tutorials: default memory format, the loss read at every step."""
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True)
    model.train()
    running = 0.0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        running += loss.item()


def epochs(data, architecture, level):
    ours = models.seeded_build(architecture, level, width=STUDY.width).to(memory_format=torch.channels_last)
    theirs = models.seeded_build(architecture, level, width=STUDY.width)
    config = replace(STUDY.training("cifar10", architecture), epochs=1)
    plain = DataLoader(Cifar(data), 128, shuffle=True)
    best = alternate(
        {"rfkit": lambda: training.fit(ours, data, config, device="cpu"), "plain": lambda: plain_epoch(theirs, plain)},
        2,
    )
    return {
        "what": f"training epoch, {architecture} level {level}, width 1/8, 32x32, one core",
        "rfkit_images_per_s": round(IMAGES / best["rfkit"]),
        "peer_images_per_s": round(IMAGES / best["plain"]),
        "ratio": round(best["plain"] / best["rfkit"], 2),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    noise = noise_images()
    rows = [pipelines(noise)]
    rows += [epochs(noise, name, level) for name in models.ARCHITECTURES for level in (1, 2, 3, 4)]
    report("training", rows)
