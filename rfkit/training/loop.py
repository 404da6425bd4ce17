"""One training loop for every preset and protocol, and evaluation."""

import copy
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from rfkit.config import whole
from rfkit.files import first_line
from rfkit.training.batches import TrainingBatches, model_inputs, remember_statistics


class DivergedError(RuntimeError):
    """The loss became NaN or infinite; nothing is saved."""


@dataclass(frozen=True)
class FitResult:
    """What a training leaves beside the weights."""

    #: A mapping per epoch, of loss and accuracy (percent) on training and test images, learning rate, seconds. Training
    #: figures are running ones, on augmented images in train mode.
    history: tuple[dict, ...]
    selected_epoch: int  #: Epoch whose weights the model has now, counted from 1.
    #: What plain decay leaves of a weight that never gets a gradient, the product of ``1 - lr * weight_decay / (1 -
    #: momentum)`` over all steps.
    shrink_factor: float
    last_state: dict  #: State dict of the last epoch.


def pick_device(device=None):
    """CUDA if there is one, else the CPU; a name is taken as it is. Turns off TF32, so that float32 is float32."""
    torch.backends.cudnn.allow_tf32 = False
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = first_line(error)
        raise ValueError(f"device {device!r} cannot be used ({reason}); expected 'cpu', 'cuda' or 'mps'") from error
    return chosen


def fit(
    model, data, config, *, seed=0, device=None, resume=None, on_epoch=None, after_step=None, frozen_batchnorm=False,
    progress=False, label="training",
):  # fmt: skip
    """Train a network in place.

    Args:
        model: Network, images (N, 3, H, W) to logits (N, classes).
        data: `rfkit.data.ImageData`.
        config: `rfkit.config.TrainConfig`.
        seed: Seed of batch order, augmentation and dropout (not of the weights: those are the model's).
        device: As in `pick_device`.
        resume: State given to `on_epoch` by an interrupted training of the same configuration.
        on_epoch: Called after each epoch with a mapping of tensors and plain values to resume from; valid during the
            call, since its weights are those in training.
        after_step: Called without arguments after every step of the optimiser.
        frozen_batchnorm: Keep batch norm as it is: its statistics, scale and shift.
        progress: Print a line per epoch.
        label: Name of this training in progress and messages.

    Returns:
        `FitResult`; the model holds the selected weights, in evaluation mode, and knows the channel
        statistics of its images.

    Raises:
        DivergedError: If the loss becomes NaN or infinite.
        ValueError: If the network fails on such images, or does not give a score for each class.

    Source: Paper Sec. 3.1; settings of each protocol in `rfkit.presets`.
    """
    device = pick_device(device)
    remember_statistics(model, data.mean, data.std)
    model.to(device, memory_format=torch.channels_last)
    check_outputs(model, data.num_classes, data.image_size)
    batches = TrainingBatches(data, config.batch_size, config.augmentation, seed, device, config.train_share)
    test_images, test_labels = torch.from_numpy(data.test_images), torch.from_numpy(data.test_labels).to(device)
    norms = list(batch_norms(model)) if frozen_batchnorm else []
    fixed = {id(parameter) for norm in norms for parameter in norm.parameters()}
    sgd = torch.optim.SGD(
        [p for p in model.parameters() if id(p) not in fixed], config.lr, config.momentum,
        weight_decay=config.weight_decay, nesterov=config.nesterov, fused=device.type in ("cpu", "cuda"),
    )  # fmt: skip
    plan, every_step = schedule(sgd, config, len(batches))
    state = {"epoch": 0, "history": [], "shrink": 1.0, "best": None}
    if resume is not None:
        state = {key: resume[key] for key in state}
        model.load_state_dict(resume["model"])
        sgd.load_state_dict(resume["optimizer"])
        plan.load_state_dict(resume["schedule"])
        batches.generator.set_state(resume["generator"])
    stepped = torch.compile(model) if config.compiled else model
    while state["epoch"] < config.epochs:
        start, rate = time.perf_counter(), sgd.param_groups[0]["lr"]
        model.train()
        for norm in norms:
            norm.eval()
        epoch = state["epoch"] + 1
        # randomness of layers such as dropout: the same when the epoch is run again, and nobody else's
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(1_000_003 * seed + epoch)
            loss, accuracy, shrink = _epoch(stepped, batches, sgd, plan if every_step else None, config, after_step)
        if not every_step:
            plan.step()
        test_loss, test_accuracy = loss_and_accuracy(model, test_images, test_labels)
        if not math.isfinite(loss + test_loss):  # the last step of an epoch shows in the test loss only
            raise DivergedError(f"{label}: the loss became {loss + test_loss} in epoch {epoch}; lower lr ({config.lr})")
        row = {
            "epoch": epoch, "lr": rate, "train_loss": loss, "train_accuracy": accuracy, "test_loss": test_loss,
            "test_accuracy": test_accuracy, "seconds": round(time.perf_counter() - start, 3),
        }  # fmt: skip
        state |= {"epoch": epoch, "history": [*state["history"], row], "shrink": state["shrink"] * shrink}
        if config.selection == "best_test" and test_accuracy > (state["best"] or {"accuracy": -1})["accuracy"]:
            state["best"] = {"epoch": epoch, "accuracy": test_accuracy, "model": copy.deepcopy(model.state_dict())}
        if on_epoch is not None:
            on_epoch(state | {
                "model": model.state_dict(), "optimizer": sgd.state_dict(), "schedule": plan.state_dict(),
                "generator": batches.generator.get_state(),
            })  # fmt: skip
        if progress:
            print(f"{label}: epoch {epoch}/{config.epochs}, loss {loss:.3f}, test {test_accuracy:.2f} %", flush=True)
    last_state, best = copy.deepcopy(model.state_dict()), state["best"] or {"epoch": config.epochs}
    model.load_state_dict(best.get("model", last_state))
    model.eval().zero_grad()
    return FitResult(tuple(state["history"]), best["epoch"], state["shrink"], last_state)


