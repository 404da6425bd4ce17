"""Analysis: how large the weights of each kernel tap have stayed, beside how much of the map the tap gets to see."""

import pandas as pd

from rfkit.experiments.analysis import Analysis
from rfkit.presets import NEVER_PRUNED


def settings(preset, unit):
    """What is computed for a unit of a preset."""
    return {"exclude": list(NEVER_PRUNED), "version": 1}


def compute(run, settings, work):
    """Mean magnitude before and after training, and share of positions with a real pixel, tap by tap of each layer."""
    from rfkit import pruning
    from rfkit.experiments.networks import build

    model, side = build(run.config).eval(), run.config.image_size
    seen = pruning.tap_utilisation(model, (3, side, side))
    trained, untrained = run.weights("final"), model.state_dict()  # the same seed gives the same initial weights
    return {
        name: {
            "seen": share.tolist(),
            "before": untrained[name].abs().mean((0, 1)).tolist(),
            "after": trained[name].abs().mean((0, 1)).tolist(),
        }
        for name, share in seen.items()
        if min(share.shape) > 1 and name in pruning.prunable(model, settings["exclude"])
    }


def frame(runs):
    """Magnitude of each tap beside what it sees.

    Args:
        runs: List of `Run`; those without this analysis are left out.

    Returns:
        Data frame, one row a run, layer and tap: the columns of a run, layer, place (order among the layers with a
        kernel, from 1), row, column, seen (share of output positions at which the tap meets a pixel), before and after
        (mean magnitude), kept (after over before, divided by that of the layer's centre tap).
    """
    from rfkit.experiments.finding import describe

    rows = []
    for run in runs:
        for place, (layer, taps) in enumerate((run.result("taps") or {}).items(), start=1):
            rows_of, columns_of = len(taps["seen"]), len(taps["seen"][0])
            i, j = rows_of // 2, columns_of // 2
            centre = taps["after"][i][j] / taps["before"][i][j]
            rows += [
                describe(run)
                | {"layer": layer, "place": place, "row": i, "column": j, "seen": taps["seen"][i][j]}
                | {"before": taps["before"][i][j], "after": taps["after"][i][j]}
                | {"kept": taps["after"][i][j] / taps["before"][i][j] / centre}
                for i in range(rows_of)
                for j in range(columns_of)
            ]
    return pd.DataFrame(rows)


ANALYSIS = Analysis("taps", "run", settings, compute, frame, lambda settings, unit: 500, planned=False, on_cpu=True)
