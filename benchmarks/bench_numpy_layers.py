"""The homework's convolution, forwards and backwards, against torch on one thread and against its own loops."""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from common import alternate, report, sized
from torch.nn import functional

from rfkit import numpy_layers

torch.set_num_threads(1)


def contenders(shape, filters, methods):
    random = np.random.default_rng(0)
    x = random.normal(size=shape).astype(np.float32)
    w, b = random.normal(size=(filters, shape[1], 3, 3)).astype(np.float32), np.zeros(filters, np.float32)
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, w, b)]

    def ours(method):
        out, cache = numpy_layers.conv_forward(x, w, b, padding=1, method=method)
        numpy_layers.conv_backward(out, cache)

    def by_torch():
        out = functional.conv2d(*tensors, padding=1)
        torch.autograd.grad(out, tensors, out.detach())

    made = {f"rfkit, {method}": lambda method=method: ours(method) for method in methods}
    return made | {"torch": by_torch}


def rows(shape, filters, methods, rounds):
    best = alternate(contenders(shape, filters, methods), rounds)
    for name, seconds in best.items():
        yield {
            "images": "x".join(map(str, shape)), "filters": filters, "contender": name,
            "seconds": round(seconds, 4), "times torch": round(seconds / best["torch"], 2),
        }  # fmt: skip


if __name__ == "__main__":
    large = rows((sized(128, 4), 32, 32, 32), 64, ["fast"], 5)
    small = rows((2, 8, 12, 12), 16, ["fast", "naive"], 2)
    report("numpy_layers", [*large, *small])
