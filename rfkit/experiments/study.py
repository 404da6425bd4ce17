"""The runs of a preset: found, or made if that is quick enough; and what they cost before anything is started.

PyTorch is imported where something is trained or measured: a page made from records does not wait for it.
"""

import math
import re
from dataclasses import replace

import rfkit
from rfkit.config import stable_hash
from rfkit.experiments import finding
from rfkit.experiments.analysis import paper_dataset, refuse_same_size
from rfkit.experiments.registry import ANALYSES, named
from rfkit.experiments.results import TooLongError, check_minutes
from rfkit.experiments.store import Store

START_SECONDS = 6
"""Seconds until a process trains."""


def ensure(preset, *, max_minutes=10, jobs=None, root=None, device=None):
    """The runs of a preset with their analyses and pairs of seeds: found, or made if that is quick enough.

    `max_minutes`, a number or else a `ConfigError`, is the longest work to start, by an estimate for this machine.

    Returns:
        List of `Run`. Where a study is recorded in part and the rest would take longer, the part; what is missing is
        printed.

    Raises:
        TooLongError: If nothing is there and training would take longer; names the command to run.
        ConfigError: If something is to be trained and two data sets have images of one size.
        RuntimeError: If a training fails.
    """
    check_minutes(max_minutes)
    found, missing = finding.find(preset, root)
    runs = Store(root)
    todo = [finding.unit_of(preset, *cell) for cell in missing]
    if not todo and not any(run.pairs(named()) for run in found):
        return found
    in_part, way = bool(found and finding.recorded(preset)), f"Run: rfkit study {finding.command(preset)}"
    absent = sorted({unit.dataset for unit in todo if not unit.config.data_sha256})
    message = f"{len(todo)} of {len(found) + len(missing)} runs of preset {preset.name!r} are missing"
    if in_part and absent:  # no estimate: it would take longer than showing what there is
        print(f"Shown is what is recorded. {message}. {way}", flush=True)
        return found
    from rfkit.experiments import runner

    # what is missing, and what was made here and may wait for its pair; not what is shown from a record
    every = [(cell, finding.unit_of(preset, *cell)) for cell in finding.seeded_cells(preset)]
    refuse_same_size((paper_dataset(unit.config) or unit.dataset, unit.dataset) for _, unit in every)
    wanted = [unit for cell, unit in every if cell in missing or runs.run(unit.config).done]
    minutes = sum(_seconds(unit, runs, device) for unit in wanted) / 60 / runner.processes(jobs, device, len(wanted))
    if minutes > max_minutes or absent:
        not_here = f" and {', '.join(absent)} would be downloaded" if absent else ""
        message += f"; making them takes about {minutes:.0f} minutes here{not_here} (max_minutes={max_minutes})"
        if todo and not in_part:
            raise TooLongError(f"{message}. {way}")
        pairs = f"Pairs of seeds are missing, about {minutes:.0f} minutes"
        print(f"{f'Shown is what is recorded. {message}' if todo else pairs}. {way}", flush=True)
        return found
    failures = runner.run_all(wanted, jobs=jobs, root=root, device=device, image_limit=preset.image_limit)
    if failures:
        raise RuntimeError("; ".join(f"{unit.config.folder}: {message}" for unit, message in failures))
    return finding.find(preset, root)[0]


def _seconds(unit, runs, device):
    """Expected seconds of what is missing of a unit, on one core or the GPU."""
    run = runs.run(unit.config, unit.asked)
    steps = 0 if run.done else rfkit.training.image_steps(unit.config)
    steps += sum(ANALYSES[name].cost(settings, unit) for name, settings in run.missing(named()).items())
    return steps and START_SECONDS + steps * rfkit.training.seconds_per_image(unit.config, device)


def jobs_of(preset):
    """The units of a preset, each as a job of its own for an engine that starts jobs.

    Returns:
        List of mappings: ``name`` (unique, usable in a file name), ``command`` (arguments of ``rfkit study``),
        ``minutes`` (generous) and ``memory_mib``.
    """
    jobs = []
    for dataset, architecture, level, seed in finding.seeded_cells(preset):
        alone = replace(preset, datasets=(dataset,), architectures=(architecture,), levels=(level,), seeds=(seed,))
        unit = finding.unit_of(preset, dataset, architecture, level, seed)
        steps, weights = _work_of(unit)
        asked = [name for name in unit.asked if ANALYSES[name].needs == "run" and ANALYSES[name].planned]
        images = 3 * unit.config.image_size**2 * unit.config.train_images
        # alone, a level might be given more of them; twice the estimate for a slower node; what needs most memory,
        # beside Python and torch, is Lanczos' basis of about 120 vectors and the images, once more with a border
        jobs.append({
            "name": _job_name(unit), "command": f"{finding.command(alone)} --analyses {','.join(asked)}",
            "minutes": math.ceil(2 * steps * rfkit.training.seconds_per_image(unit.config) / 60) + 10,
            "memory_mib": 3000 + math.ceil((140 * 4 * weights + 2 * images) / 2**20),
        })  # fmt: skip
    return jobs


def _job_name(unit):
    """A name that holds what is asked, and does not change when the data are downloaded."""
    config = unit.config
    content = {**replace(config, data_sha256="").to_dict(), "asked": unit.asked}
    name = f"{config.dataset}-{config.architecture}-level{config.level}-{config.protocol}-{stable_hash(content)}"
    return re.sub(r"[^A-Za-z0-9_.=-]", "_", f"{name}-seed{config.seed}")


def _work_of(unit):
    """Steps on one image of a training with its analyses, and parameters of its network."""
    config = unit.config
    analyses = sum(each.cost(unit.asked[each.name], unit) for each in named() if each.name in unit.asked)
    weights = rfkit.models.count_parameters(**config.network)
    return rfkit.training.image_steps(config) + analyses, weights


def plan(preset, device=None, *, tflops=None):
    """What a preset costs, trainings with their analyses, before anything is started.

    The throughput of a device that is here is measured for each kind of network. For one that is not, `tflops`, in
    10^12 floating-point operations per second (positive, else a `ValueError`), stands for all of them.

    Returns:
        List of mappings, one per cell: ``dataset``, ``architecture``, ``level``, ``runs``, ``flops`` (of all its
        runs), ``disk_bytes`` and ``hours`` (of one core or the GPU).
    """
    if tflops is not None and not tflops > 0:
        raise ValueError(f"tflops is {tflops!r}; expected a positive throughput, such as 10 for 10 TFLOP/s")
    rows = []
    for dataset, architecture, level in preset.cells():
        cell = [finding.unit_of(preset, dataset, architecture, level, seed) for seed in preset.seeds]
        config = cell[0].config
        steps, weights = (sum(numbers) for numbers in zip(*map(_work_of, cell), strict=True))
        flops = steps * rfkit.training.flops_per_image(config)
        seconds = flops / (tflops * 1e12) if tflops else steps * rfkit.training.seconds_per_image(config, device)
        rows.append({
            "dataset": dataset, "architecture": architecture, "level": level, "runs": len(cell), "flops": flops,
            "disk_bytes": 3 * 4 * weights,  # init, last and final weights; all else is small beside them
            "hours": (seconds + (START_SECONDS * len(cell) if tflops is None else 0)) / 3600,
        })  # fmt: skip
    return rows