def schedule(optimizer, config, steps):
    """The learning-rate schedule as configured."""
    if config.schedule == "one_cycle":
        settings = {"total_steps": config.epochs * steps + 1, "pct_start": 0.3, "cycle_momentum": False}
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, **settings), True
    if config.schedule == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=config.epochs), False
    return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0), False


def batch_norms(model):
    """Batch-norm layers of a network."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            yield module


def _epoch(model, batches, optimizer, schedule, config, after_step):
    """One pass; returns mean loss, accuracy in percent, and the shrink factor of its steps."""
    device_type = next(model.parameters()).device.type
    total_loss, correct, count, shrink = 0.0, 0, 0, 1.0
    for images, labels in batches:
        with torch.autocast(device_type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_value is not None:
            torch.nn.utils.clip_grad_value_(model.parameters(), config.clip_value)
        shrink *= 1 - optimizer.param_groups[0]["lr"] * config.weight_decay / (1 - config.momentum)
        optimizer.step()
        if after_step is not None:
            after_step()
        if schedule is not None:
            schedule.step()
        # sums stay on the device: reading them here would make a GPU wait at every step
        total_loss += loss.detach() * len(labels)
        correct += (logits.detach().argmax(1) == labels).sum()
        count += len(labels)
    return float(total_loss) / count, 100 * int(correct) / count, shrink


@contextmanager
def evaluation_mode(model):
    """Put a network in evaluation mode for a block; every module's own mode comes back, also after an error."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def watched(modules, see):
    """Within a block call `see(name, inputs, output)` after each pass through one of some modules by name."""
    hooks = [each.register_forward_hook(lambda _, x, y, name=name: see(name, x, y)) for name, each in modules.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def check_outputs(model, num_classes, image_size):
    """Refuse a network whose logits do not fit a data set, before it is trained; a `ValueError`."""
    tried = copy.deepcopy(model)  # its statistics are those of no image
    images = torch.zeros(2, 3, image_size, image_size, device=next(model.parameters()).device)
    for mode in ("training", "evaluation"):
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                logits = tried.train(mode == "training")(images)
        except RuntimeError as error:
            fix = "change the network, or the size of the images"
            raise ValueError(
                f"the network fails on images of {tuple(images.shape)}: {first_line(error)}; {fix}"
            ) from error
        shape = tuple(getattr(logits, "shape", ()))
        if shape != (2, num_classes):
            found = f"logits of shape {shape}" if shape else type(logits).__name__
            expected = f"(2, {num_classes}), a score for each class"
            raise ValueError(f"the network gives {found} for 2 images in {mode}; expected {expected}")


def loss_and_accuracy(model, images, labels, batch_size=500):
    """Mean cross-entropy and accuracy in evaluation mode; the model's mode is restored.

    Args:
        model: Network.
        images: uint8 (N, H, W, 3) as in `ImageData` for a model that knows its channel statistics, or
            normalised float (N, 3, H, W).
        labels: Class indices (N,).
        batch_size: Images at a time; the result does not depend on it beyond rounding.

    Returns:
        (loss, accuracy in percent).

    Raises:
        ValueError: If there are no images, their number differs from that of the labels, or a label is no class.
    """
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(f"{len(images)} images and {len(labels)} labels; expected the same positive number of both")
    labels = torch.as_tensor(labels, dtype=torch.int64, device=next(model.parameters()).device)
    total_loss, correct = 0.0, 0
    parts = labels.split(whole("batch_size", batch_size, 1))
    for logits, part in zip(outputs(model, images, batch_size), parts, strict=True):
        total_loss += cross_entropy(logits, part)
        correct += ((logits.argmax(1) == part) & ~logits.isnan().any(1)).sum()  # NaN would count as the largest
    return float(total_loss) / len(labels), 100 * int(correct) / len(labels)


def cross_entropy(logits, labels):
    """Summed over the images; a `ValueError` for a label that is no class of the network's."""
    low, high = (int(each) for each in labels.aminmax())
    if low < 0 or high >= logits.shape[1]:
        raise ValueError(f"labels are {low} to {high}, and the network has the classes 0 to {logits.shape[1] - 1}")
    return F.cross_entropy(logits, labels, reduction="sum")


def outputs(model, images, batch_size=500):
    """Logits batch by batch, in evaluation mode and float32."""
    device = next(model.parameters()).device
    for start in range(0, len(images), whole("batch_size", batch_size, 1)):
        with evaluation_mode(model), torch.inference_mode():  # not around the loop: modes are the caller's in between
            logits = model(model_inputs(model, images[start : start + batch_size], device)).float()
        yield logits


def evaluate(model, images, labels, batch_size=500):
    """Accuracy in evaluation mode, in percent."""
    return loss_and_accuracy(model, images, labels, batch_size)[1]


def calibrated(model, images, batch_size=64):
    """A copy of a network whose batch-norm statistics are those of some images.

    Args:
        model: Network; not changed.
        images: As in `loss_and_accuracy`.
        batch_size: Images at a time; statistics are averaged over batches, so that a last one of less than half as many
            images is joined to the one before.

    Returns:
        Copy in evaluation mode.

    Raises:
        ValueError: If there are no images.
    """
    if not len(images):
        raise ValueError("no images; statistics of batch norm need some")
    network = copy.deepcopy(model).eval()
    norms = list(batch_norms(network))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum, norm.training = None, True  # None: the plain average over all batches
    device = next(network.parameters()).device
    last = len(images) - max(1, whole("batch_size", batch_size, 1) // 2)
    starts = range(0, max(1, last + 1), batch_size)
    with torch.no_grad():
        for start, end in zip(starts, [*starts[1:], len(images)], strict=True):
            network(model_inputs(network, images[start:end], device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()
