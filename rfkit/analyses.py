"""What is measured on a trained network: pruning curve, fine-tuning, Hessian spectrum."""

import copy

import torch

from rfkit import hessian, landscape, models, pruning, records, training
from rfkit.batches import TrainingBatches, remember_statistics


def build(config):
    """The untrained network of a run; the same seed gives the same weights at every level.

    Args:
        config: `RunConfig`.

    Returns:
        `nn.Module` on the CPU.
    """
    return models.seeded_build(
        config.architecture, config.level, width=config.width, num_classes=config.num_classes, seed=config.seed
    )


def load_model(run, which="final"):
    """The network of a stored run with its weights.

    Args:
        run: `rfkit.store.Run`.
        which: As in `rfkit.store.Run.weights`.

    Returns:
        `nn.Module` in evaluation mode, on the CPU.
    """
    model = build(run.config)
    model.load_state_dict(run.weights(which))
    return model.eval()


def at_stage(run, stage, data):
    """The network of a stored run before or after training, its batch norm set for its images.

    Args:
        run: `rfkit.store.Run`.
        stage: ``"init"`` (statistics from training images, since there are none yet) or ``"final"``.
        data: Its data set.

    Returns:
        `nn.Module` in evaluation mode, on the CPU.
    """
    model = load_model(run, stage)
    remember_statistics(model, data.mean, data.std)
    if stage == "init":
        model = training.calibrated(model, data.sample(records.SPECTRUM_CALIBRATION_IMAGES).train_images)
    return model


def _pruning(run, unit, data, device):
    """Dense and one-shot pruned network at every rate, from the final weights each time."""
    # Batch norm keeps the statistics of the dense network, but for reestimated_accuracy. Training figures are on
    # images without augmentation, in evaluation mode.
    dense, rows = run.weights("final"), []
    model = build(run.config).to(device, memory_format=torch.channels_last)
    remember_statistics(model, data.mean, data.std)
    shape = (3, data.image_size, data.image_size)
    usable, times = pruning.usable_weights(model, shape), pruning.multiplications(model, shape)
    few = data.sample(min(len(data.test_images), records.TRAIN_IMAGES))
    calibration = data.sample(records.CALIBRATION_IMAGES).train_images
    for rate in (0.0, *(rate for rate in unit.rates if rate)):
        model.load_state_dict(dense)
        masks = pruning.prune(model, rate)
        test_loss, test_accuracy = training.loss_and_accuracy(model, data.test_images, data.test_labels)
        train_loss, train_accuracy = training.loss_and_accuracy(model, few.train_images, few.train_labels)
        again = training.calibrated(model, calibration)
        weights = {name: p for name, p in model.named_parameters() if name in times}
        rows.append({
            "rates": rate, "test_accuracy": test_accuracy, "test_loss": test_loss,
            "train_accuracy": train_accuracy, "train_loss": train_loss,
            "reestimated_accuracy": training.evaluate(again, data.test_images, data.test_labels),
            "usable_kept": sum(int((mask & usable[name]).sum()) for name, mask in masks.items()),
            "multiplications": sum(int(w.count_nonzero()) * times[name] for name, w in weights.items()),
            "parameters": sum(int(p.count_nonzero()) for p in model.parameters()),
            "layer_sparsity": [1 - int(mask.sum()) / mask.numel() for mask in masks.values()],
        })  # fmt: skip
    return {key: [row[key] for row in rows] for key in rows[0]} | {
        "layers": list(usable),
        "usable": [int(mask.sum()) for mask in usable.values()],
        "prunable": [mask.numel() for mask in usable.values()],
        "train_images": len(few.train_images),
        "calibration_images": len(calibration),
    }


def _usable_pruning(run, unit, data, device):
    """The network without its dead weights, pruned at rates of the usable ones; nothing more where none is dead."""
    model = at_stage(run, "final", data).to(device, memory_format=torch.channels_last)
    usable = pruning.usable_weights(model, (3, data.image_size, data.image_size))
    total, kept = sum(mask.numel() for mask in usable.values()), sum(int(mask.sum()) for mask in usable.values())
    result = {"usable": kept, "dead": total - kept}
    if kept == total:
        return result
    images = data.sample(1, records.CALIBRATION_IMAGES).test_images
    before = torch.cat(list(training.outputs(model, images)))
    pruning.apply_masks(model, usable)
    change = float((torch.cat(list(training.outputs(model, images))) - before).abs().max())
    dense, accuracies = copy.deepcopy(model.state_dict()), []
    for rate in unit.rates:
        model.load_state_dict(dense)
        pruning.prune(model, (total - kept + round(rate * kept)) / total)  # the dead ones go first: they are zero
        accuracies.append(training.evaluate(model, data.test_images, data.test_labels))
    return result | {"rates": list(unit.rates), "test_accuracy": accuracies, "largest_change": change}


