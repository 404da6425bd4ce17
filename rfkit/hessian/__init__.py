"""The Hessian of the loss: its largest eigenvalues and its spectral density, by products with vectors."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
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


@dataclass(frozen=True)
class EigenResult:
    """The largest eigenvalues of a Hessian."""

    values: np.ndarray  #: Array (k,), algebraically largest first, or largest in magnitude first.
    residuals: np.ndarray  #: Array (k,), bound on the distance of each to an eigenvalue; 0 for exact zeros.
    products: int  #: Hessian-vector products that were needed.
    parameters: int  #: Size of the Hessian.
    left_out: int  #: Coordinates whose rows are exactly zero, since the loss does not depend on them.


class HessianOperator:
    """Products of vectors with the Hessian of the mean cross-entropy over all parameters of a network.

    A copy of the network is used; the network itself is not touched. Weights that only ever meet padding are left out
    of the copy, and so are coordinates whose rows are exactly zero.

    Args:
        model: Network.
        images: As in `rfkit.training.loss_and_accuracy`, or a callable without arguments that returns (images, labels)
            anew for every product, as training with augmentation does; such an operator has no one spectrum.
        labels: Class indices (N,).
        mode: ``"eval"``, or ``"train"``: batch norm by the statistics of fixed batches.
        batch_size: Images at a time. In mode ``"eval"`` the Hessian does not depend on it, and by default as many are
            taken as fit in `max_gib`; in mode ``"train"`` it is part of the definition, by default 128.
        max_gib: Bound on the memory of activations.

    Attributes:
        size: Coordinates of the vectors.
        parameters: Parameters of the network.
        left_out: Parameters that have no coordinate.

    Raises:
        ValueError: If the mode is unknown, or images and labels do not fit each other.

    Source:
        Pearlmutter (1994), by two reverse passes. Two reverse passes were measured 1.5 to 2.5 times as fast as forward
        over reverse on these networks, and the first is kept where memory allows.
    """

    def __init__(self, model, images, labels=None, *, mode="eval", batch_size=None, max_gib=4.0):
        one_of("mode", mode, ("eval", "train"))
        self._fresh = images if callable(images) else None
        if self._fresh is not None:
            images, labels = self._fresh()
        if labels is None or len(images) != len(labels) or not len(images):
            count = "no" if labels is None else len(labels)
            raise ValueError(f"{len(images)} images and {count} labels; expected the same positive number of both")
        self.device = next(model.parameters()).device
        self.parameters = sum(p.numel() for p in model.parameters())
        first = training.model_inputs(model, images[:1], self.device)
        self._model = without_dead_taps(model, tuple(first.shape[1:])).requires_grad_(True)
        self._model.train(mode == "train")
        for module in self._model.modules():
            if hasattr(module, "track_running_stats") and mode == "train":
                module.track_running_stats = False  # statistics of the batch, and none are kept
                module.running_mean = module.running_var = None
        if first.dtype == torch.float32 and self.device.type == "cpu":
            self._model.to(memory_format=torch.channels_last)
        self._weights = list(self._model.parameters())
        self._lengths = [w.numel() for w in self._weights]
        self._max_gib, self._kept = max_gib, None
        self._batch = None if batch_size is None else whole("batch_size", batch_size, 1)
        if mode == "train" and batch_size is None:
            self._batch = min(TRAIN_BATCH, len(images))
        normalised = any(hasattr(module, "track_running_stats") for module in self._model.modules())
        if mode == "train" and normalised and len(images) > 1 and len(images) % self._batch == 1:
            raise ValueError(
                f"{len(images)} images in batches of {self._batch} leave a batch of one, which has no statistics; "
                "choose another batch_size"
            )
        self._load(images, labels)
        self._rows = None
        self.size = sum(self._lengths)
        self.dtype = self._weights[0].dtype
        self._find_rows()

    @property
    def left_out(self):
        """Parameters that have no coordinate."""
        return self.parameters - self.size

    def _load(self, images, labels):
        labels = torch.as_tensor(labels).to(self.device)
        if self._batch is None:
            self._batch = self._images_that_fit(images, labels)
        self._images, self._labels, self._count = images, labels, len(images)

    def _images_that_fit(self, images, labels):
        """By the bytes that autograd keeps for two images."""
        kept = {}

        def see(tensor):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        few = min(2, len(images))
        with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
            self._gradients(images[:few], labels[:few])
        weights = sum(w.nbytes for w in self._weights)
        each = max(1, sum(kept.values()) - weights) / few
        return int(min(len(images), max(1, self._max_gib * 2**30 / (2 * each))))

    def _gradients(self, images, labels):
        with torch.enable_grad(), torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(0)  # dropout, if there is any, is the same in every product
            logits = self._model(training.model_inputs(self._model, images, self.device))
            loss = F.cross_entropy(logits, labels, reduction="sum")
            return torch.autograd.grad(loss, self._weights, create_graph=True, allow_unused=True)

    def _graphs(self):
        """Gradients with their graphs, kept between products where there is a single batch of them."""
        if self._count > self._batch or self._fresh is not None:
            parts = (slice(begin, begin + self._batch) for begin in range(0, self._count, self._batch))
            return (self._gradients(self._images[part], self._labels[part]) for part in parts)
        if self._kept is None:
            self._kept = [self._gradients(self._images, self._labels)]
        return self._kept

    def _whole(self, vector):
        if self._fresh is not None:
            self._load(*self._fresh())
        parts = [
            part.view_as(weight).to(weight.dtype)
            for part, weight in zip(vector.split(self._lengths), self._weights, strict=True)
        ]
        total = [torch.zeros_like(weight) for weight in self._weights]
        for gradients in self._graphs():
            pairs = [(g, p) for g, p in zip(gradients, parts, strict=True) if g is not None and g.requires_grad]
            # a network whose gradient does not depend on its weights has a zero Hessian
            if pairs:
                products = torch.autograd.grad(
                    [g for g, _ in pairs], self._weights, [p for _, p in pairs], retain_graph=self._kept is not None,
                    allow_unused=True,
                )  # fmt: skip
                for sum_, product in zip(total, products, strict=True):
                    if product is not None:
                        sum_ += product
        return torch.cat([sum_.reshape(-1) for sum_ in total]) / self._count

    def _find_rows(self):
        """Coordinates that a product with a random vector leaves at exactly zero are zero rows."""
        random = torch.Generator().manual_seed(1)
        vector = torch.randn(self.size, generator=random).to(self.device, self.dtype)
        rows = (self._whole(vector) != 0).nonzero().flatten()
        if len(rows) < self.size:
            self._rows, self._zeros, self.size = rows, torch.zeros_like(vector), len(rows)

    def __call__(self, vector):
        """Product of the Hessian with a vector."""
        if self._rows is None:
            return self._whole(vector)
        return self._whole(self._zeros.index_copy(0, self._rows, vector.to(self.dtype)))[self._rows]


def top_eigenvalues(
    model, images, labels, k=90, *, tol=1e-3, seed=0, mode="eval", by_magnitude=False, basis=None, batch_size=None,
    max_gib=4.0, max_products=None, checkpoint=None, progress=False,
):  # fmt: skip
    """The largest eigenvalues of the Hessian of the mean cross-entropy over all parameters.

    Args:
        model: Network; not touched. Batch norm of an untrained one is the caller's choice: `calibrate_batchnorm`.
        images: As in `HessianOperator`.
        labels: Class indices (N,).
        k: Number of eigenvalues.
        tol: Largest error, relative to the largest magnitude.
        seed: Of the starting vector.
        mode: As in `HessianOperator`.
        by_magnitude: The largest in magnitude instead of the algebraically largest.
        basis: As in `rfkit.hessian.lanczos.extreme`; 120 vectors for k = 90, of 4 bytes a parameter each.
        batch_size: As in `HessianOperator`.
        max_gib: As in `HessianOperator`.
        max_products: As in `rfkit.hessian.lanczos.extreme`.
        checkpoint: As in `rfkit.hessian.lanczos.extreme`.
        progress: Show a bar.

    Returns:
        `EigenResult`.

    Raises:
        ValueError: If k is not between 1 and the number of parameters, or as in `HessianOperator`.
        RuntimeError: If it does not converge within `max_products`.

    Source:
        Paper Sec. 3.3, Figures 1 and 2.
    """
    parameters = sum(p.numel() for p in model.parameters())
    if whole("k", k, 1) > parameters:
        raise ValueError(f"k is {k!r}; expected a whole number between 1 and {parameters}, the number of parameters")
    operator = HessianOperator(model, images, labels, mode=mode, batch_size=batch_size, max_gib=max_gib)
    wanted = min(k, operator.size)
    values, residuals, products = torch.zeros(0), torch.zeros(0), 0
    if wanted:
        found = lanczos.extreme(
            operator, operator.size, wanted, tol=tol, basis=basis, by_magnitude=by_magnitude, seed=seed,
            dtype=operator.dtype, device=operator.device, max_products=max_products, checkpoint=checkpoint,
            progress=progress,
        )  # fmt: skip
        values, residuals, products = found.values, found.residuals, found.products
    zeros = torch.zeros(min(k, operator.left_out))  # the rows left out are eigenvalues as well
    values, residuals = torch.cat([values, zeros]).numpy(), torch.cat([residuals, zeros]).numpy()
    order = np.argsort(-(np.abs(values) if by_magnitude else values), kind="stable")[:k]
    return EigenResult(values[order], residuals[order], products + 1, parameters, operator.left_out)


def spectral_density(
    model, images, labels, *, probes=10, steps=80, seed=0, mode="eval", start="random", batch_size=None, max_gib=4.0,
    progress=False,
):  # fmt: skip
    """Density of the eigenvalues of the Hessian, by stochastic Lanczos quadrature.

    Args:
        model: As in `top_eigenvalues`.
        images: As in `HessianOperator`.
        labels: Class indices (N,).
        probes: Starting vectors.
        steps: Lanczos steps from each.
        seed: Of the starting vectors.
        mode: As in `HessianOperator`.
        start: ``"random"``, or ``"constant"``: all entries equal, as in the author's single run.
        batch_size: As in `HessianOperator`.
        max_gib: As in `HessianOperator`.
        progress: Show a bar.

    Returns:
        `DensityResult`. The author's construction is ``probes=1, steps=90, start="constant", mode="train"`` and a
        variance of 0.0032.

    Raises:
        ValueError: If probes, steps or start are not valid, or as in `HessianOperator`.

    Source:
        Ghorbani et al. (2019), Sec. 2; Lin et al. (2016).
    """
    whole("probes", probes, 1)
    whole("steps", steps, 1)
    one_of("start", start, ("random", "constant"))
    operator = HessianOperator(model, images, labels, mode=mode, batch_size=batch_size, max_gib=max_gib)
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
