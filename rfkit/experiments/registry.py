"""The one registry of analyses: adding one is its file and a line here."""

from importlib import import_module

from rfkit.config import one_of

_FILES = (
    "pruning_curve", "usable_pruning", "layer_pruning", "half_pruning", "layer_sensitivity", "fine_tuning", "spectrum",
    "author_ritz", "pair", "matched_pair", "unbiased_pair", "taps", "probes", "effective_fields", "dead_weights",
    "initial_curvature", "initial_gradients", "gradient_projection", "untrained_spectrum", "recipes",
    "torchvision_fields",
)  # fmt: skip
_FOUND = (import_module(f"rfkit.experiments.{name}").ANALYSIS for name in _FILES)
ANALYSES = {each.name: each for each in _FOUND}
"""Name of an analysis to `rfkit.experiments.Analysis`, in the order in which they are made."""


def named(names=None):
    """Analyses by name, those that a study plans if ``None``; unknown names are a `ConfigError`."""
    if names is None:
        return [each for each in ANALYSES.values() if each.planned]
    return [ANALYSES[one_of("analysis", name, tuple(ANALYSES))] for name in names]
