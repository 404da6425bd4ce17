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
