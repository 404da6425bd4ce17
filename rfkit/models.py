"""The two networks of the paper, with the receptive-field knob.

The knob is one max-pool right after the first convolution. It holds no weights, so every level of a network has the
same parameters in the same order.
"""

import importlib
import inspect
import itertools
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

from rfkit.config import one_of, whole, width_factor
from rfkit.files import first_line, home, importing_from_home

ARCHITECTURES = ("vgg19", "resnet50")


def level_pool(level):
    """The max-pool that sets the receptive field: kernel ``level + 1``, stride ``level``, padding 1 (0 at level 1).

    A level that is no whole number of at least 1 is a `ValueError`. Source: Paper Sec. 3.2; the author's public code.
    """
    level = whole("RF level", level, 1)  # of a numpy range too
    return nn.MaxPool2d(level + 1, stride=level, padding=min(1, level - 1))


class LevelNet(nn.Module):
    """What both networks share: the level pool, the size check, global average pooling and one linear layer."""

    def __init__(self, name, level, features, channels, num_classes, downsampling):
        super().__init__()
        self.features = features
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, num_classes)
        self.architecture, self.downsampling = name, downsampling
        self.set_level(level)

    def set_level(self, level):
        """Exchange the level pool; every weight stays."""
        self.features.level_pool = level_pool(level)
        self.name = f"{self.architecture} at RF level {level}"
        # leaves one unit after the level pool and `downsampling` floored 2/2 pools
        self.min_size = 2**self.downsampling * level + 1 - 2 * min(1, level - 1)

    def forward(self, x):
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        if x.dim() != 4 or x.shape[1] != 3:
            raise ValueError(f"input has shape {tuple(x.shape)}; expected (N, 3, height, width)")
        if min(x.shape[-2:]) < self.min_size:
            raise ValueError(
                f"input of {x.shape[-2]}x{x.shape[-1]} pixels is too small for {self.name}: it needs at least "
                f"{self.min_size}x{self.min_size}; use larger images or a lower level"
            )
        x = self.features(x)  # (N, C, h, w)
        return self.classifier(self.pool(x).flatten(1))  # (N, num_classes)


