"""Training: one loop for every preset and protocol, evaluation, batches, and what it costs."""

# isort: off
# fmt: off
from rfkit.training.batches import TrainingBatches, model_inputs, normalised, remember_statistics
from rfkit.training.cost import flops_per_image, image_steps, seconds_per_image
from rfkit.training.loop import (
    DivergedError, FitResult, calibrated, check_outputs, cross_entropy, evaluate, evaluation_mode, fit,
    loss_and_accuracy, outputs, pick_device, watched,
)
