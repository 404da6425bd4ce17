"""Question 4 of the homework: recipes that train a small CNN on images, in numpy and in torch, and their records."""

import itertools
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rfkit import numpy_nets, numpy_training, records, store, training
from rfkit.config import ConfigError, TrainConfig, one_of, stable_hash
from rfkit.files import read_json, write_json
from rfkit.published import PUBLISHED

FRAMEWORKS = ("numpy", "torch")


class SmallResNet(nn.Module):
    """A 3x3 convolution, then per stage one that halves the map and a residual block; global mean, linear layer.

    Args:
        num_classes: Outputs.
        widths: Channels of the first convolution and of each stage.
        residual: Add each block's input to its output.
        batchnorm: Normalise after every convolution.
        kernel: Side of the kernels in the residual blocks, odd: 1 makes the receptive field small.

    Source:
        He et al. (2016), cut down to what two cores train in minutes.
    """

    def __init__(self, num_classes=10, *, widths=(32, 64, 128, 256), residual=True, batchnorm=True, kernel=3):
        super().__init__()
        layers = [_conv(3, widths[0], 3, 1, batchnorm)]
        for before, after in itertools.pairwise(widths):
            layers += [_conv(before, after, 3, 2, batchnorm), _Block(after, kernel, residual, batchnorm)]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x):
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.classifier(self.pool(self.features(x)).flatten(1))


class _Block(nn.Module):
    def __init__(self, channels, kernel, residual, batchnorm):
        super().__init__()
        self.residual = residual
        self.body = nn.Sequential(*(_conv(channels, channels, kernel, 1, batchnorm) for _ in range(2)))

    def forward(self, x):
        return x + self.body(x) if self.residual else self.body(x)


def _conv(before, after, kernel, stride, batchnorm):
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=not batchnorm)
    return nn.Sequential(conv, *([nn.BatchNorm2d(after)] if batchnorm else []), nn.ReLU(inplace=True))


@dataclass(frozen=True)
class Recipe:
    """A network and how it is trained.

    Attributes:
        name: For people.
        framework: ``numpy`` or ``torch``.
        network: Class of `rfkit.numpy_nets`, or `SmallResNet`.
        epochs: Passes over the training images.
        options: Arguments of the network.
        training: Fields of `rfkit.config.TrainConfig` (torch), or ``optimizer``, ``lr``, ``batch_size`` and ``flip``.
        seed: Of weights, order and augmentation.
    """

    name: str
    framework: str
    network: str
    epochs: int
    options: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self):
        """Check the framework, as `ConfigError`."""
        one_of("framework", self.framework, FRAMEWORKS)

    @property
    def key(self):
        """Ten characters that change with any setting but the name."""
        return stable_hash({key: value for key, value in asdict(self).items() if key != "name"})


@dataclass(frozen=True)
class _Scale:
    """How much is run: epochs of the three networks and of each variant, and their widths."""

    three_layers: int
    deep: int
    torch: int
    variants: int
    stages: tuple
    widths: tuple[int, ...]
    variant_widths: tuple[int, ...]
    numpy_lr: float
    torch_lr: float
    augmentation: str
    precision: str


_TINY = ((8,), (16,), (32,))
_SCALES = {
    "smoke": _Scale(1, 1, 1, 1, _TINY, (4, 8, 16), (4, 8, 16), 1e-2, 0.1, "crop", "float32"),
    "demo": _Scale(5, 5, 6, 4, _TINY, (8, 16, 32, 64), (8, 16, 32), 1e-2, 0.1, "crop", "float32"),
    # bfloat16 halves the time where the processor has instructions for it, and is slow elsewhere
    "study": _Scale(
        3, 5, 18, 4, ((16,), (32, 32), (64, 64), (128,)), (16, 32, 64, 128), (16, 32, 64, 128), 2e-3, 0.15,
        "crop_flip", "bfloat16",
    ),
}  # fmt: skip


