"""The experiment of Section 3.4 at full width against the straightforward version: hooks on every module.

The straightforward version is that of many scripts: a network at a time for each level, a backward hook on each ReLU
and batch norm that passes the gradient on, max-pools replaced by average-pools, `backward()` into every parameter.
"""

import functools
import itertools
import os

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from common import alternate, report, sized
from torch import nn

from rfkit import experiments, models, presets

REPEATS, LEVELS, WIDTH = sized((2, (1, 2, 3, 4), 1.0), (1, (1, 4), 1 / 16))


def straightforward(architecture):
    for level, seed in itertools.product(LEVELS, range(REPEATS)):
        torch.manual_seed(seed)
        net = models.build(architecture, level, width=WIDTH).eval()
        for module in net.modules():
            if isinstance(module, nn.ReLU | nn.BatchNorm2d):
                module.register_full_backward_hook(lambda m, grad_in, grad_out: (grad_out[0], *grad_in[1:]))
            for name, child in module.named_children():
                if isinstance(child, nn.MaxPool2d):
                    setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
        x = torch.full((1, 3, 64, 64), 3.0, requires_grad=True)
        features = net.features(x)
        seed_gradient = torch.zeros_like(features)
        seed_gradient[:, :, (features.shape[2] + 1) // 2 - 1, (features.shape[3] + 1) // 2 - 1] = 1
        features.backward(seed_gradient)
        float(x.grad[0, 0].abs().max())


def ours(architecture):
    analysis = experiments.ANALYSES["gradient_projection"]
    chosen = presets.get("study").select(architectures=architecture, levels=LEVELS)
    analysis.compute(None, analysis.settings(chosen, repeats=REPEATS, width=WIDTH)[0][0], None)


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = []
    for architecture in models.ARCHITECTURES:
        contenders = {
            "rfkit": functools.partial(ours, architecture),
            "hooks": functools.partial(straightforward, architecture),
        }
        best = alternate(contenders, 3)
        rows.append({
            "what": f"{architecture}, levels {LEVELS}, width {WIDTH:g}, 64x64, linearised, one core",
            "rfkit_s_per_seed": round(best["rfkit"] / REPEATS, 3),
            "peer_s_per_seed": round(best["hooks"] / REPEATS, 3),
            "ratio": round(best["hooks"] / best["rfkit"], 2),
        })
    report("projection", rows)
