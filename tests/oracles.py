"""Slow exact references."""

import torch
import torch.nn.functional as F


def dense_hessian(model, images, labels):
    """Hessian of the mean cross-entropy by double backward, a row at a time; the model's mode is taken as it is."""
    parameters = list(model.parameters())
    loss = F.cross_entropy(model(images), labels)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    flat = torch.cat([
        (torch.zeros_like(p) if g is None else g).reshape(-1) for g, p in zip(gradients, parameters, strict=True)
    ])  # fmt: skip
    rows = []
    for entry in flat:
        row = [None] * len(parameters)
        if entry.requires_grad:
            row = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True)
        rows.append(torch.cat([
            (torch.zeros_like(p) if r is None else r).reshape(-1) for r, p in zip(row, parameters, strict=True)
        ]))  # fmt: skip
    return torch.stack(rows).detach()
