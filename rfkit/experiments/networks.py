"""The networks of stored runs, with their weights."""

from rfkit import models
from rfkit.training import calibrated, remember_statistics

CALIBRATION_IMAGES = 1_000
"""Of the training set, for batch norm of untrained networks, where settings do not say another number."""


def build(config):
    """The untrained network of a run, on the CPU; the same seed gives the same weights at every level."""
    return models.seeded_build(
        config.architecture, config.level, width=config.width, num_classes=config.num_classes, seed=config.seed
    )


def load_model(run, which="final"):
    """The network of a stored run with its weights, in evaluation mode, on the CPU."""
    model = build(run.config)
    if which != "init" or run.has_weights("init"):  # records leave them out, since the seed gives the same
        model.load_state_dict(run.weights(which))
    return model.eval()


def at_stage(run, stage, data, calibration_images=CALIBRATION_IMAGES):
    """The network of a run before training (``"init"``), batch norm set from images, or after it (``"final"``)."""
    model = load_model(run, stage)
    remember_statistics(model, data.mean, data.std)
    return calibrated(model, data.sample(calibration_images).train_images) if stage == "init" else model
