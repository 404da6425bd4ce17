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
