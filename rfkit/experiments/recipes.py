"""Analysis: question 4 of the homework, small networks trained on images, in numpy and in torch."""

import functools
from collections import namedtuple

import numpy as np
import pandas as pd

import rfkit
from rfkit.config import TrainConfig, one_of
from rfkit.experiments.analysis import Analysis


def _recipe(name, framework, network, epochs, options, training):
    """A network and how it is trained: fields of `TrainConfig`, or arguments of `descent.train`."""
    about = {"framework": framework, "network": network, "epochs": epochs, "seed": 0}
    return {"name": name} | about | {"options": options, "training": training}


_Scale = namedtuple(
    "_Scale", "three_layers deep torch variants stages widths variant_widths numpy_lr torch_lr augmentation precision"
)
"""How much is run: epochs of the three networks and of each variant, their widths, learning rates and the like."""
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
    """The recipes of question 4: the hand-out's, a deeper one in numpy, one in torch; ``paper`` has ``study``'s."""
    scale = _scale(preset_name)
    by_numpy = {"optimizer": "Adam", "batch_size": 100, "flip": "flip" in scale.augmentation}
    small = {"filters": 8, "kernel": 5, "hidden": 64} if preset_name in ("smoke", "demo") else {}
    return [
        _recipe("three layers, numpy", "numpy", "ThreeLayerConvNet", scale.three_layers, small | {"decay": 1e-3},
                by_numpy | {"lr": 1e-3}),
        _recipe("batch-normalised, numpy", "numpy", "DeepConvNet", scale.deep, {"stages": scale.stages},
                by_numpy | {"lr": scale.numpy_lr}),
        _recipe("residual, torch", "torch", "SmallResNet", scale.torch, {"widths": scale.widths}, _by_torch(scale)),
    ]  # fmt: skip


def variants(preset_name):
    """What each choice of the residual network bought: recipes, the unchanged one first, then one taken back each."""
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
        _recipe(name, "torch", "SmallResNet", scale.variants, widths | options, base | changes)
        for name, (options, changes) in cases.items()
    ]


def _scale(preset_name):
    return _SCALES[one_of("preset", "study" if preset_name == "paper" else preset_name, tuple(_SCALES))]


def _by_torch(scale):
    return {
        "lr": scale.torch_lr, "nesterov": True, "schedule": "one_cycle", "augmentation": scale.augmentation,
        "precision": scale.precision, "batch_size": 64 if scale.widths[0] < 16 else 128,
    }  # fmt: skip


def settings(preset, recipes=None):
    """The recipes of a preset, or those given, on its first data set."""
    wanted = [*networks(preset.name), *variants(preset.name)] if recipes is None else recipes
    return [({k: v for k, v in recipe.items() if k != "name"}, preset.datasets[0]) for recipe in wanted]


def compute(_, settings, work):
    """Follow a recipe; confusion has a row a label, filters are those of the first layer (count, 3, side, side)."""
    data = work.data
    train = _with_numpy if settings["framework"] == "numpy" else _with_torch
    history, answers, filters, parameters = train(settings, data, work.progress)
    confusion = np.zeros((data.num_classes, data.num_classes), int)
    np.add.at(confusion, (data.test_labels, answers), 1)
    return {
        "history": history, "test_accuracy": 100 * float(np.mean(answers == data.test_labels)),
        "confusion": confusion.tolist(), "classes": list(data.class_names), "filters": filters.round(5).tolist(),
        "parameters": sum(int(np.prod(array.shape)) for array in parameters),
    }  # fmt: skip


def _with_numpy(recipe, data, progress):
    from rfkit.homework import descent, nets

    x, labels = descent.arrays(data)
    held_out = descent.arrays(data, test=True)
    shape, training = (3, data.image_size, data.image_size), dict(recipe["training"])
    net = getattr(nets, recipe["network"])(shape, data.num_classes, **recipe["options"], seed=recipe["seed"])
    optimizer = getattr(descent, training.pop("optimizer"))(lr=training.pop("lr"))
    report = functools.partial(print, recipe["network"], flush=True) if progress else None
    history = descent.train(
        net, x, labels, optimizer, epochs=recipe["epochs"], held_out=held_out, seed=recipe["seed"], report=report,
        **training,
    )  # fmt: skip
    first = net.parameters["w0" if "w0" in net.parameters else "w1"]
    return history, descent.answers(net, held_out[0]), first, net.parameters.values()


def _with_torch(recipe, data, progress):
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe["seed"])
        net = rfkit.models.SmallResNet(data.num_classes, **recipe["options"])
    config, name = TrainConfig(epochs=recipe["epochs"], **recipe["training"]), recipe["network"]
    result = rfkit.training.fit(net, data, config, seed=recipe["seed"], device="cpu", progress=progress, label=name)
    kept = {"epoch": "epoch", "loss": "train_loss", "accuracy": "test_accuracy"}
    history = [{name: row[stored] for name, stored in kept.items()} for row in result.history]
    answers = torch.cat([logits.argmax(1) for logits in rfkit.training.outputs(net, data.test_images)]).numpy()
    return history, answers, net.features[0][0].weight.detach().numpy(), net.parameters()


def seconds(settings, data):
    """A millisecond a step and image: 18 epochs of CIFAR-10 took 786 s in torch on two cores."""
    return settings["epochs"] * 1e-3 * len(data.train_labels)


def frame(results):
    """What networks of question 4 cost and reach, one row per recipe."""
    return pd.DataFrame([
        {name: each["settings"][name] for name in ("framework", "network", "epochs")}
        | {"data_label": each["provenance"]["data"]["label"], "wall_seconds": each["provenance"]["wall_seconds"]}
        | {name: each["values"][name] for name in ("parameters", "test_accuracy")}
        for each in results
    ])


ANALYSIS = Analysis("recipe", "network", settings, compute, frame, seconds, planned=False, on_cpu=True)
