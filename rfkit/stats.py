"""Statistics over seeds, and of spectra."""

import functools
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EXACT_LEVELS = 8
"""Up to this many levels or cells, every order is enumerated."""


def mean_std(values: Sequence[float]):
    """Mean and sample standard deviation (n - 1), as in the paper's tables."""
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"cannot average {list(values)}: expected at least one value, every one finite")
    return statistics.fmean(values), statistics.stdev(map(float, values)) if len(values) > 1 else None


def page_trend(rows, *, falling=False):
    """Page's test for an ordered trend: one row a block (a seed), one column a level.

    Args:
        rows: Array (blocks, levels); at least two blocks and three levels.
        falling: Test for a fall from the first column to the last instead of a rise.

    Returns:
        (p, smallest): one-sided p-value, and the smallest that values with these ties can reach. Exact up to eight
        levels, over all orders of the values in each block; by the normal approximation for more levels.

    Raises:
        ValueError: If there are too few blocks or levels, or a value is not finite.

    Source: Page (1963).
    """
    from scipy.stats import page_trend_test, rankdata

    rows = np.asarray(rows, float)
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 3 or not np.isfinite(rows).all():
        raise ValueError(f"rows have shape {rows.shape}; expected at least 2 blocks of 3 levels, all values finite")
    rows = -rows if falling else rows
    if rows.shape[1] > EXACT_LEVELS:
        best = np.sort(rows, axis=1)
        return tuple(float(page_trend_test(each, method="asymptotic").pvalue) for each in (rows, best))
    ranks = np.rint(2 * rankdata(rows, axis=1)).astype(int)  # doubled, so that ties are whole numbers too
    places = np.arange(1, rows.shape[1] + 1)
    chances, lowest = np.ones(1), 0
    for block in ranks:
        least, weights = _rank_sums(tuple(sorted(block)))
        chances, lowest = np.convolve(chances, weights), lowest + least
    return float(chances[(ranks @ places).sum() - lowest :].sum()), float(chances[-1])


@functools.cache
def _rank_sums(ranks):
    """(smallest, probabilities from there on) of the sum of place times rank over all orders of the ranks."""
    sums = np.array([np.dot(order, range(1, len(ranks) + 1)) for order in itertools.permutations(ranks)])
    return int(sums.min()), np.bincount(sums - sums.min()) / len(sums)


def jonckheere_trend(groups, *, falling=False):
    """The Jonckheere-Terpstra test for an ordered trend of independent groups.

    Args:
        groups: One sequence of values per level, in the order of the levels; at least three.
        falling: As in `page_trend`.

    Returns:
        (p, smallest): one-sided p-value by the normal approximation with ties, computed by the equivalent test of
        Kendall's tau between level and value (for 12 to 24 values without ties it is up to 15 % too small between
        about 0.01 and 0.05, and too large below); the smallest p-value possible with so many values, exact.

    Raises:
        ValueError: If there are too few levels, one has no value, or a value is NaN.

    Source: Jonckheere (1954).
    """
    from scipy.stats import kendalltau

    sizes = [len(group) for group in groups]
    if len(sizes) < 3 or min(sizes) == 0:
        raise ValueError(f"groups of {sizes} values; expected at least 3, none of them empty")
    level, values = np.repeat(range(len(sizes)), sizes), np.concatenate(groups)
    if np.isnan(values).any():
        raise ValueError("a value is NaN; leave it out")
    smallest = math.prod(map(math.factorial, sizes)) / math.factorial(sum(sizes))
    p = kendalltau(level, values, method="asymptotic", alternative="less" if falling else "greater").pvalue
    return (1.0 if math.isnan(p) else max(float(p), smallest)), smallest


def rank_correlation(x, y):
    """(Spearman's rank correlation, its two-sided p-value, the smallest possible with so many values)."""
    from scipy.stats import rankdata, spearmanr

    if len(x) != len(y) or len(x) < 3:
        raise ValueError(f"{len(x)} and {len(y)} values; expected the same number of at least 3")
    found = spearmanr(x, y)
    if len(x) > EXACT_LEVELS or math.isnan(found.statistic):
        return float(found.statistic), float(found.pvalue), 2 / math.factorial(len(x))
    a, b = (rankdata(values) - (len(values) + 1) / 2 for values in (x, y))
    sums = np.abs(np.array(list(itertools.permutations(a))) @ b)
    reached = sums >= abs(a @ b) - 1e-9
    return float(found.statistic), float(reached.mean()), float((sums >= sums.max() - 1e-9).mean())


