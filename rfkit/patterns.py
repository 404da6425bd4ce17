"""How alike two patterns over an image are, whatever their strength and place."""

import numpy as np


def similarity(patterns, reference):
    """How alike patterns are in shape, whatever their strength.

    Args:
        patterns: Array (n, H, W).
        reference: Array (H, W).

    Returns:
        Array (n,): cosine of the angle between each pattern and the reference; 1 where they are proportional.
        NaN where a pattern is zero everywhere.
    """
    flat, target = patterns.reshape(len(patterns), -1).astype(float), reference.ravel().astype(float)
    norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(target)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > 0, flat @ target / norms, np.nan)


def fitted_similarity(pattern, reference):
    """How alike two patterns are in shape, wherever the unit's field lies.

    The unit at the middle of a map of even side is off the middle of the image, by up to half the map's stride. So the
    pattern is moved along the diagonal, on which the unit lies, to where it fits best.

    Args:
        pattern: Array (H, H).
        reference: Array (H, H).

    Returns:
        (cosine, shift): largest cosine over the part where both overlap, of shifts up to half the image, and the
        pixels by which the pattern lies farther down and to the right than the reference.
    """
    side = len(pattern)

    def overlap(shift):
        return pattern[max(0, shift) :, max(0, shift) :], reference[max(0, -shift) :, max(0, -shift) :]

    fits = []
    for shift in range(-(side // 2), side // 2 + 1):
        a, b = overlap(shift)
        common = min(len(a), len(b))
        fits.append((float(similarity(a[None, :common, :common], b[:common, :common])[0]), shift))
    return max(fits, key=lambda fit: (np.nan_to_num(fit[0], nan=-1.0), -abs(fit[1])))


def fitted_to_first(levels, patterns):
    """`fitted_similarity` of each level's pattern to the first level's.

    Args:
        levels: RF levels.
        patterns: Array (levels, H, H).

    Returns:
        {level: (cosine, shift)}.
    """
    return {level: fitted_similarity(each, patterns[0]) for level, each in zip(levels, patterns, strict=True)}
