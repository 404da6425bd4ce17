"""The one registry of analyses: adding one is its file and a line here."""

from rfkit.config import one_of
from rfkit.experiments import (
    author_ritz,
    dead_weights,
    effective_fields,
    fine_tuning,
    gradient_projection,
    initial_curvature,
    initial_gradients,
    matched_pair,
    pair,
    probes,
    pruning_curve,
    recipes,
    spectrum,
    taps,
    torchvision_fields,
    unbiased_pair,
    untrained_spectrum,
    usable_pruning,
)

ANALYSES = {each.ANALYSIS.name: each.ANALYSIS for each in (
    pruning_curve, usable_pruning, fine_tuning, spectrum, author_ritz, pair, matched_pair, unbiased_pair, taps, probes,
    effective_fields, dead_weights, initial_curvature, initial_gradients, gradient_projection, untrained_spectrum,
    recipes, torchvision_fields,
)}  # fmt: skip
"""Name of an analysis to `rfkit.experiments.Analysis`, in the order in which they are made."""


def named(names=None):
    """Analyses by name, those that a study plans if ``None``; unknown names are a `ConfigError`."""
    if names is None:
        return [each for each in ANALYSES.values() if each.planned]
    return [ANALYSES[one_of("analysis", name, tuple(ANALYSES))] for name in names]
