"""What of the study is recorded, and what its trainings took."""

import statistics
from fractions import Fraction

import pandas as pd

from rfkit import experiments, presets
from rfkit.data import DATASET_LABELS
from rfkit.tables import ARCHITECTURE_LABELS, MISSING


def recorded_table(preset, runs):
    """What of a preset's cells is there, and what its trainings took."""
    rows = []
    for dataset, architecture, level in preset.cells():
        here = [
            run
            for run in runs
            if (run.config.architecture, run.config.level) == (architecture, level)
            and dataset in (run.config.dataset, experiments.paper_dataset(run.config))
        ]
        rows.append({
            "Network": ARCHITECTURE_LABELS.get(architecture, architecture),
            "Data": DATASET_LABELS.get(dataset, dataset),
            "Level": level,
            "Seeds": f"{len(here)} of {len(preset.seeds)}",
            "Fine-tuned": sum(run.result("fine_tune") is not None for run in here),
            "Spectra": sum(run.result("spectrum") is not None for run in here),
            **_took(here, 2),
        })  # fmt: skip
    return pd.DataFrame(rows)


def stage_table():
    """What each stage of the study took, as far as it is recorded."""
    study = presets.get("study")
    main = {
        f"{ARCHITECTURE_LABELS[name]}, {DATASET_LABELS[dataset]}": study.select(datasets=dataset, architectures=name)
        for dataset in study.datasets
        for name in study.architectures
    }
    changed = {"contrasts": presets.of_contrasts(study), "fresh networks": study.select(**presets.FRESH_NETWORKS)}
    protocols = {f"protocol `{name}`": presets.get("study", name) for name in ("as_stated", "careful")}
    widths = {
        f"width {Fraction(width)}, {precision}": study.select(width=width, precision=precision)
        for width in experiments.WIDTHS
        for precision in ("float32", "bfloat16")
        if (width, precision) != (study.width, study.precision)
    }
    first = study.select(datasets="cifar10", architectures=presets.CONTRAST_NETWORK, levels=1)
    controls = [first.select(width=width) for width in presets.EQUAL_COMPUTATION.values()]
    controls += [first.select(epochs=epochs) for epochs in presets.SHORTER_EPOCHS]
    stages = {name: experiments.recorded(preset) for name, preset in (main | changed | protocols | widths).items()}
    stages["controls of accuracy"] = [run for preset in controls for run in experiments.recorded(preset)]
    return pd.DataFrame([
        {"Stage": name, "Trainings": len(runs), **_took(runs, 1)}
        for name, runs in stages.items()
        if runs or name not in widths
    ])


def _took(runs, digits):
    """Columns of images a second and core-hours."""
    if not runs:
        return {"Images/s": MISSING, "Core-hours": MISSING}
    speed = statistics.mean(r.config.train_images / statistics.median(e["seconds"] for e in r.metrics) for r in runs)
    hours = sum(run.provenance["wall_seconds"] * run.provenance["threads"] for run in runs) / 3600
    return {"Images/s": f"{speed:,.0f}", "Core-hours": f"{hours:.{digits}f}"}
