"""The 90 largest Hessian eigenvalues of a trained network against three packages, at the same tolerance.

The packages are in `requirements-bench.txt`. Those that are missing are named and left out. The error of each is taken
against a run of ours that is a hundred times as strict. PyHessian returns the largest in magnitude, found one after the
other: they are compared with the same of ours.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import resource
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from common import alone, report, sized
from scipy.sparse.linalg import LinearOperator, eigsh

from rfkit import data, hessian, models, training
from rfkit.config import TrainConfig
from rfkit.hessian import lanczos
from rfkit.training.batches import model_inputs

K, BASIS, TOL, IMAGES, WIDTH, EPOCHS = sized((90, 120, 1e-3, 32, 1 / 8, 3), (4, 12, 1e-2, 8, 1 / 16, 1))


def network():
    """VGG19-like, level 3, width 1/8, three epochs of digits; the same in every process."""
    torch.set_num_threads(1)
    digits = data.load("digits")
    model = models.seeded_build("vgg19", 3, width=WIDTH)
    training.fit(
        model, digits, TrainConfig(epochs=EPOCHS, lr=0.05, batch_size=64, augmentation="crop", schedule="one_cycle")
    )
    return model.eval(), digits.train_images[:IMAGES], torch.from_numpy(digits.train_labels[:IMAGES])


def rfkit_lanczos(model, images, labels):
    found = hessian.top_eigenvalues(model, images, labels, K, tol=TOL, basis=BASIS)
    return found.values, found.products


def curvlinops_eigsh(model, images, labels):
    from curvlinops import HessianLinearOperator

    parameters, x = list(model.parameters()), model_inputs(model, images)
    operator = HessianLinearOperator(
        model, torch.nn.CrossEntropyLoss(), parameters, [(x, labels)], check_deterministic=False
    )
    count, size = [0], sum(p.numel() for p in parameters)

    def product(vector):
        count[0] += 1
        return (operator @ torch.from_numpy(np.ascontiguousarray(vector)).float()).numpy()

    counted = LinearOperator((size, size), matvec=product, dtype=np.float32)
    values = eigsh(counted, K, ncv=BASIS, which="LA", tol=TOL, return_eigenvectors=False)
    return np.sort(values)[::-1], count[0]


def pyhessian(model, images, labels):
    from pyhessian import hessian as peer

    module = sys.modules["pyhessian.hessian"]
    count, product = [0], module.hessian_vector_product

    def counted(*arguments):
        count[0] += 1
        return product(*arguments)

    module.hessian_vector_product = counted
    x = model_inputs(model, images)
    values, _ = peer(model, torch.nn.CrossEntropyLoss(), data=(x, labels), cuda=False).eigenvalues(100, TOL, K)
    return np.array(values), count[0]


def hessian_eigenthings(model, images, labels):
    import hessian_eigenthings as peer

    x = model_inputs(model, images)
    operator = peer.HessianOperator(model, [(x, labels)], peer.supervised_loss(F.cross_entropy))
    count, product = [0], operator.matvec

    def counted(vector):
        count[0] += 1
        return product(vector)

    operator.matvec = counted
    found = peer.lanczos(operator, k=K, tol=TOL, which="LA")
    return np.sort(found.eigenvalues.numpy())[::-1], count[0]


CONTENDERS = {
    rfkit_lanczos: "rfkit", curvlinops_eigsh: "curvlinops", pyhessian: "pyhessian",
    hessian_eigenthings: "hessian_eigenthings",
}  # fmt: skip


def measure(name, queue):
    """In a process of its own, so that peak memory is its own."""
    model, images, labels = network()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        values, products = globals()[name](model, images, labels)
    except Exception as error:  # a peer that is missing or fails is a row of the table too
        queue.put({"what": name, "failed": f"{type(error).__name__}: {error}"[:120]})
        return
    seconds = time.perf_counter() - start
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    queue.put({
        "what": name,
        "values": values,
        "products": products,
        "s": seconds,
        "peak_mib_above_training": round(peak),
    })


if __name__ == "__main__":
    rows = alone(CONTENDERS, measure)
    model, images, labels = network()
    operator, options = hessian.HessianOperator(model, images, labels), {"tol": TOL / 100, "basis": 3 * BASIS // 2}
    exact, lower = (
        lanczos.extreme(lambda v, sign=sign: sign * operator(v), operator.size, K, **options).values.numpy()
        for sign in (1, -1)
    )
    magnitudes = np.sort(np.abs([*exact, *lower]))[::-1][:K]
    ours = rows[0]["s"]
    for row in rows:
        if "values" in row:
            values = row.pop("values")
            reference = magnitudes if row["what"] == "pyhessian" else exact
            if row["what"] == "pyhessian":
                values = np.sort(np.abs(values))[::-1]
            error = np.abs(values - reference[: len(values)]).max() / exact[0]
            row |= {"eigenvalues": len(values), "s": round(row["s"], 2), "ratio": round(row["s"] / ours, 2)}
            row |= {"largest_error": f"{error:.1e}"}
    report("hessian", rows)
