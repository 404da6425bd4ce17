"""Statistics over seeds."""

import math
from collections.abc import Sequence


def mean_std(values: Sequence[float]):
    """Mean and sample standard deviation (n - 1), as in the paper's tables.

    Args:
        values: At least one number.

    Returns:
        (mean, standard deviation); the latter is None for a single number.

    Raises:
        ValueError: If there are no values or one is not finite.
    """
    if len(values) == 0:
        raise ValueError("no values to average; expected at least one")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"cannot average {list(values)}: every value must be finite")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def page_trend(rows, *, falling=False):
    """Page's test for an ordered trend: one row a block (a seed), one column a level.

    Args:
        rows: Array (blocks, levels); at least two blocks and three levels.
        falling: Test for a fall from the first column to the last instead of a rise.

    Returns:
        p-value, exact where that is feasible.

    Raises:
        ValueError: If there are too few blocks or levels, or a value is not finite.

    Source:
        Page (1963); computed by `scipy.stats.page_trend_test`.
    """
    import numpy as np
    from scipy.stats import page_trend_test

    rows = np.asarray(rows, float)
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 3 or not np.isfinite(rows).all():
        raise ValueError(f"rows have shape {rows.shape}; expected at least 2 blocks of 3 levels, all values finite")
    return float(page_trend_test(-rows if falling else rows).pvalue)


def standard_errors_apart(mean_a, std_a, n_a, mean_b, std_b, n_b):
    """Distance of two independent means in units of its own standard error.

    Args:
        mean_a: First mean.
        std_a: Its sample standard deviation.
        n_a: Its number of values.
        mean_b: Second mean.
        std_b: Its sample standard deviation.
        n_b: Its number of values.

    Returns:
        ``|a - b| / sqrt(std_a^2 / n_a + std_b^2 / n_b)``; NaN where both deviations are zero.
    """
    error = math.sqrt(std_a**2 / n_a + std_b**2 / n_b)
    return abs(mean_a - mean_b) / error if error else math.nan


def paired_interval(first, second, level=0.95):
    """Student's interval of the mean difference ``second - first`` of pairs.

    Args:
        first: Values, one a pair.
        second: Values, one a pair.
        level: Confidence.

    Returns:
        (low, high).

    Raises:
        ValueError: If there are fewer than two pairs, or their numbers differ.
    """
    mean, error = _paired_difference(first, second)
    return _interval(mean, error, len(first) - 1, level)


def _paired_difference(first, second):
    """Mean of ``second - first`` and its standard error."""
    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"{len(first)} and {len(second)} values; expected the same number of at least 2")
    mean, std = mean_std([b - a for a, b in zip(first, second, strict=True)])
    return mean, std / math.sqrt(len(first))


def welch_interval(mean_a, std_a, n_a, mean_b, std_b, n_b, level=0.95):
    """Welch's interval of ``b - a`` from printed means and standard deviations.

    Args:
        mean_a: First mean.
        std_a: Its sample standard deviation.
        n_a: Its number of values.
        mean_b: Second mean.
        std_b: Its sample standard deviation.
        n_b: Its number of values.
        level: Confidence.

    Returns:
        (low, high).

    Source:
        Welch (1947), with Satterthwaite's degrees of freedom.
    """
    a, b = std_a**2 / n_a, std_b**2 / n_b
    freedom = (a + b) ** 2 / (a**2 / (n_a - 1) + b**2 / (n_b - 1)) if a + b else 1.0
    return _interval(mean_b - mean_a, math.sqrt(a + b), freedom, level)


def _interval(mean, error, freedom, level):
    from scipy.stats import t

    half = t.ppf((1 + level) / 2, freedom) * error if error else 0.0
    return float(mean - half), float(mean + half)


def equivalence(first, second, margin):
    """Two one-sided tests that the mean paired difference lies within a margin.

    Args:
        first: Values, one a pair.
        second: Values, one a pair.
        margin: Largest difference that counts as none, in the unit of the values.

    Returns:
        p-value, the larger of the two.

    Raises:
        ValueError: If there are fewer than two pairs, or their numbers differ.

    Source:
        Schuirmann (1987).
    """
    from scipy.stats import t

    mean, error = _paired_difference(first, second)
    if error == 0:
        return 0.0 if abs(mean) < margin else 1.0
    return float(t.sf((margin - abs(mean)) / error, len(first) - 1))


def holm(p_values):
    """p-values corrected for their number.

    Args:
        p_values: Of one family.

    Returns:
        List in the same order.

    Raises:
        ValueError: If one is not finite.

    Source:
        Holm (1979).
    """
    if not all(math.isfinite(p) for p in p_values):
        raise ValueError(f"cannot correct {list(p_values)}: every p-value must be finite")
    order, corrected, worst = sorted(range(len(p_values)), key=p_values.__getitem__), [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = worst
    return corrected
