"""Analysis: how large the weights of each kernel tap have stayed, beside how much of the map the tap gets to see."""

import numpy as np

import rfkit
from rfkit.experiments.analysis import Analysis, rows_of
from rfkit.experiments.networks import build
from rfkit.presets import NEVER_PRUNED


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return {"exclude": list(NEVER_PRUNED), "version": 1}


def compute(run, settings, work):
    """Mean magnitude before and after training, and share of positions with a real pixel, tap by tap of each layer."""
    model, side = build(run.config).eval(), run.config.image_size
    seen = rfkit.pruning.tap_utilisation(model, (3, side, side))
    trained, untrained = run.weights("final"), model.state_dict()  # the same seed gives the same initial weights
    return {
        name: {
            "seen": share.tolist(),
            "before": untrained[name].abs().mean((0, 1)).tolist(),
            "after": trained[name].abs().mean((0, 1)).tolist(),
        }
        for name, share in seen.items()
        if min(share.shape) > 1 and name in rfkit.pruning.prunable(model, settings["exclude"])
    }


@rows_of("taps")
def frame(taps, run):
    """One row per layer (place: from 1) and tap: what it sees; kept is after over before, over the centre tap's."""
    for place, (layer, tap) in enumerate(taps.items(), start=1):
        seen, before, after = (np.array(tap[name]) for name in ("seen", "before", "after"))
        kept = after / before
        centre = kept[len(kept) // 2, len(kept[0]) // 2]
        for i, j in np.ndindex(seen.shape):
            sizes = {"before": before[i, j], "after": after[i, j], "kept": kept[i, j] / centre}
            yield {"layer": layer, "place": place, "row": i, "column": j, "seen": seen[i, j]} | sizes


ANALYSIS = Analysis("taps", "run", settings, compute, frame, planned=False, on_cpu=True)
