"""The Hessian of the loss: its largest eigenvalues and its spectral density, by products with vectors."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from rfkit import training
from rfkit.config import one_of, whole
from rfkit.hessian import lanczos
from rfkit.hessian.landscape import line, surface
from rfkit.hessian.matching import matched
from rfkit.pruning import without_dead_taps
from rfkit.stats import DensityResult
from rfkit.training import calibrated as calibrate_batchnorm

TRAIN_BATCH = 128
MAX_GIB = 4.0  # of activations that are held at a time


@dataclass(frozen=True)
class EigenResult:
    """The largest eigenvalues of a Hessian."""

    values: np.ndarray  #: Array (k,), algebraically largest first.
    residuals: np.ndarray  #: Array (k,), bound on the distance of each to an eigenvalue; 0 for exact zeros.
    products: int  #: Hessian-vector products that were needed.
    parameters: int  #: Size of the Hessian.
    left_out: int  #: Coordinates whose rows are exactly zero, since the loss does not depend on them.


class HessianOperator:
    """Products of vectors with the Hessian of the mean cross-entropy over all parameters, as `top_eigenvalues` asks.

    A copy of the network is used, without weights that only ever meet padding; the vectors have no place for parameters
    whose rows are exactly zero (`left_out` of them).

    Source: Pearlmutter (1994), by two reverse passes. Two reverse passes were measured 1.5 to 2.5 times as fast as
    forward over reverse on these networks, and the first is kept where memory allows.
    """

    def __init__(self, model, images, labels=None, *, mode="eval", batch_size=None):
        one_of("mode", mode, ("eval", "train"))
        self._fresh, self._kept = images if callable(images) else None, None
        if self._fresh is not None:
            images, labels = self._fresh()
        if labels is None or len(images) != len(labels) or not len(images):
            count = "no" if labels is None else len(labels)
            raise ValueError(f"{len(images)} images and {count} labels; expected the same positive number of both")
        self.device = next(model.parameters()).device
        first = training.model_inputs(model, images[:1], self.device)
        self._model = without_dead_taps(model, tuple(first.shape[1:])).requires_grad_(True).train(mode == "train")
        norms = [module for module in self._model.modules() if hasattr(module, "track_running_stats")]
        for module in norms:  # whatever the network's own train() does
            module.training = mode == "train"
        if first.dtype == torch.float32 and self.device.type == "cpu":
            self._model.to(memory_format=torch.channels_last)
        self._weights = list(self._model.parameters())
        self._lengths, self.dtype = [w.numel() for w in self._weights], self._weights[0].dtype
        self._images, self._labels = images, torch.as_tensor(labels).to(self.device)
        if batch_size is None:
            batch_size = min(TRAIN_BATCH, len(images)) if mode == "train" else self._images_that_fit()
        self._batch = whole("batch_size", batch_size, 1)
        alone = len(images) > 1 and len(images) % self._batch == 1
        if mode == "train" and alone and norms:
            raise ValueError(
                f"{len(images)} images in batches of {self._batch} leave a batch of one, which has no statistics; "
                "choose another batch_size"
            )
        # what a product with a random vector leaves at exactly zero is a zero row
        vector = torch.randn(sum(self._lengths), generator=torch.Generator().manual_seed(1))
        product = self._whole(vector.to(self.device, self.dtype))
        if not product.isfinite().all():
            raise ValueError("the Hessian is not finite; expected finite images and weights, and a loss that is finite")
        self._rows = product != 0
        self.size, self.parameters = int(self._rows.sum()), sum(p.numel() for p in model.parameters())
        self.left_out = self.parameters - self.size

    def _images_that_fit(self):
        """By the bytes that autograd keeps for two images."""
        kept = {}

        def see(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
            self._gradients(slice(2))
        each = max(1, sum(kept.values()) - sum(w.nbytes for w in self._weights)) / min(2, len(self._images))
        return int(min(len(self._images), max(1, MAX_GIB * 2**30 / (2 * each))))

    def _gradients(self, part):
        with torch.enable_grad(), torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)  # dropout, if there is any, is the same in every product
            logits = self._model(training.model_inputs(self._model, self._images[part], self.device))
            loss = training.cross_entropy(logits, self._labels[part])
            return torch.autograd.grad(loss, self._weights, create_graph=True, materialize_grads=True)

    def _graphs(self):
        """Gradients with their graphs, kept between products where there is a single batch of them."""
        count = len(self._labels)
        if count > self._batch or self._fresh is not None:
            return (self._gradients(slice(begin, begin + self._batch)) for begin in range(0, count, self._batch))
        self._kept = self._kept or [self._gradients(slice(None))]
        return self._kept

    def _whole(self, vector):
        if self._fresh is not None:
            images, labels = self._fresh()
            self._images, self._labels = images, torch.as_tensor(labels).to(self.device)
        parts = [part.view_as(w) for part, w in zip(vector.split(self._lengths), self._weights, strict=True)]
        total = torch.zeros_like(vector)
        for gradients in self._graphs():
            pairs = [(g, part) for g, part in zip(gradients, parts, strict=True) if g.requires_grad]
            if pairs:  # none: a gradient that depends on no weight, so the Hessian is zero
                made, along = zip(*pairs, strict=True)
                products = torch.autograd.grad(
                    made, self._weights, along, retain_graph=self._kept is not None, materialize_grads=True
                )
                total += torch.cat([product.reshape(-1) for product in products])
        return total / len(self._labels)

    def __call__(self, vector):
        """Product of the Hessian with a vector."""
        whole = torch.zeros(len(self._rows), dtype=self.dtype, device=self.device)
        whole[self._rows] = vector.to(self.dtype)
        return self._whole(whole)[self._rows]


def top_eigenvalues(
    model, images, labels, k=90, *, tol=1e-3, seed=0, mode="eval", basis=None, batch_size=None, max_products=None,
    progress=False,
):  # fmt: skip
    """The largest eigenvalues of the Hessian of the mean cross-entropy over all parameters, as an `EigenResult`.

    Args:
        model: Network; not touched. Batch norm of an untrained one is the caller's choice: `calibrate_batchnorm`.
        images: As in `rfkit.training.loss_and_accuracy`, or a callable without arguments that returns (images, labels)
            anew for every product, as training with augmentation does; such an operator has no one spectrum.
        labels: Class indices (N,).
        k: Number of eigenvalues.
        tol: Largest error, relative to the largest magnitude.
        seed: Seed of the starting vector.
        mode: ``"eval"``, or ``"train"``: batch norm by the statistics of fixed batches.
        basis: Vectors held at a time, of 4 bytes per parameter each; 120 by default for k = 90.
        batch_size: Images at a time. In mode ``"eval"`` the Hessian does not depend on it, and by default as many are
            taken as fit in `MAX_GIB`; in mode ``"train"`` it is part of the definition, by default 128.
        max_products: Stop after so many Hessian-vector products, when the basis is full next; by default never.
        progress: Show a bar.

    Raises:
        ValueError: If k is not between 1 and the number of parameters, the mode is unknown, images and labels do not
            fit each other, or the Hessian is not finite.
        RuntimeError: If it does not converge within `max_products`.

    Source: Paper Sec. 3.3, Figures 1 and 2.
    """
    parameters = sum(p.numel() for p in model.parameters())
    if whole("k", k, 1) > parameters:
        raise ValueError(f"k is {k!r}; expected a whole number between 1 and {parameters}, the number of parameters")
    if max_products is not None:
        whole("max_products", max_products, 1)
    operator = HessianOperator(model, images, labels, mode=mode, batch_size=batch_size)
    values, residuals, products = torch.zeros(0), torch.zeros(0), 0
    if operator.size:
        values, residuals, products = lanczos.extreme(
            operator, operator.size, min(k, operator.size), tol=tol, basis=basis, seed=seed, dtype=operator.dtype,
            device=operator.device, max_products=max_products, progress=progress,
        )  # fmt: skip
    zeros = torch.zeros(min(k, operator.left_out))  # the rows left out are eigenvalues as well
    values, residuals = torch.cat([values, zeros]).numpy(), torch.cat([residuals, zeros]).numpy()
    order = np.argsort(-values, kind="stable")[:k]
    return EigenResult(values[order], residuals[order], products + 1, parameters, operator.left_out)


def spectral_density(
    model, images, labels, *, probes=10, steps=80, seed=0, mode="eval", start="random", batch_size=None, progress=False
):  # fmt: skip
    """Density of the eigenvalues of the Hessian, by stochastic Lanczos quadrature.

    Args:
        model: As in `top_eigenvalues`.
        images: As in `top_eigenvalues`.
        labels: Class indices (N,).
        probes: Number of starting vectors.
        steps: Lanczos steps from each.
        seed: Seed of the starting vectors.
        mode: As in `top_eigenvalues`.
        start: ``"random"``, or ``"constant"``: all entries equal, as in the author's single run.
        batch_size: As in `top_eigenvalues`.
        progress: Show a bar.

    Returns:
        `DensityResult`. The author's construction is ``probes=1, steps=90, start="constant", mode="train"`` and a
        variance of 0.0032.

    Raises:
        ValueError: If probes, steps or start are not valid, or as in `top_eigenvalues`.

    Source: Ghorbani et al. (2019), Sec. 2; Lin et al. (2016).
    """
    whole("probes", probes, 1)
    whole("steps", steps, 1)
    one_of("start", start, ("random", "constant"))
    operator = HessianOperator(model, images, labels, mode=mode, batch_size=batch_size)
    steps, generator = min(steps, operator.size), torch.Generator().manual_seed(seed)
    if not steps:
        return DensityResult(np.zeros((probes, 1)), np.ones((probes, 1)), 1.0)
    nodes, weights = [], []
    for _ in tqdm(range(probes), desc="spectral density", unit="probe", disable=not progress):
        space = lanczos.Basis(operator, operator.size, steps, operator.dtype, operator.device, generator)
        space.start(torch.ones(operator.size) if start == "constant" else None)
        while space.count < steps:
            space.grow()
        values, rotation, _ = space.ritz()
        nodes.append(values.numpy())
        weights.append(rotation[0].square().numpy())
    return DensityResult(np.stack(nodes), np.stack(weights), operator.left_out / operator.parameters)
