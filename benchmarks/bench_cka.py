"""Linear CKA between all 49 ReLU layers of two ResNet50 at full width, against two packages.

The packages are in `requirements-bench.txt`. Those that are missing are named and left out. Both average a
debiased estimate over batches, which is faster and is not what the paper asks for, one matrix over all images; so they
are also given all images in one batch. Most of our time are the networks' own forward passes, the same for all.
"""

import contextlib
import io
import os

os.environ["OMP_NUM_THREADS"] = "1"

import resource
import time
import warnings

import numpy as np
import torch
from common import alone, report, sized
from torch.utils.data import DataLoader, TensorDataset

from rfkit import cka, data, models, training
from rfkit.training.batches import normalised

IMAGES, BATCH, LEVEL, WIDTH = sized((1000, 250, 4, 1.0), (64, 32, 4, 1 / 16))


def networks():
    torch.set_num_threads(1)
    digits = data.load("digits")
    images = normalised(np.resize(digits.train_images, (IMAGES, 32, 32, 3)), digits.mean, digits.std).contiguous()
    pair = [models.seeded_build("resnet50", LEVEL, width=WIDTH, seed=seed) for seed in (0, 1)]
    return [training.calibrated(model, images[:250]) for model in pair], images


def layer_similarity(pair, images, _):
    return cka.layer_similarity(*pair, images)


def torch_cka(pair, images, layers, batch=BATCH):
    from torch_cka import CKA

    compared = CKA(*pair, "a", "b", layers, layers)
    with contextlib.redirect_stderr(io.StringIO()):
        compared.compare(DataLoader(TensorDataset(images), batch))
    return compared.hsic_matrix


def pytorch_cka(pair, images, layers, batch=BATCH):
    import cka as package  # the name of the package's module

    loader = DataLoader(TensorDataset(images), batch)
    return package.compute_cka(*pair, loader, layers=layers, device="cpu", progress=False)[0]


def pytorch_cka_in_one_batch(pair, images, layers):
    return pytorch_cka(pair, images, layers, IMAGES)


def torch_cka_in_one_batch(pair, images, layers):
    return torch_cka(pair, images, layers, IMAGES)


CONTENDERS = {
    layer_similarity: "rfkit", pytorch_cka: "cka", torch_cka: "torch_cka",
    pytorch_cka_in_one_batch: "cka", torch_cka_in_one_batch: "torch_cka",
}  # fmt: skip


def measure(name, queue):
    """In a process of its own, so that peak memory is its own."""
    pair, images = networks()
    layers = cka.layer_similarity(*pair, images[:8]).layers_a  # also warms up
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = globals()[name](pair, images, layers)
    except Exception as error:  # a peer that is missing or fails is a row of the table too
        queue.put({"what": name, "failed": f"{type(error).__name__}: {error}"[:120]})
        return
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    matrix = np.asarray(found.matrix if hasattr(found, "matrix") else found)
    queue.put({
        "what": name, "layers": len(layers), "s": round(seconds, 2), "peak_mib_above_start": round(peak),
        "mean_of_diagonal": round(float(np.nanmean(np.diag(matrix))), 4),
    })  # fmt: skip


if __name__ == "__main__":
    rows = alone(CONTENDERS, measure)
    for row in rows:
        if "s" in row:
            row["times ours"] = round(row["s"] / rows[0]["s"], 2)
    report("cka", rows)
