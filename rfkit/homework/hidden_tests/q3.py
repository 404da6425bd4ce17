"""Question 3, CNN-BatchNorm: 20 points. Change the seed, add cases; TESTS must hold (points, name, function)."""

from functools import partial

import numpy as np

from rfkit import numpy_layers as ours
from rfkit.homework.checks import close

SEED = 3
random = np.random.default_rng(SEED)


def _case():
    """Of large variance: whether eps is where it belongs is a question of its own."""
    x = 4 + 3 * random.normal(size=(5, 3, 4, 3)) * np.array([1, 5, 2])[None, :, None, None]
    return x, random.normal(size=3), random.normal(size=3)


def training(student, **options):
    x, gamma, beta = _case()
    words = "".join(f", {key}={value}" for key, value in options.items())
    code = f"out, _ = spatial_batchnorm_forward(x, gamma, beta, {{}}, train=True{words})"
    expected = ours.spatial_batchnorm_forward(x, gamma, beta, {}, train=True, **options)[0]
    close(f"output{words}", student(code, ["out"], x=x, gamma=gamma, beta=beta)[0], expected, 1e-4)


def running(student):
    x, gamma, beta = _case()
    code = """
running = {}
for _ in range(3):
    spatial_batchnorm_forward(x, gamma, beta, running, train=True, momentum=0.7)
mean, var = running["mean"], running["var"]
"""
    kept = {}
    for _ in range(3):
        ours.spatial_batchnorm_forward(x, gamma, beta, kept, train=True, momentum=0.7)
    mean, var = student(code, ["mean", "var"], x=x, gamma=gamma, beta=beta)
    close("running mean, momentum 0.7", mean, kept["mean"], 1e-4)
    close("running variance", var / kept["var"], np.ones(3), 0.02)  # with or without Bessel's correction


def evaluation(student):
    x, gamma, beta = _case()
    mean, var = random.normal(size=3), random.uniform(4, 9, 3)
    code = """
running = {"mean": mean.copy(), "var": var.copy()}
out, _ = spatial_batchnorm_forward(x, gamma, beta, running, train=False)
kept_mean, kept_var = running["mean"], running["var"]
"""
    expected = ours.spatial_batchnorm_forward(x, gamma, beta, {"mean": mean.copy(), "var": var.copy()}, train=False)[0]
    wanted = ["out", "kept_mean", "kept_var"]
    out, kept_mean, kept_var = student(code, wanted, x=x, gamma=gamma, beta=beta, mean=mean, var=var)
    close("output", out, expected, 2e-3)
    close("running mean after evaluation", kept_mean, mean)
    close("running variance after evaluation", kept_var, var)


def _backward(student, train):
    x, gamma, beta = _case()
    dout, mean, var = random.normal(size=x.shape), random.normal(size=3), random.uniform(4, 9, 3)
    code = f"""
_, cache = spatial_batchnorm_forward(x, gamma, beta, {{"mean": mean, "var": var}}, train={train})
dx, dgamma, dbeta = spatial_batchnorm_backward(dout, cache)
"""
    _, cache = ours.spatial_batchnorm_forward(x, gamma, beta, {"mean": mean, "var": var}, train=train)
    found = student(code, ["dx", "dgamma", "dbeta"], x=x, gamma=gamma, beta=beta, dout=dout, mean=mean, var=var)
    expected = ours.spatial_batchnorm_backward(dout, cache)
    for name, mine, theirs in zip(("dx", "dgamma", "dbeta"), expected, found, strict=True):
        close(name, theirs, mine, 5e-3)


TESTS = [
    (4, "training mode", training),
    (2, "epsilon", partial(training, eps=2.0)),
    (3, "running statistics", running),
    (4, "evaluation mode", evaluation),
    (5, "backwards", partial(_backward, train=True)),
    (2, "backwards in evaluation mode", partial(_backward, train=False)),
]
