"""Question 2, CNN-Layers: 40 points. Change the seed, add cases; TESTS must hold (points, name, function)."""

from contextlib import contextmanager
from functools import partial

import numpy as np

from rfkit import numpy_layers as ours
from rfkit.homework.checks import close
from rfkit.homework.kernel import StudentError

SEED = 2
TOLERANCE = 1e-4  # arithmetic in float32 will do
random = np.random.default_rng(SEED)
STRIDED = {"stride": 2, "padding": 1}


def _conv():
    return [random.normal(size=shape) for shape in ((2, 3, 7, 6), (4, 3, 3, 2), (4,))]


def _asked(student, code, names, **arrays):
    """What the code gives; it may not change what it is given."""
    *found, same = student(
        "".join(f"_{name} = {name}.copy()\n" for name in arrays)
        + f"{code}\nsame = [{', '.join(f'(_{name} == {name}).all()' for name in arrays)}]",
        [*names, "same"],
        **arrays,
    )
    changed = [name for name, kept in zip(arrays, same, strict=True) if not kept]
    assert not changed, f"it changes {', '.join(changed)}, which it is given; work on a copy"
    return found


@contextmanager
def _told(words):
    """Says with which options it went wrong."""
    try:
        yield
    except (AssertionError, StudentError) as error:
        raise AssertionError(f"with {words.strip(', ')}: {error}" if words else str(error)) from None


def conv_forward(student, **options):
    x, w, b = _conv()
    words = "".join(f", {key}={value!r}" for key, value in options.items())
    with _told(words):
        out = _asked(student, f"out, _ = conv_forward(x, w, b{words})", ["out"], x=x, w=w, b=b)[0]
        close("output", out, ours.conv_forward(x, w, b, **options)[0], TOLERANCE)


def conv_options(student):
    for options in (STRIDED, {"stride": 3}, {"padding": 2}, {"stride": (1, 2), "padding": (2, 0)}):
        conv_forward(student, **options)


def conv_dilation(student):
    for options in ({"dilation": 2, "padding": 1}, {"dilation": (1, 2), "stride": 2}):
        conv_forward(student, **options)
    conv_backward(student, ["dx", "dw", "db"], dilation=2, padding=1)


def conv_backward(student, kept, **options):
    x, w, b = _conv()
    words = "".join(f", {key}={value!r}" for key, value in options.items())
    out, cache = ours.conv_forward(x, w, b, **options)
    dout = random.normal(size=out.shape)
    code = f"out, cache = conv_forward(x, w, b{words})\ndx, dw, db = conv_backward(dout, cache)"
    expected = dict(zip(("dx", "dw", "db"), ours.conv_backward(dout, cache), strict=True))
    with _told(words):
        for name, gradient in zip(kept, _asked(student, code, kept, x=x, w=w, b=b, dout=dout), strict=True):
            close(name, gradient, expected[name], TOLERANCE)


def strided_backward(student, kept):
    for options in (STRIDED, {"stride": (1, 2), "padding": (2, 0)}):
        conv_backward(student, kept, **options)


def pool_forward(student):
    for size, stride in ((2, 2), (3, 2), (3, 3), ((2, 3), (2, 1))):
        x, words = random.normal(size=(2, 3, 9, 8)), f"size={size}, stride={stride}"
        with _told(words):
            out = _asked(student, f"out, _ = max_pool_forward(x, {words})", ["out"], x=x)[0]
            close("output", out, ours.max_pool_forward(x, size=size, stride=stride)[0], TOLERANCE)


def pool_backward(student):
    for size, stride in ((2, 2), (3, 2), ((2, 3), (2, 1))):
        x = random.normal(size=(2, 3, 9, 8)).round()  # with equal values: the first one counts
        out, cache = ours.max_pool_forward(x, size=size, stride=stride)
        dout = random.normal(size=out.shape)
        code = f"_, cache = max_pool_forward(x, size={size}, stride={stride})\ndx = max_pool_backward(dout, cache)"
        with _told(f"size={size}, stride={stride}"):
            found = _asked(student, code, ["dx"], x=x, dout=dout)[0]
            close("dx", found, ours.max_pool_backward(dout, cache), TOLERANCE)


def together(student):
    x, w, b = _conv()
    maps, conv = ours.conv_forward(x, w, b)
    active, relu = ours.relu_forward(maps)
    out, pool = ours.max_pool_forward(active, size=2)
    dout = random.normal(size=out.shape)
    expected = ours.conv_backward(ours.relu_backward(ours.max_pool_backward(dout, pool), relu), conv)[0]
    code = """
maps, conv = conv_forward(x, w, b)
out, pool = max_pool_forward(maps * (maps > 0), size=2)
dx = conv_backward(max_pool_backward(dout, pool) * (maps > 0), conv)[0]
"""
    found = student(code, ["dx"], x=x, w=w, b=b, dout=dout)[0]
    close("dx through convolution, ReLU and pool", found, expected, TOLERANCE)


TESTS = [
    (6, "convolution forwards", conv_forward),
    (4, "convolution forwards: stride and padding", conv_options),
    (2, "convolution: dilation, forwards and backwards", conv_dilation),
    (5, "convolution backwards: input", partial(conv_backward, kept=["dx"])),
    (2, "convolution backwards: input, stride and padding", partial(strided_backward, kept=["dx"])),
    (5, "convolution backwards: filters and biases", partial(conv_backward, kept=["dw", "db"])),
    (2, "convolution backwards: filters, stride and padding", partial(strided_backward, kept=["dw", "db"])),
    (5, "max-pool forwards", pool_forward),
    (5, "max-pool backwards", pool_backward),
    (4, "convolution, ReLU and max-pool together", together),
]