def paired_interval(first, second, level=0.95):
    """Student's interval of the mean difference ``second - first`` of pairs."""
    from scipy.stats import ttest_1samp

    differences = _differences(first, second)
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    return tuple(map(float, ttest_1samp(differences, 0).confidence_interval(level)))


def _differences(first, second):
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"{len(first)} and {len(second)} values; expected the same number of at least 2")
    return np.asarray(second, float) - np.asarray(first, float)


def welch_interval(first, second, level=0.95):
    """Welch's interval of ``second - first``, each a (mean, standard deviation, number of values).

    Source: Welch (1947), with Satterthwaite's degrees of freedom.
    """
    from scipy.stats import t

    (mean_a, std_a, n_a), (mean_b, std_b, n_b) = first, second
    if min(n_a, n_b) < 2:
        raise ValueError(f"{n_a} and {n_b} values; expected at least two of each")
    a, b = std_a**2 / n_a, std_b**2 / n_b
    freedom = (a + b) ** 2 / (a**2 / (n_a - 1) + b**2 / (n_b - 1)) if a + b else 1.0
    half = t.ppf((1 + level) / 2, freedom) * math.sqrt(a + b) if a + b else 0.0
    return float(mean_b - mean_a - half), float(mean_b - mean_a + half)


def equivalence(first, second, margin, *, paired=True):
    """Two one-sided tests that a difference of means lies within a margin.

    Args:
        first: Values, one per pair.
        second: Values, one per pair.
        margin: Largest difference that counts as none, in the unit of the values.
        paired: Whether the values are pairs; Welch's test of independent ones otherwise.

    Returns:
        p-value, the larger of the two.

    Raises:
        ValueError: If there are fewer than two values of one, or the numbers of pairs differ.

    Source: Schuirmann (1987).
    """
    from scipy.stats import ttest_ind, ttest_rel

    if paired:
        second, first = _differences(first, second), np.zeros(len(first))
    elif min(len(first), len(second)) < 2:
        raise ValueError(f"{len(first)} and {len(second)} values; expected at least 2 of both")
    if np.ptp(first) == np.ptp(second) == 0:
        return 0.0 if abs(second[0] - first[0]) < margin else 1.0
    test = ttest_rel if paired else functools.partial(ttest_ind, equal_var=False)
    sides = ((-margin, "greater"), (margin, "less"))
    return max(float(test(second, np.add(first, at), alternative=side).pvalue) for at, side in sides)


def holm(p_values):
    """p-values corrected for their number, by Holm (1979)."""
    if not all(math.isfinite(p) for p in p_values):
        raise ValueError(f"cannot correct {list(p_values)}: every p-value must be finite")
    order, corrected = np.argsort(p_values, kind="stable"), np.empty(len(p_values))
    steps = np.sort(p_values) * np.arange(len(p_values), 0, -1)
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, steps))
    return corrected.tolist()


@dataclass(frozen=True)
class DensityResult:
    """Spectral density of a Hessian by stochastic Lanczos quadrature."""

    nodes: np.ndarray  #: Array (probes, steps), Ritz values.
    weights: np.ndarray  #: Array (probes, steps), their weights, each row summing to 1.
    #: Share of the spectrum that is exactly zero because the loss does not depend on those coordinates; the weights
    #: describe the rest.
    zeros: float = 0.0

    def density(self, at, variance):
        """Density of the eigenvalues at these places, each one smoothed to a Gaussian of this variance."""
        at = np.asarray(at, float)
        bumps = np.exp(-((at[None, None] - self.nodes[:, :, None]) ** 2) / (2 * variance))
        curve = (1 - self.zeros) * (self.weights[:, :, None] * bumps).sum(1).mean(0)
        return (curve + self.zeros * np.exp(-(at**2) / (2 * variance))) / math.sqrt(2 * math.pi * variance)

    def mass_below(self, value):
        """Share of the eigenvalues below a value."""
        shares = (self.weights * (self.nodes < value)).sum(1)
        return float((1 - self.zeros) * shares.mean() + self.zeros * (value > 0))

    def width(self):
        """Standard deviation of the eigenvalues, a mean over probes."""
        means = (1 - self.zeros) * (self.weights * self.nodes).sum(1)
        squares = (1 - self.zeros) * (self.weights * self.nodes**2).sum(1)
        return float(np.sqrt(np.maximum(squares - means**2, 0)).mean())
