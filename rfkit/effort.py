"""What of the study is recorded, and what its trainings took."""

import statistics

import pandas as pd

from rfkit import contrasts, presets, records
from rfkit.published import DATASET_LABELS
from rfkit.tables import ARCHITECTURE_LABELS, MISSING


def recorded(preset, runs):
    """What of a preset's cells is there, and what its trainings took.

    Args:
        preset: `rfkit.presets.Preset`.
        runs: List of `rfkit.store.Run`.

    Returns:
        Data frame, one row a cell: seeds trained of those planned, fine-tuned and with Hessian spectra; images a second
        on one core in the median epoch, evaluation included; core-hours of all its trainings.
    """
    rows = []
    for dataset, architecture, level in preset.cells():
        here = [
            run
            for run in runs
            if (run.config.architecture, run.config.level) == (architecture, level)
            and dataset in (run.config.dataset, records.paper_dataset(run.config))
        ]
        rows.append({
            "Network": ARCHITECTURE_LABELS.get(architecture, architecture),
            "Data": DATASET_LABELS.get(dataset, dataset),
            "Level": level,
            "Seeds": f"{len(here)} of {len(preset.seeds)}",
            "Fine-tuned": sum(bool(run.analyses("fine_tune")) for run in here),
            "Spectra": sum(bool(run.analyses("spectrum")) for run in here),
            **_took(here, 2),
        })  # fmt: skip
    return pd.DataFrame(rows)


def stages():
    """What each stage of the study took, as far as it is recorded.

    Returns:
        Data frame, one row a stage: trainings; images a second on one core, mean over the trainings; core-hours.
    """
    study = presets.get("study")
    main = {
        f"{ARCHITECTURE_LABELS[name]}, {DATASET_LABELS[dataset]}": study.select(datasets=dataset, architectures=name)
        for dataset in study.datasets
        for name in study.architectures
    }
    changed = {"contrasts": contrasts.of_preset(study)}
    protocols = {f"protocol `{name}`": presets.get("study", name) for name in ("as_stated", "careful")}
    rows = []
    for name, preset in (main | changed | protocols).items():
        runs = records.recorded(preset)
        rows.append({"Stage": name, "Trainings": len(runs), **_took(runs, 1)})
    return pd.DataFrame(rows)


def _took(runs, digits):
    """Columns of images a second and core-hours."""
    if not runs:
        return {"Images/s": MISSING, "Core-hours": MISSING}
    speed = statistics.mean(r.config.train_images / statistics.median(e["seconds"] for e in r.metrics) for r in runs)
    hours = sum(run.provenance["wall_seconds"] * run.provenance["threads"] for run in runs) / 3600
    return {"Images/s": f"{speed:,.0f}", "Core-hours": f"{hours:.{digits}f}"}
