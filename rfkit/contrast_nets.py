"""The VGG19-like network changed in other ways than by its level pool; every parameter stays."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import nn

from rfkit import models, pruning, receptive_field

LAST_CONVS = tuple(f"conv{i}" for i in range(9, 17))
DILATIONS = {"conv2": 14, "conv3": 8, "conv4": 8, "conv5": 4, "conv6": 4, "conv7": 4, "conv8": 4}
"""At level 1 on 32-pixel images about half the side of each map; they add the 178 pixels that level 2 sees more."""


class CentreTap(nn.Conv2d):
    """A convolution that holds a whole kernel and uses its centre only: all other weights are dead."""

    def forward(self, x):
        """Maps (N, C, h, w) to maps (N, K, h, w)."""
        row, column = (side // 2 for side in self.weight.shape[-2:])
        return F.conv2d(x, self.weight[:, :, row : row + 1, column : column + 1], self.bias, self.stride)


def centre_taps(level, num_classes, *, width=1.0):
    """The last eight convolutions use the centres of their kernels only: dead weights, at any size of map."""
    model = models.build("vgg19", level, width=width, num_classes=num_classes)
    for name in LAST_CONVS:
        whole = model.features.get_submodule(name)
        centre = CentreTap(whole.in_channels, whole.out_channels, whole.kernel_size, padding=1, device="meta")
        centre.weight, centre.bias = whole.weight, whole.bias
        setattr(model.features, name, centre)
    return model


def open_third_pool(level, num_classes, *, width=1.0):
    """The third 2x2 pool takes 3x3 pixels at stride 1: nearly the same field, larger last maps."""
    model = models.build("vgg19", level, width=width, num_classes=num_classes)
    model.features.pool3 = nn.MaxPool2d(3, stride=1, padding=1)
    return model


def blurred(level, num_classes, *, width=1.0):
    """The level pool without its stride: as much blur, a field only a few pixels larger, the maps of level 1."""
    if level % 2 != 1:
        raise ValueError(f"RF level is {level!r}; this network is made for an odd level")
    model = models.build("vgg19", 1, width=width, num_classes=num_classes)
    model.features.level_pool = nn.MaxPool2d(level + 1, stride=1, padding=(level - 1) // 2)
    return model


def dilated(level, num_classes, *, width=1.0):
    """Dilated convolutions in the first three stages: the field of level 2 on the maps of level 1."""
    if level != 1:
        raise ValueError(f"RF level is {level!r}; this network is made for level 1")
    model = models.build("vgg19", level, width=width, num_classes=num_classes)
    dilate(model.features, DILATIONS)
    return model


def dilate(features, dilations):
    """Dilate 3x3 convolutions in place, by name, and pad them so that their maps keep their size."""
    for name, dilation in dilations.items():
        conv = features.get_submodule(name)
        conv.dilation = conv.padding = (dilation, dilation)


def enlarged(level, num_classes, *, width=1.0):
    """The image enlarged as many times as the level pool shrinks it: the level's field, the maps of about level 1."""
    model = models.build("vgg19", level, width=width, num_classes=num_classes)
    larger = nn.Upsample(scale_factor=level, mode="bilinear")
    model.features = nn.Sequential(OrderedDict(enlarge=larger, **dict(model.features.named_children())))
    return model


def geometry(architecture, level):
    """What a network does to an image of 32 pixels, whatever its weights."""
    model, shape = models.build(architecture, level, width=1 / 8).eval(), (3, 32, 32)
    fields = receptive_field.trace(model, shape)
    convs = {f.name.split(".")[1]: f for f in fields if f.name.startswith("features.conv")}
    usable, met = pruning.usable_weights(model, shape), pruning.tap_utilisation(model, shape)
    last = next(name for name in reversed(usable) if "conv" in name)
    dead = {name: 1 - float(mask.float().mean()) for name, mask in usable.items()}
    return {
        "field_px": max(convs["conv16"].size),
        "maps": tuple(convs[name].shape[-1] for name in ("conv2", "conv4", "conv8", "conv16")),
        "covering": next((i for i, f in enumerate(convs.values(), start=1) if min(f.size) >= shape[-1]), None),
        "sides": tuple(field.shape[-1] for field in convs.values()),
        "dead": pruning.sparsity(model, usable),
        "dead_by_layer": tuple(dead.get(f"features.{name}.weight", 0.0) for name in convs),
        "met": float(met[last][usable[last].flatten(0, 1).any(0)].mean()),
    }