def networks(preset_name):
    """The three networks of question 4: the hand-out's, a deeper one in numpy, one in torch.

    Args:
        preset_name: Name of a preset; ``paper`` is as ``study``.

    Returns:
        List of `Recipe`.
    """
    scale = _scale(preset_name)
    by_numpy = {"optimizer": "Adam", "batch_size": 100, "flip": "flip" in scale.augmentation}
    small = {"filters": 8, "kernel": 5, "hidden": 64} if preset_name in ("smoke", "demo") else {}
    return [
        Recipe("three layers, numpy", "numpy", "ThreeLayerConvNet", scale.three_layers, small | {"decay": 1e-3},
               by_numpy | {"lr": 1e-3}),
        Recipe("batch-normalised, numpy", "numpy", "DeepConvNet", scale.deep, {"stages": scale.stages},
               by_numpy | {"lr": scale.numpy_lr}),
        Recipe("residual, torch", "torch", "SmallResNet", scale.torch, {"widths": scale.widths}, _by_torch(scale)),
    ]  # fmt: skip


def variants(preset_name):
    """What each choice of the residual network bought: the same training, a choice taken back at a time.

    Args:
        preset_name: As in `networks`.

    Returns:
        List of `Recipe`, the unchanged one first.
    """
    scale = _scale(preset_name)
    widths, base = {"widths": scale.variant_widths}, _by_torch(scale)
    cases = {
        "all choices": ({}, {}),
        "no residual additions": ({"residual": False}, {}),
        "no batch norm, a tenth of the learning rate": ({"batchnorm": False}, {"lr": scale.torch_lr / 10}),
        "1×1 kernels in the blocks: a small field": ({"kernel": 1}, {}),
        "no augmentation": ({}, {"augmentation": "none"}),
        "constant learning rate": ({}, {"schedule": "constant", "lr": scale.torch_lr / 3}),
    }
    return [
        Recipe(name, "torch", "SmallResNet", scale.variants, widths | options, base | changes)
        for name, (options, changes) in cases.items()
    ]


def _scale(preset_name):
    return _SCALES[one_of("preset", "study" if preset_name == "paper" else preset_name, tuple(_SCALES))]


def _by_torch(scale):
    return {
        "lr": scale.torch_lr, "nesterov": True, "schedule": "one_cycle", "augmentation": scale.augmentation,
        "precision": scale.precision, "batch_size": 64 if scale.widths[0] < 16 else 128,
    }  # fmt: skip