def _vgg19(level, width, num_classes):
    features, channels, stage, convs = OrderedDict(), 3, 0, 0
    for step in (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", *[512] * 8):
        if step == "M":
            stage += 1
            features[f"pool{stage}"] = nn.MaxPool2d(2)
            continue
        convs += 1
        out = _scaled(step, width)
        features[f"conv{convs}"] = nn.Conv2d(channels, out, 3, padding=1)
        if convs == 1:
            features["level_pool"] = level_pool(level)
        features[f"bn{convs}"] = nn.BatchNorm2d(out)
        features[f"relu{convs}"] = nn.ReLU()
        channels = out
    return LevelNet("vgg19", level, nn.Sequential(features), channels, num_classes, downsampling=3)


class _Bottleneck(nn.Module):
    """1x1 - 3x3 - 1x1 residual block with expansion 4; the stride sits on the 3x3 convolution."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        out = 4 * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != out:
            conv = nn.Conv2d(channels_in, out, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out))

    def forward(self, x):
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.relu2(self.bn2(self.conv2(out)))
        return self.relu3(self.bn3(self.conv3(out)) + self.shortcut(x))


def _resnet50(level, width, num_classes):
    channels = _scaled(64, width)
    features = OrderedDict(conv1=nn.Conv2d(3, channels, 3, padding=1, bias=False), bn1=nn.BatchNorm2d(channels))
    features |= {"relu1": nn.ReLU(), "level_pool": level_pool(level)}
    for stage, (base, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True), start=1):
        inner, layer = _scaled(base, width), []
        for block in range(blocks):
            layer.append(_Bottleneck(channels, inner, stride=2 if stage > 1 and block == 0 else 1))
            channels = 4 * inner
        features[f"layer{stage}"] = nn.Sequential(*layer)
    # a stride-2 convolution with padding 1 keeps at least one unit, so only the level pool sets a limit
    return LevelNet("resnet50", level, nn.Sequential(features), channels, num_classes, downsampling=0)


class SmallResNet(nn.Module):
    """A 3x3 convolution, then per stage one that halves the map and a residual block; global mean, linear layer.

    Source: He et al. (2016), cut down to what two cores train in minutes.
    """

    def __init__(self, num_classes=10, *, widths=(32, 64, 128, 256), residual=True, batchnorm=True, kernel=3):
        super().__init__()
        layers = [_conv_norm_relu(3, widths[0], 3, 1, batchnorm)]
        for before, after in itertools.pairwise(widths):
            layers += [_conv_norm_relu(before, after, 3, 2, batchnorm), _Residual(after, kernel, residual, batchnorm)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x):
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


class _Residual(nn.Module):
    def __init__(self, channels, kernel, residual, batchnorm):
        super().__init__()
        self.residual = residual
        self.body = nn.Sequential(*(_conv_norm_relu(channels, channels, kernel, 1, batchnorm) for _ in range(2)))

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def _conv_norm_relu(before, after, kernel, stride, batchnorm):
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=not batchnorm)
    return nn.Sequential(conv, *([nn.BatchNorm2d(after)] if batchnorm else []), nn.ReLU(inplace=True))


def _scaled(channels, width):
    return max(1, round(channels * width))


def build(architecture, level, *, width=1.0, num_classes=10):
    """Build a freshly initialised network.

    Weights come from PyTorch's default initialisers and the global random state, so the same `torch.manual_seed` gives
    the same weights at every level.

    Args:
        architecture: ``"vgg19"``, ``"resnet50"``, or ``"module:callable"``, an importable callable that returns a
            module and takes ``level``, ``num_classes`` and ``width``, those of them that it has arguments for, by
            name; or any two arguments, level and number of classes.
        level: RF level, an integer of at least 1.
        width: Factor on every channel count; the geometry does not change with it.
        num_classes: Outputs of the last linear layer.

    Returns:
        An `nn.Module` that maps images (N, 3, H, W) to logits (N, num_classes).

    Raises:
        ValueError: If the architecture is unknown, cannot be imported or called, or takes no level and another than 1
            is asked for; if the level is below 1, or the width is not positive.

    Source: Paper Sec. 3.1 and 3.2; layer order from the author's public code (the paper says "???").
    """
    if isinstance(architecture, str) and ":" in architecture:
        return _own(architecture, level, num_classes, width)
    one_of("architecture", architecture, (*ARCHITECTURES, "module:callable"))
    whole("num_classes", num_classes, 1)
    return {"vgg19": _vgg19, "resnet50": _resnet50}[architecture](level, width_factor(width), num_classes)


def _own(architecture, level, num_classes, width):
    """A network of a user's callable, given what it has arguments for."""
    maker = _import(architecture)
    if not callable(maker):
        raise ValueError(f"{architecture} is a {type(maker).__name__}; expected a callable that makes a network")
    parameters = inspect.signature(maker).parameters
    given = {"level": level, "num_classes": num_classes, "width": width}
    takes_more = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    given = {k: v for k, v in given.items() if k in parameters or (takes_more and k == "num_classes")}
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = {k: each for k, each in parameters.items() if each.default is each.empty and each.kind not in several}
    swapped = "num_classes" in [*needed][:1] or "level" in [*needed][1:] or "width" in needed
    by_place = len(needed) == 2 and not swapped and all(e.kind is not e.KEYWORD_ONLY for e in needed.values())
    if needed.keys() <= given.keys() and not any(each.kind is each.POSITIONAL_ONLY for each in needed.values()):
        if level != 1 and "level" not in given:
            raise ValueError(f"{architecture} takes no level, so every level is the same network; ask for level 1 only")
        network = maker(**given)
    elif by_place:  # whatever they are called
        network = maker(level, num_classes, **{k: v for k, v in given.items() if k not in needed})
    else:
        expected = "expected a callable that needs nothing else than level, num_classes and width"
        raise ValueError(f"{architecture} needs {', '.join(k for k in needed if k not in given)}; {expected}")
    if not isinstance(network, nn.Module):
        raise ValueError(f"{architecture} returned {type(network).__name__}, not an nn.Module")
    return network


def _import(path):
    module, _, name = path.partition(":")
    try:
        with importing_from_home():
            return getattr(_current(module), name)
    except Exception as error:  # whatever a module of a user's does when it is imported
        raise ValueError(
            f"cannot import architecture {path!r}: {type(error).__name__}: {error}; expected 'module:callable' "
            "importable from the current folder or the environment"
        ) from error


_SOURCES = {}


def _current(name):
    """A module as its file is now: a kernel outlives what is edited, and a result is filed under its source."""
    loaded = sys.modules.get(name)
    module = importlib.import_module(name)
    path = Path(getattr(module, "__file__", None) or "")
    if path.suffix == ".py" and not name.startswith("rfkit."):
        source = path.read_bytes()
        known = _SOURCES.get(name, b"" if path.parent == home().resolve() else source)
        if loaded is not None and source != known:
            importlib.invalidate_caches()
            module = importlib.reload(module)
        _SOURCES[name] = source
    return module


def feature_extractor(model):
    """The part of a network up to its last convolutional feature map.

    Args:
        model: A network made by `build`, or any module with a ``features`` child.

    Returns:
        The `nn.Module` that maps images (N, 3, H, W) to feature maps (N, C, h, w), by the model's own weights.

    Raises:
        ValueError: If the model has no child named ``features``.
    """
    features = getattr(model, "features", None)
    if not isinstance(features, nn.Module):
        raise ValueError(f"{type(model).__name__} has no 'features' module; name the part before global pooling so")
    return features


def without_weights(use, architecture, level, **options):
    """What ``use`` says of a network made without its weights; of a real one, where it cannot do without values."""
    try:
        with torch.device("meta"):
            return use(build(architecture, level, **options))
    except Exception:  # whatever a user's network does in vain to tensors without data
        try:
            with torch.device("cpu"):
                return use(seeded_build(architecture, level, **options))
        except (RuntimeError, ValueError):
            raise
        except Exception as error:
            raise ValueError(f"{architecture} fails: {type(error).__name__}: {first_line(error)}") from error


def count_parameters(architecture, level, **options):
    """Number of parameters of a network; options as of `build`."""
    return without_weights(lambda net: sum(p.numel() for p in net.parameters()), architecture, level, **options)


def seeded_build(architecture, level, *, seed=0, **options):
    """`build` from a given seed, leaving the global random state as it was; options as of `build`."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return build(architecture, level, **options)
