"""Random networks with branches, for property tests."""

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn


class Crop(nn.Module):
    def __init__(self, edges):
        super().__init__()
        self.edges = edges

    def forward(self, x):
        top, bottom, left, right = self.edges
        return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


class Branches(nn.Module):
    """Two branches from one map, cut to a common size, then added or concatenated and mixed."""

    def __init__(self, first, second, joint, channels):
        super().__init__()
        self.first, self.second, self.joint = first, second, joint
        self.mix = nn.Conv2d(2 * channels, channels, 1) if joint == "cat" else nn.Identity()

    def forward(self, x):
        a, b = self.first(x), self.second(x)
        height, width = (min(p, q) for p, q in zip(a.shape[2:], b.shape[2:], strict=True))
        a, b = a[:, :, :height, :width], b[:, :, :height, :width]
        return self.mix(torch.cat([a, b], 1) if self.joint == "cat" else a + b if self.joint == "add" else a * b)


class Functional(nn.Module):
    def __init__(self, kernel, stride):
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x):
        return F.max_pool2d(F.relu(x), self.kernel, self.stride)


CHANNELS = 2


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


@st.composite
def layers(draw, strides):
    """One layer; the stride (or upsampling) is one of `strides`."""
    kind = draw(
        st.sampled_from(["conv", "conv", "max", "avg", "transposed", "crop", "pad", "up", "functional", "norm"])
    )
    stride = draw(st.sampled_from(strides))
    if kind == "conv":
        kernel, padding, dilation = draw(pairs(1, 5)), draw(pairs(0, 3)), draw(pairs(1, 3))
        return nn.Conv2d(CHANNELS, CHANNELS, kernel, stride, padding, dilation)
    if kind == "max":
        kernel = draw(pairs(1, 4))
        padding = tuple(min(p, k // 2) for p, k in zip(draw(pairs(0, 2)), kernel, strict=True))
        return nn.MaxPool2d(kernel, stride, padding, draw(pairs(1, 2)), ceil_mode=draw(st.booleans()))
    if kind == "avg":
        kernel = draw(pairs(1, 4))
        padding = tuple(min(p, k // 2) for p, k in zip(draw(pairs(0, 2)), kernel, strict=True))
        return nn.AvgPool2d(kernel, stride, padding, ceil_mode=draw(st.booleans()))
    if kind == "transposed" and stride > 0:
        up = draw(st.integers(1, 3)) if len(strides) > 1 else stride
        kernel = draw(pairs(1, 4))
        padding = tuple(min(p, k - 1) for p, k in zip(draw(pairs(0, 2)), kernel, strict=True))
        return nn.ConvTranspose2d(CHANNELS, CHANNELS, kernel, up, padding, dilation=draw(st.integers(1, 2)))
    if kind == "crop":
        return Crop((*draw(pairs(0, 3)), *draw(pairs(0, 3))))
    if kind == "pad":
        edges = (*draw(pairs(0, 3)), *draw(pairs(0, 3)))
        return draw(st.sampled_from([nn.ZeroPad2d, nn.ReplicationPad2d]))(edges)
    if kind == "up" and len(strides) > 1:
        return nn.Upsample(scale_factor=draw(st.integers(1, 3)), mode=draw(st.sampled_from(["nearest", "bilinear"])))
    if kind == "functional":
        return Functional(draw(st.integers(1, 3)), stride)
    return nn.BatchNorm2d(CHANNELS)


@st.composite
def chains(draw, depth, strides):
    return nn.Sequential(*[draw(layers(strides)) for _ in range(draw(st.integers(1, depth)))])


@st.composite
def networks(draw):
    """A chain, branches of stride one, a chain, and a last 1x1 convolution named ``out``."""
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(3, CHANNELS, draw(st.integers(1, 3)), draw(st.integers(1, 2))))
    net.add_module("before", draw(chains(3, (1, 2, 3))))
    if draw(st.booleans()):
        joint = draw(st.sampled_from(["add", "cat", "mul"]))
        net.add_module("branches", Branches(draw(chains(2, (1,))), draw(chains(2, (1,))), joint, CHANNELS))
        net.add_module("after", draw(chains(2, (1, 2))))
    net.add_module("out", nn.Conv2d(CHANNELS, 1, 1))
    return net
