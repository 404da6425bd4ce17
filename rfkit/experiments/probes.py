"""Analysis: where in a network accuracy is made: linear probes of every layer, and the last blocks taken out."""

import numpy as np

import rfkit
from rfkit.experiments.analysis import Analysis, inside_block, rows_of
from rfkit.experiments.networks import trained


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    # ridge: relative to the mean eigenvalue of the features' covariance
    return {"train_images": 10_000, "test_images": 2_000, "ridge": 1e-3, "blocks": 2, "version": 1}


def compute(run, settings, work):
    """Accuracy of a ridge classifier on each pooled activation, and of the network without its last blocks.

    Source: Alain & Bengio (2017), linear probes; Richter et al. (2021), layers whose field exceeds the image.
    """
    import torch
    from torch import nn

    data = work.data
    few = data.sample(settings["train_images"], settings["test_images"])
    model = trained(run, work)
    shape, latest, sets = (3, data.image_size, data.image_size), {}, {}
    # a module that runs twice counts by its last call
    fields = {field.name.partition("#")[0]: field for field in rfkit.receptive_field.trace(model, shape)}
    relus = {name: each for name, each in model.named_modules() if isinstance(each, nn.ReLU) and name in fields}
    with rfkit.training.watched(relus, lambda name, _, out: latest.update({name: out.mean((2, 3))})):
        for part, images in (("train", few.train_images), ("test", few.test_images)):
            batches = [dict(latest) for _ in rfkit.training.outputs(model, images)]
            pooled = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
            sets[part] = {name: features.double().cpu().numpy() for name, features in pooled.items()}
    labels = few.train_labels, few.test_labels
    layers = [
        {
            "name": name, "field_px": float(min(max(fields[name].size), 1e9)), "map": fields[name].shape[-1],
            "accuracy": ridge_accuracy(sets["train"][name], sets["test"][name], *labels, settings["ridge"]),
        }
        for name in sets["train"]
    ]  # fmt: skip
    dense = rfkit.training.evaluate(model, data.test_images, data.test_labels)
    return {"layers": layers, "dense": dense, "without_blocks": _without_blocks(model, data, settings["blocks"])}


def ridge_accuracy(train, test, train_labels, test_labels, ridge):
    """Percent of test features whose class a ridge regression on one-hot labels gives, in closed form."""
    mean, spread = train.mean(0), train.std(0) + 1e-12
    x, y = ((part - mean) / spread for part in (train, test))
    x, y = (np.hstack([part, np.ones((len(part), 1))]) for part in (x, y))
    targets = np.eye(train_labels.max() + 1)[train_labels]
    gram = x.T @ x
    weights = np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ targets)
    return 100 * float((np.argmax(y @ weights, 1) == test_labels).mean())


def _without_blocks(model, data, count):
    """Test accuracy once the last residual blocks that keep their shape are the identity; None without such blocks."""
    from torch import nn

    stage = getattr(getattr(model, "features", model), "layer4", None)
    if stage is None:
        return None
    for name in [name for name, _ in stage.named_children()][-count:]:
        setattr(stage, name, nn.Identity())
    return rfkit.training.evaluate(model, data.test_images, data.test_labels)


@rows_of(
    "probes", "layer", "inside", "place", "accuracy", "map", "layer_field_px", "image_px", "dense", "without_blocks"
)
def frame(found, run):
    """One row per layer (place: from 1): accuracy of its probe; dense and without_blocks are of the whole network."""
    for place, layer in enumerate(found["layers"], start=1):
        about = {"layer": layer["name"], "inside": inside_block(layer["name"]), "place": place}
        about |= {"accuracy": layer["accuracy"], "map": layer["map"], "layer_field_px": layer["field_px"]}
        whole = {"dense": found["dense"], "without_blocks": found["without_blocks"]}
        yield about | {"image_px": run.config.image_size} | whole


ANALYSIS = Analysis("probes", "run", settings, compute, frame, planned=False)
