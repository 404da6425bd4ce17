"""Hessian spectra as records: densities, and what is compared between receptive fields."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rfkit import records
from rfkit.files import read_reference

ZERO = 1e-3
"""Eigenvalues below this share of the largest count as zero: a Ritz value stands for a whole bulk of them."""
STAGES = {"init": "before training", "final": "after training"}


@dataclass(frozen=True)
class DensityResult:
    """Spectral density of a Hessian by stochastic Lanczos quadrature.

    Attributes:
        nodes: Array (probes, steps), Ritz values.
        weights: Array (probes, steps), their weights, each row summing to 1.
        zeros: Share of the spectrum that is exactly zero because the loss does not depend on those coordinates; the
            weights describe the rest.
    """

    nodes: np.ndarray
    weights: np.ndarray
    zeros: float = 0.0

    def density(self, at, variance=None):
        """Smoothed density of the eigenvalues.

        Args:
            at: Array of eigenvalues.
            variance: Of the Gaussian around each node; by default (1 % of the range of the nodes)^2.

        Returns:
            (mean, standard error): arrays over `at`; the error is over probes, NaN for a single one.
        """
        at = np.asarray(at, float)
        if variance is None:
            variance = (0.01 * float(np.ptp(self.nodes)) or 1e-12) ** 2  # all nodes equal: a needle
        bumps = np.exp(-((at[None, None] - self.nodes[:, :, None]) ** 2) / (2 * variance))
        curves = (1 - self.zeros) * (self.weights[:, :, None] * bumps).sum(1) / math.sqrt(2 * math.pi * variance)
        curves = curves + self.zeros * np.exp(-(at**2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        return _mean_and_error(curves)

    def mass_below(self, value):
        """Share of the eigenvalues below a value.

        Args:
            value: Threshold.

        Returns:
            (mean, standard error) over probes.
        """
        shares = (1 - self.zeros) * (self.weights * (self.nodes < value)).sum(1) + self.zeros * (value > 0)
        return tuple(map(float, _mean_and_error(shares)))

    def width(self):
        """Standard deviation of the eigenvalues.

        Returns:
            (mean, standard error) over probes.
        """
        means = (1 - self.zeros) * (self.weights * self.nodes).sum(1)
        squares = (1 - self.zeros) * (self.weights * self.nodes**2).sum(1)
        widths = np.sqrt(np.maximum(squares - means**2, 0))
        return tuple(map(float, _mean_and_error(widths)))


def _mean_and_error(by_probe):
    """Mean over the first axis and its standard error, NaN for a single probe."""
    mean, count = by_probe.mean(0), len(by_probe)
    return mean, by_probe.std(0, ddof=1) / math.sqrt(count) if count > 1 else np.full_like(mean, np.nan)


def of_runs(runs):
    """Spectra of runs.

    Args:
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame, one row a run and stage: data_label, paper_dataset, architecture, rf_level, field_px, seed, stage
        (``init`` or ``final``), loss and what `summary` has, values (array, largest first),
        density (`DensityResult`), images. Empty where no run has a spectrum.
    """
    rows = []
    for run in runs:
        spectrum = run.newest("spectrum")
        if spectrum is not None:
            for stage in STAGES:
                part = spectrum[stage]
                about = {"stage": stage, "loss": part["loss"], "images": spectrum["images"]}
                rows.append(records.describe(run) | about | summary(part["values"], density_of(part)))
    columns = ("data_label", "paper_dataset", "architecture", "rf_level", "field_px", "seed", "stage", "loss", "top")
    return pd.DataFrame(rows, columns=[*columns, "smallest", "width", "negative_mass", "values", "density", "images"])


def density_of(stored):
    """The density in a stored spectrum.

    Args:
        stored: Mapping with ``nodes``, ``weights`` and ``zeros``.

    Returns:
        `DensityResult`.
    """
    return DensityResult(np.array(stored["nodes"]), np.array(stored["weights"]), stored["zeros"])


def summary(values, density):
    """What is compared between spectra.

    Args:
        values: Largest eigenvalues, largest first.
        density: `DensityResult`.

    Returns:
        Mapping: top, smallest (node of the density, from above), width, negative_mass (below ``-ZERO * top``), values
        (array), density.
    """
    return {
        "top": values[0],
        "smallest": float(density.nodes.min()),
        "width": density.width()[0],
        "negative_mass": density.mass_below(-ZERO * abs(values[0]))[0],
        "values": np.array(values),
        "density": density,
    }


def as_run_of(runs):
    """Spectra by the author's construction.

    Args:
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame, one row a run and stage: data_label, paper_dataset, architecture, rf_level, field_px, seed, stage,
        smallest and largest Ritz value, density (`DensityResult`), images. Empty where no run has it.
    """
    rows = []
    for run in runs:
        ritz = run.newest("author_ritz")
        if ritz is not None:
            for stage in STAGES:
                nodes, weights = (np.array([ritz[stage][name]]) for name in ("nodes", "weights"))
                rows.append(records.describe(run) | {
                    "stage": stage,
                    "smallest": float(nodes.min()),
                    "largest": float(nodes.max()),
                    "density": DensityResult(nodes, weights),
                    "images": ritz["images"],
                })  # fmt: skip
    columns = ("data_label", "paper_dataset", "architecture", "rf_level", "field_px", "seed", "stage")
    return pd.DataFrame(rows, columns=[*columns, "smallest", "largest", "density", "images"])


def of_author():
    """Summary of the Ritz values in the author's public files, one row a run.

    Returns:
        Data frame: source_file, dataset, architecture, rf_level, seed, stage, random_augmentation, n_ritz_values,
        min_ritz, max_ritz, n_negative, median_abs_ritz, sum_of_weights, weighted_std.

    Source:
        The author's public repository, https://github.com/Elluito/sparse_ensemble.
    """
    return read_reference("author_hessian_summary.csv")
