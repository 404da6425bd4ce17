"""Several seeds of one network trained as one program: small networks leave most of a GPU idle."""

import copy
import math
import time

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from rfkit import training
from rfkit.batches import TrainingBatches, remember_statistics, seeded


class Stack(nn.Module):
    """Networks of one kind as one: images (S, N, 3, H, W) to logits (S, N, classes).

    Args:
        models: The networks; their weights and buffers are copied.
    """

    def __init__(self, models):
        super().__init__()
        weights, buffers = stack_module_state(models)
        self.weights = nn.ParameterDict({_flat(name): nn.Parameter(w.detach()) for name, w in weights.items()})
        self.names = {_flat(name): name for name in (*weights, *buffers)}
        for name, value in buffers.items():
            self.register_buffer(_flat(name), value)
        self._one = [copy.deepcopy(models[0])]  # in a list, so that its own weights are not ours

    def train(self, mode=True):
        """As in `nn.Module`."""
        self._one[0].train(mode)
        return super().train(mode)

    def forward(self, images):
        """Logits of each network for its own images."""
        tensors = {self.names[name]: tensor for name, tensor in (*self.weights.items(), *self.named_buffers())}

        def one(state, x):
            return functional_call(self._one[0], state, (x,))

        return vmap(one, randomness="different")(tensors, images)

    def unload(self, models):
        """Copy the weights and buffers of each network into a network of its own.

        Args:
            models: As many networks of the same kind.
        """
        stacked = dict(self.weights.items()) | dict(self.named_buffers())
        for i, model in enumerate(models):
            state = {self.names[name]: tensor.detach()[i] for name, tensor in stacked.items() if name in self.names}
            model.load_state_dict(state)


def _flat(name):
    return name.replace(".", "/")


def fit(models, data, config, *, seeds, device=None, resume=None, on_epoch=None, label="training"):
    """Train networks of one kind side by side, each on its own batches, as `rfkit.training.fit` trains one.

    Args:
        models: Networks, changed in place.
        data: `rfkit.data.ImageData`.
        config: `rfkit.config.TrainConfig`.
        seeds: Seed of each network's batch order and augmentation.
        device: As in `rfkit.training.pick_device`.
        resume: State given to `on_epoch` by an interrupted training of the same networks.
        on_epoch: As in `rfkit.training.fit`.
        label: Name of this training in messages.

    Returns:
        List of `rfkit.training.FitResult`, one a network; each is that of training it alone but for rounding and for
        what layers such as dropout draw.

    Raises:
        rfkit.training.DivergedError: If a loss becomes NaN or infinite.
    """
    device = training.pick_device(device)
    for model in models:
        remember_statistics(model, data.mean, data.std)
        model.to(device)
    stack = Stack(models)
    loaders = [
        TrainingBatches(data, config.batch_size, config.augmentation, seed, device, config.train_share)
        for seed in seeds
    ]
    test_images, test_labels = torch.from_numpy(data.test_images), torch.from_numpy(data.test_labels).to(device)
    optimizer = training.optimizer(stack.parameters(), config, device)
    schedule, every_step = training.schedule(optimizer, config, len(loaders[0]))
    state = {"epoch": 0, "histories": [[] for _ in models], "shrink": 1.0, "best": [None] * len(models)}
    if resume is not None:
        state = {key: resume[key] for key in state}
        stack.load_state_dict(resume["stack"])
        optimizer.load_state_dict(resume["optimizer"])
        schedule.load_state_dict(resume["schedule"])
        for loader, generator in zip(loaders, resume["generators"], strict=True):
            loader.generator.set_state(generator)
        stack.unload(models)
    stepped = torch.compile(stack) if config.compiled else stack
    while state["epoch"] < config.epochs:
        start, rate, epoch = time.perf_counter(), optimizer.param_groups[0]["lr"], state["epoch"] + 1
        with seeded(seeds[0], epoch, device):
            losses, accuracies, shrink = _epoch(stepped, loaders, optimizer, schedule if every_step else None, config)
        if not every_step:
            schedule.step()
        stack.unload(models)
        state |= {"epoch": epoch, "shrink": state["shrink"] * shrink}
        tested = [training.loss_and_accuracy(model, test_images, test_labels) for model in models]
        if not all(math.isfinite(loss + test_loss) for loss, (test_loss, _) in zip(losses, tested, strict=True)):
            raise training.DivergedError(
                f"{label}: losses of seeds {list(seeds)} became {losses} in epoch {epoch}; lower lr (now {config.lr})"
            )
        seconds = round((time.perf_counter() - start) / len(models), 3)
        for i, (model, (test_loss, test_accuracy)) in enumerate(zip(models, tested, strict=True)):
            row = {
                "epoch": epoch, "lr": rate, "train_loss": losses[i], "train_accuracy": accuracies[i],
                "test_loss": test_loss, "test_accuracy": test_accuracy, "seconds": seconds,
            }  # fmt: skip
            state["histories"][i].append(row)
            state["best"][i] = training.best_so_far(state["best"][i], model, row, config)
        if on_epoch is not None:
            on_epoch(state | {
                "seeds": list(seeds), "stack": stack.state_dict(),
                "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(),
                "generators": [loader.generator.get_state() for loader in loaders],
            })  # fmt: skip
    return [
        training.finished(model, history, best, state["shrink"])
        for model, history, best in zip(models, state["histories"], state["best"], strict=True)
    ]


def _epoch(stack, loaders, optimizer, schedule, config):
    """One pass; returns mean losses, accuracies in percent, and the shrink factor of its steps."""
    device, networks = loaders[0].device, len(loaders)
    total_loss, correct, count, shrink = torch.zeros(networks, device=device), 0, 0, 1.0
    stack.train()
    for batch in zip(*loaders, strict=True):
        images, labels = (torch.stack(part) for part in zip(*batch, strict=True))
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = stack(images)
            # a mean over each network's batch and a sum over networks: every gradient is that of a network alone
            each = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)
        optimizer.zero_grad(set_to_none=True)
        each.sum().backward()
        shrink *= training.step(stack, optimizer, schedule, config)
        total_loss += each.detach() * labels.shape[1]
        correct = correct + (logits.detach().argmax(2) == labels).sum(1)
        count += labels.shape[1]
    return (total_loss / count).tolist(), (100 * correct / count).tolist(), shrink