def build(recipe, shape, num_classes):
    """The untrained network of a recipe.

    Args:
        recipe: `Recipe`.
        shape: Channels, height and width of the images.
        num_classes: Outputs.

    Returns:
        `nn.Module`, or a network of `rfkit.numpy_nets`.
    """
    if recipe.framework == "numpy":
        return getattr(numpy_nets, recipe.network)(shape, num_classes, **recipe.options, seed=recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return SmallResNet(num_classes, **recipe.options)


def train(recipe, data, *, progress=False):
    """Follow a recipe.

    Args:
        recipe: `Recipe`.
        data: `rfkit.data.ImageData`.
        progress: Print a line an epoch.

    Returns:
        JSON-able record: settings, history (an epoch each: loss, test accuracy in percent), test accuracy, confusion
        matrix (row: label, column: answer), filters of the first layer (count, 3, side, side), seconds, provenance.
    """
    shape = (3, data.image_size, data.image_size)
    net, start = build(recipe, shape, data.num_classes), time.perf_counter()
    history, answers, filters = (_with_numpy if recipe.framework == "numpy" else _with_torch)(
        net, recipe, data, progress
    )
    confusion = np.zeros((data.num_classes, data.num_classes), int)
    np.add.at(confusion, (data.test_labels, answers), 1)
    return {
        "recipe": asdict(recipe),
        "history": history,
        "test_accuracy": 100 * float(np.mean(answers == data.test_labels)),
        "confusion": confusion.tolist(),
        "classes": list(data.class_names),
        "filters": filters.round(5).tolist(),
        "parameters": _count(net),
        "provenance": store.provenance(data.source, torch.device("cpu"), time.perf_counter() - start),
    }


def _with_numpy(net, recipe, data, progress):
    x, labels = numpy_training.arrays(data)
    held_out = numpy_training.arrays(data, test=True)
    settings = dict(recipe.training)
    optimizer = getattr(numpy_training, settings.pop("optimizer"))(lr=settings.pop("lr"))
    report = (lambda row: print(f"{recipe.name}: {row}", flush=True)) if progress else None
    history = numpy_training.train(
        net, x, labels, optimizer, epochs=recipe.epochs, held_out=held_out, seed=recipe.seed, report=report, **settings
    )
    chunks = (held_out[0][i : i + 250] for i in range(0, len(held_out[0]), 250))
    answers = np.concatenate([net.scores(chunk)[0].argmax(1) for chunk in chunks])
    return history, answers, net.parameters["w0" if "w0" in net.parameters else "w1"]


def _with_torch(net, recipe, data, progress):
    config = TrainConfig(epochs=recipe.epochs, **recipe.training)
    result = training.fit(net, data, config, seed=recipe.seed, device="cpu", progress=progress, label=recipe.name)
    history = [
        {"epoch": row["epoch"], "loss": row["train_loss"], "accuracy": row["test_accuracy"]} for row in result.history
    ]
    answers = training.predictions(net, data.test_images)
    return history, answers, net.features[0][0].weight.detach().numpy()


def _count(net):
    arrays = net.parameters() if isinstance(net, nn.Module) else net.parameters.values()
    return sum(int(np.prod(array.shape)) for array in arrays)


def find(recipe, preset_name, *, root=None, results=records.RESULTS, names=None, sha256=None):
    """Look for the record of a recipe, in the run store and then among the committed ones.

    Args:
        recipe: `Recipe`.
        preset_name: Preset whose committed records are searched.
        root: Folder of the run store.
        results: Folder of the committed records.
        names: Names of the data set, as in `rfkit.data.Source`; ``None`` for whichever is there.
        sha256: Checksum of the data set; ``None`` for whichever has the name.

    Returns:
        The record as `train` makes it, or None.

    Raises:
        ConfigError: If a file has the name of this recipe and the content of another.
    """
    for folder in (_folder(root), Path(results) / preset_name / "recipes"):
        for path in sorted(folder.glob(f"*-{recipe.key}.json")):
            record = read_json(path)
            data = record["provenance"]["data"]
            if (names and data["name"] not in names) or sha256 not in (None, data["sha256"]):
                continue
            if record["recipe"] | {"name": ""} != json.loads(json.dumps(asdict(recipe))) | {"name": ""}:
                raise ConfigError(f"{path} is of another recipe; delete it")
            return record
    return None


def ensure(wanted, preset, *, root=None, results=records.RESULTS, record=False, progress=False):
    """The records of recipes: found, or trained where the data are at hand.

    Args:
        wanted: List of `Recipe`.
        preset: `rfkit.presets.Preset`; its first data set is used.
        root: Folder of the run store.
        results: Folder of the committed records.
        record: Write to the committed records instead of the run store.
        progress: As in `train`.

    Returns:
        List of records, in the order of the recipes; those that are neither there nor quick to make are left out,
        and said to be.
    """
    dataset, found = preset.datasets[0], []
    source = _source(dataset, preset)
    for recipe in wanted:
        here = find(recipe, preset.name, root=root, results=results, **source)
        if here is None and (preset.name in ("smoke", "demo") or record):
            data = records.load(dataset, preset.image_limit)
            here = train(recipe, data, progress=progress)
            folder = Path(results) / preset.name / "recipes" if record else _folder(root)
            write_json(folder / f"{data.source.name}-{recipe.key}.json", here)
        if here is None:
            print(f"{recipe.name!r} is not recorded; run: rfkit recipes {preset.name} --datasets {dataset} --record")
            continue
        found.append(here | {"recipe": here["recipe"] | {"name": recipe.name}})
    return found


def _source(dataset, preset):
    """What `find` asks of a data set; copies of the paper's data stand for them."""
    if dataset in PUBLISHED:
        return {"names": (dataset, PUBLISHED[dataset].copy)}
    source = records.load(dataset, preset.image_limit).source
    return {"names": (source.name,), "sha256": source.sha256}


def _folder(root):
    return store.Store(root).root / "recipes"
