"""Walks over the loss surface: slices around a trained network, and the straight line between two."""

import copy

import numpy as np
import torch

from rfkit import training


def line(model_a, model_b, images, labels, *, points=11, calibration=None):
    """Loss on the straight line between two networks.

    Args:
        model_a: Network at 0; not changed.
        model_b: Network of the same kind at 1; not changed.
        images: As in `rfkit.training.loss_and_accuracy`.
        labels: Class indices (N,).
        points: Number of points, both ends included.
        calibration: Images that set the batch-norm statistics anew at every point; ``None`` mixes the statistics as if
            they were weights.

    Returns:
        (places, losses, accuracies): arrays (points,), accuracies in percent.

    Raises:
        ValueError: If the two networks have different parameters, or there are fewer than two points.

    Source: Goodfellow et al. (2015); the paper's Sec. 3.3 says that two seeds fall into distinct basins.
    """
    a, b = model_a.state_dict(), model_b.state_dict()
    if {name: t.shape for name, t in a.items()} != {name: t.shape for name, t in b.items()}:
        raise ValueError("the two networks have different parameters; expected two seeds of one network")
    if points < 2:
        raise ValueError(f"points is {points}; expected at least 2, the two ends")
    mixed, places = copy.deepcopy(model_a), np.linspace(0, 1, points)
    found = []
    for place in places:
        mixed.load_state_dict({
            name: torch.lerp(value, b[name], float(place)) if value.is_floating_point() else value
            for name, value in a.items()
        })  # fmt: skip
        network = mixed if calibration is None else training.calibrated(mixed, calibration)
        found.append(training.loss_and_accuracy(network, images, labels))
    return places, *np.array(found).T


def surface(model, images, labels, *, reach=1.0, points=9, seed=0):
    """Loss on a plane through a network, along two random directions scaled filter by filter.

    Returns:
        (`points` places from -`reach` to `reach` in lengths of a filter, losses (first direction, second direction)).

    Raises:
        ValueError: If `points` is even or below 3.

    Source: Li et al. (2018), Sec. 4, filter normalisation.
    """
    if points % 2 != 1 or points < 3:
        raise ValueError(f"points is {points}; expected an odd number from 3 on: the network itself is in the middle")
    generator = torch.Generator().manual_seed(seed)
    moved, start = copy.deepcopy(model), dict(model.named_parameters())
    directions = [{name: _like_filters(p, generator) for name, p in start.items() if p.dim() > 1} for _ in range(2)]
    places = np.linspace(-reach, reach, points)
    losses = np.empty((points, points))
    for i, j in np.ndindex(points, points):
        a, b = float(places[i]), float(places[j])
        with torch.no_grad():
            for name in directions[0]:
                moved.get_parameter(name).copy_(start[name] + (a * directions[0][name] + b * directions[1][name]))
        losses[i, j] = training.loss_and_accuracy(moved, images, labels)[0]
    return places, losses


def _like_filters(parameter, generator):
    direction = torch.randn(parameter.shape, generator=generator).to(parameter)
    own, new = (t.detach().flatten(1).norm(dim=1) for t in (parameter, direction))
    return direction * (own / new.clamp_min(1e-12)).view(-1, *[1] * (parameter.dim() - 1))
