"""Analysis: accuracy after pruning, and after training on under the mask."""

import rfkit
from rfkit.config import TrainConfig
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import trained
from rfkit.presets import NEVER_PRUNED


def settings(preset, unit):
    """What is computed for a unit of a preset; None for a seed that is not fine-tuned."""
    wanted = preset.fine_tuning(unit.config.dataset, unit.config.seed)
    if wanted is None:
        return None
    pruned = {"method": "global_magnitude", "exclude": list(NEVER_PRUNED)}
    return pruned | wanted | {"train": wanted["train"].to_dict()}


def compute(run, settings, work):
    """Test accuracy before and after fine-tuning."""
    data, train = work.data, TrainConfig(**settings["train"])
    model = trained(run, work)
    masks = rfkit.pruning.prune(model, settings["rate"], settings["method"], exclude=settings["exclude"])
    before = rfkit.training.evaluate(model, data.test_images, data.test_labels)
    after = rfkit.pruning.fine_tune(
        model, masks, data, train, seed=run.config.seed, device=work.device,
        frozen_batchnorm=settings["frozen_batchnorm"], label=f"{run.config.folder}, fine-tuning",
    )  # fmt: skip
    return {
        "rate": settings["rate"], "epochs": train.epochs, "pruned_accuracy": before, "test_accuracy": after,
        "sparsity": rfkit.pruning.sparsity(model),
    }  # fmt: skip


def cost(settings, unit):
    """Each epoch trains on a share of the images and tests."""
    train, config = settings["train"], unit.config
    return train["epochs"] * (train["train_share"] * config.train_images + config.test_images / 3)


@rows_of("fine_tune", "pruning_rate", "epochs", "dense", "pruned", "accuracy")
def frame(tuned, run):
    """Accuracy in percent: dense, after pruning, and after fine-tuning."""
    yield {
        "pruning_rate": tuned["rate"], "epochs": tuned["epochs"], "dense": run.summary["test_accuracy"],
        "pruned": tuned["pruned_accuracy"], "accuracy": tuned["test_accuracy"],
    }  # fmt: skip


ANALYSIS = Analysis("fine_tune", "run", settings, compute, frame, cost)
