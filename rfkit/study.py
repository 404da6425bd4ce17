"""The runs of a preset: found, or made if that is quick enough; and what they cost before anything is started.

PyTorch is imported where something is trained or measured: a page made from records does not wait for it.
"""

import math
import shlex
from dataclasses import replace

from rfkit import contrasts, pairs, presets, records, store
from rfkit.config import ConfigError


class TooLongError(RuntimeError):
    """Runs are missing and would take longer than allowed; the message holds the command to make them."""


def ensure(preset, *, max_minutes=10, jobs=None, root=None, results=records.RESULTS, device=None):
    """The runs of a preset and its pairs of seeds: found, or made if that is quick enough.

    Args:
        preset: `Preset`.
        max_minutes: Longest training to start without asking, by an estimate for this machine.
        jobs: As in `rfkit.runner.run_all`.
        root: Folder of the run store.
        results: Folder of the committed records.
        device: As in `rfkit.training.pick_device`.

    Returns:
        List of `rfkit.store.Run`. Where a study is recorded in part and the rest would take longer, the part; what is
        missing is printed.

    Raises:
        ConfigError: If `max_minutes` is not a number.
        TooLongError: If nothing is there and training would take longer; names the command to run.
        RuntimeError: If a training fails.
    """
    if isinstance(max_minutes, bool) or not isinstance(max_minutes, int | float):
        raise ConfigError(f"max_minutes is {max_minutes!r}; expected a number of minutes, such as 10")
    found = _ensure_runs(preset, max_minutes, jobs, root, results, device)
    pairs.ensure(preset, found, jobs=jobs)
    return found


def _ensure_runs(preset, max_minutes, jobs, root, results, device):
    found, missing = records.find(preset, root, results)
    if not missing:
        return found
    todo = [records.unit_of_what_is_here(preset, *cell) for cell in missing]
    in_part = bool(found and records.recorded(preset, results))
    absent = sorted({unit.dataset for unit in todo if not unit.config.data_sha256})
    message = f"{len(todo)} of {len(found) + len(missing)} runs of preset {preset.name!r} are missing"
    if in_part and absent:  # no estimate: it would take longer than to show what there is
        print(f"Shown is what is recorded. {message}. Run: rfkit study {command(preset)}", flush=True)
        return found
    from rfkit import cost, runner

    untrained = [unit for unit in todo if not store.Store(root).run(unit.config).done]
    minutes = sum(cost.seconds(unit.config, device) for unit in untrained) / 60
    minutes /= runner.processes(jobs, device, len(todo))
    if minutes > max_minutes or absent:
        not_here = f" and {', '.join(absent)} would be downloaded" if absent else ""
        message += (
            f"; training them takes about {minutes:.0f} minutes here{not_here} (max_minutes={max_minutes}). "
            f"Run: rfkit study {command(preset)}"
        )
        if in_part:
            print(f"Shown is what is recorded. {message}", flush=True)
            return found
        raise TooLongError(message)
    failures = runner.run_all(todo, jobs=jobs, root=root, device=device, image_limit=preset.image_limit)
    if failures:
        raise RuntimeError("; ".join(f"{unit.config.folder}: {message}" for unit, message in failures))
    return records.find(preset, root, results)[0]


def command(preset):
    """The arguments of ``rfkit study`` that make the runs of a preset.

    Args:
        preset: `Preset`, perhaps changed by `Preset.select`.

    Returns:
        Text such as ``demo --levels 1,3 --epochs 2``.
    """
    base, words = presets.get(preset.name), [preset.name]
    if all(name.startswith(presets.CONTRASTS) for name in preset.architectures):
        base, words = contrasts.of_preset(base), [preset.name, "--contrasts"]
    fields = ("protocol", "datasets", "architectures", "levels", "seeds", "rates", "epochs", "width", "precision")
    for field in (*fields, "stacked", "compiled"):
        value = getattr(preset, field)
        if value is True:
            words.append(f"--{field}")
        elif value != getattr(base, field) or (field == "epochs" and preset.epochs_of != base.epochs_of):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"--{field} {shlex.quote(text)}")
    return " ".join(words)


def jobs_of(preset):
    """The units of a preset, each as a job of its own, or as many seeds as are stacked.

    Args:
        preset: `Preset`, perhaps changed by `Preset.select`.

    Returns:
        List of mappings: ``name`` (unique, usable in a file name), ``command`` (arguments of ``rfkit study``),
        ``minutes`` (generous) and ``memory_mib``.
    """
    import torch

    from rfkit import analyses, cost

    jobs = []
    for i in range(0, len(preset.seeds), preset.stacked):
        seeds = preset.seeds[i : i + preset.stacked]
        for dataset, architecture, level in preset.cells():
            alone = replace(preset, datasets=(dataset,), architectures=(architecture,), levels=(level,), seeds=seeds)
            config = records.unit_of_what_is_here(preset, dataset, architecture, level, seeds[0]).config
            with torch.device("meta"):
                weights = sum(p.numel() for p in analyses.build(config).parameters())
            # analyses take up to as long as the training; twice that for a slower node. The largest need of memory is
            # Lanczos' basis of about 120 vectors, beside what Python and torch take
            jobs.append({
                "name": f"{config.folder.replace('/', '-')}",
                "command": command(alone),
                "minutes": math.ceil(4 * len(seeds) * cost.seconds(config) / 60) + 10,
                "memory_mib": 3000 + math.ceil(140 * 4 * weights / 2**20),
            })  # fmt: skip
    return jobs


def plan(preset, device=None, *, tflops=None):
    """What the trainings of a preset cost, before anything is started.

    Args:
        preset: `rfkit.presets.Preset`.
        device: As in `rfkit.training.pick_device`; its throughput is measured for each kind of network.
        tflops: Throughput in 10^12 floating-point operations a second, of a device that is not here, which trains all
            of them at that rate.

    Returns:
        List of mappings, one a cell: ``dataset``, ``architecture``, ``level``, ``runs``, ``flops`` (of all its
        runs), ``disk_bytes`` and ``hours`` (of one core or the GPU).

    Raises:
        ValueError: If the throughput is not positive.
    """
    if tflops is not None and not tflops > 0:
        raise ValueError(f"tflops is {tflops!r}; expected a positive throughput, such as 10 for 10 TFLOP/s")
    import torch

    from rfkit import cost, models

    rows = []
    for dataset, architecture, level in preset.cells():
        config = records.unit_of_what_is_here(preset, dataset, architecture, level, 0).config
        with torch.device("meta"):
            model = models.build(architecture, level, width=config.width, num_classes=config.num_classes)
        runs = len(preset.seeds)
        flops = cost.flops(config)
        seconds = cost.seconds(config, device) if tflops is None else flops / (tflops * 1e12)
        rows.append({
            "dataset": dataset,
            "architecture": architecture,
            "level": level,
            "runs": runs,
            "flops": runs * flops,
            # init, last and final weights; metrics and records are small beside them
            "disk_bytes": runs * 3 * sum(t.nbytes for t in model.state_dict().values()),
            "hours": runs * seconds / 3600,
        })
    return rows