def _fine_tune(run, unit, data, device):
    """Test accuracy after pruning, and after training on under the mask."""
    settings = unit.fine_tuning
    model = at_stage(run, "final", data).to(device, memory_format=torch.channels_last)
    masks = pruning.prune(model, settings.rate)
    before = training.evaluate(model, data.test_images, data.test_labels)
    after = pruning.fine_tune(
        model, masks, data, settings.train, seed=run.config.seed, device=device,
        frozen_batchnorm=settings.frozen_batchnorm, label=f"{run.config.folder}, fine-tuning",
    )  # fmt: skip
    return {
        "rate": settings.rate, "epochs": settings.train.epochs, "pruned_accuracy": before, "test_accuracy": after,
        "sparsity": pruning.sparsity(model),
    }  # fmt: skip


def _spectrum(run, unit, data, device):
    """Hessian spectra before training, batch norm calibrated, and after it, on training images without augmentation."""
    wanted, result = unit.spectrum, {}
    few = data.sample(wanted["images"])
    images, labels = few.train_images, few.train_labels
    models = {stage: at_stage(run, stage, data).to(device) for stage in ("init", "final")}
    for stage, model in models.items():
        top = hessian.top_eigenvalues(model, images, labels, wanted["k"])
        density = hessian.spectral_density(model, images, labels, probes=wanted["probes"], steps=wanted["steps"])
        result[stage] = {
            "values": top.values.tolist(), "residuals": top.residuals.tolist(), "products": top.products,
            "nodes": density.nodes.tolist(), "weights": density.weights.tolist(), "zeros": density.zeros,
            "loss": training.loss_and_accuracy(model, images, labels)[0],
        }  # fmt: skip
    places, losses = landscape.surface(model, images, labels)
    return result | {
        "images": len(images), "parameters": top.parameters, "left_out": top.left_out,
        "surface": {"places": places.tolist(), "losses": losses.tolist()},
        "variants": _largest_otherwise(run, models["init"], data, images, labels, device),
    }  # fmt: skip


def _author_ritz(run, unit, data, device):
    """What the author's code calls the spectrum: Ritz values of one run, of an operator that changes at every step."""
    # train mode in small batches, drawn and augmented anew for each product; all entries of the start are equal
    wanted, result = unit.spectrum, {}
    few = data.sample(wanted["images"])
    batches = TrainingBatches(few, len(few.train_labels), run.config.train.augmentation, run.config.seed, device)
    for stage in ("init", "final"):
        model = load_model(run, stage).to(device)
        remember_statistics(model, data.mean, data.std)
        density = hessian.spectral_density(
            model, lambda: next(iter(batches)), None, probes=1, steps=wanted["author_steps"], mode="train",
            start="constant", batch_size=records.AUTHOR_BATCH,
        )  # fmt: skip
        result[stage] = {"nodes": density.nodes[0].tolist(), "weights": density.weights[0].tolist()}
    return result | {"images": len(few.train_labels), "batch": records.AUTHOR_BATCH}


def _largest_otherwise(run, calibrated, data, images, labels, device):
    """The largest eigenvalue before training, under other choices than ours."""
    half = len(images) // 2
    plain = load_model(run, "init").to(device)
    remember_statistics(plain, data.mean, data.std)
    augmented = TrainingBatches(data, len(images), run.config.train.augmentation, run.config.seed, device)
    cases = {
        "evaluation mode, statistics from images (ours)": (calibrated, images, labels, "eval"),
        "half the images": (calibrated, images[:half], labels[:half], "eval"),
        "other images, augmented": (calibrated, *next(iter(augmented)), "eval"),
        "train mode, batches of at most 128": (plain, images, labels, "train"),
        "evaluation mode, uncalibrated": (plain, images, labels, "eval"),
    }
    rough = {"k": 1, "tol": 0.02, "basis": 8}  # these differ by far more
    return {
        name: float(hessian.top_eigenvalues(*case, mode=mode, **rough).values[0])
        for name, (*case, mode) in cases.items()
    }


BY_NAME = {
    "pruning": _pruning,
    "usable_pruning": _usable_pruning,
    "fine_tune": _fine_tune,
    "spectrum": _spectrum,
    "author_ritz": _author_ritz,
}
"""Each takes a run, its unit, its data set and a device, and returns a JSON-able mapping."""
