"""The networks of stored runs, with their weights."""

import rfkit


def build(config):
    """The untrained network of a run, on the CPU; the same seed gives the same weights at every level."""
    return rfkit.models.seeded_build(**config.network, seed=config.seed)


def load_model(run, which, data):
    """The network of a stored run with its weights, in evaluation mode, on the CPU; it knows the data's statistics."""
    model = build(run.config)
    if which != "init" or run.has_weights("init"):  # records leave them out, since the seed gives the same
        model.load_state_dict(run.weights(which))
    rfkit.training.remember_statistics(model, data.mean, data.std)
    return model.eval()


def at_stage(run, stage, data, calibration_images=1_000):
    """The network of a run before training (``"init"``), batch norm set from images, or after it (``"final"``)."""
    model = load_model(run, stage, data)
    return calibrated(model, data, calibration_images) if stage == "init" else model


def trained(run, work):
    """The trained network of a run on the device of a computation, in the layout that is fastest there."""
    import torch

    return load_model(run, "final", work.data).to(work.device, memory_format=torch.channels_last)


def calibrated(model, data, images):
    """A copy in evaluation mode that normalises by the data's statistics, batch norm set from some training images."""
    rfkit.training.remember_statistics(model, data.mean, data.std)
    return rfkit.training.calibrated(model.eval(), data.sample(images).train_images)
