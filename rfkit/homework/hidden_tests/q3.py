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


def training(student):
    x, gamma, beta = _case()
    code = "out, _ = spatial_batchnorm_forward(x, gamma, beta, {}, train=True)\nafter = x"
    expected = ours.spatial_batchnorm_forward(x, gamma, beta, {}, train=True)[0]
    out, after = student(code, ["out", "after"], x=x, gamma=gamma, beta=beta)
    close("output", out, expected, 1e-4)
    assert np.array_equal(after, x), "the forward pass changes x; work on a copy"


def epsilon(student):
    """By the ratio of two outputs, so that another error does not cost these points as well."""
    x, gamma, beta = _case()
    code = """
small, _ = spatial_batchnorm_forward(x, gamma, beta, {}, train=True, eps=0.0)
large, _ = spatial_batchnorm_forward(x, gamma, beta, {}, train=True, eps=2.0)
"""
    small, large = student(code, ["small", "large"], x=x, gamma=gamma, beta=beta)
    assert np.abs(small - large).max() > 1e-3, "eps changes nothing"
    offset, var = beta[None, :, None, None], x.var((0, 2, 3))[None, :, None, None]
    expected = (small - offset) * np.sqrt(var / (var + 2))
    close("output, eps=2.0", large - offset, expected, 0.02)  # with or without Bessel's correction


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
out, _ = spatial_batchnorm_forward(x, gamma, beta, running, train=False, eps=2.0)
kept_mean, kept_var = running["mean"], running["var"]
first, _ = spatial_batchnorm_forward(x, gamma, beta, {}, train=False, eps=2.0)
"""
    begun = {"mean": mean.copy(), "var": var.copy()}
    wanted = ["out", "kept_mean", "kept_var", "first"]
    out, kept_mean, kept_var, first = student(code, wanted, x=x, gamma=gamma, beta=beta, mean=mean, var=var)
    close("output", out, ours.spatial_batchnorm_forward(x, gamma, beta, begun, train=False, eps=2.0)[0], 1e-4)
    expected = ours.spatial_batchnorm_forward(x, gamma, beta, {}, train=False, eps=2.0)[0]
    close("output before any training batch", first, expected, 1e-4)
    close("running mean after evaluation", kept_mean, mean)
    close("running variance after evaluation", kept_var, var)


def _backward(student, train, kept):
    x, gamma, beta = _case()
    dout, mean, var = random.normal(size=x.shape), random.normal(size=3), random.uniform(4, 9, 3)
    code = f"""
_, cache = spatial_batchnorm_forward(x, gamma, beta, {{"mean": mean, "var": var}}, train={train}, eps=2.0)
dx, dgamma, dbeta = spatial_batchnorm_backward(dout, cache)
"""
    begun = {"mean": mean, "var": var}
    found = student(code, kept, x=x, gamma=gamma, beta=beta, dout=dout, **begun)
    _, cache = ours.spatial_batchnorm_forward(x, gamma, beta, begun, train=train, eps=2.0)
    expected = dict(zip(("dx", "dgamma", "dbeta"), ours.spatial_batchnorm_backward(dout, cache), strict=True))
    for name, theirs in zip(kept, found, strict=True):
        close(name, theirs, expected[name], 1e-4)


TESTS = [
    (4, "training mode", training),
    (2, "epsilon", epsilon),
    (3, "running statistics", running),
    (4, "evaluation mode", evaluation),
    (3, "backwards: input", partial(_backward, train=True, kept=["dx"])),
    (1, "backwards: scale", partial(_backward, train=True, kept=["dgamma"])),
    (1, "backwards: offset", partial(_backward, train=True, kept=["dbeta"])),
    (2, "backwards in evaluation mode", partial(_backward, train=False, kept=["dx", "dgamma", "dbeta"])),
]
