"""Doing the runs of a preset on all cores: train, analyse, never twice."""

import math
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import torch
from tqdm import tqdm

from rfkit import analyses, contrasts, cost, files, models, presets, pruning, receptive_field, records, store, training


class TooLongError(RuntimeError):
    """Runs are missing and would take longer than allowed; the message holds the command to make them."""


def complete(unit, runs, *, data=None, device=None, progress=False):
    """Train a unit and analyse it; what is finished already is left as it is.

    Args:
        unit: `Unit`.
        runs: `rfkit.store.Store`.
        data: The data set; loaded if ``None``.
        device: As in `rfkit.training.pick_device`.
        progress: As in `rfkit.training.fit`.

    Returns:
        `rfkit.store.Run`, finished.
    """
    data = data if data is not None else records.load(unit.dataset)
    with runs.claim(unit.config) as run:
        if not run.done:
            _train(unit.config, run, data, device, progress)
        (run.path / "checkpoint.pt").unlink(missing_ok=True)  # after DONE: at every instant one of the two is there
        for name, key in unit.analyses().items():
            if not run.analysis_done(name, key):
                store.save_analysis(
                    run, name, key, analyses.BY_NAME[name](run, unit, data, training.pick_device(device))
                )
    return store.Run(run.path)


def _train(config, run, data, device, progress):
    device = training.pick_device(device)
    checkpoint, weights = run.path / "checkpoint.pt", run.path / "weights"
    model = analyses.build(config)
    # asked before the training, so that a network they do not fit fails before its hours of work
    field_px, prunable = _field_px(model, data.image_size), sum(w.numel() for w in pruning.prunable(model).values())
    if not (weights / "init.pt").is_file():
        files.save_tensors(weights / "init.pt", model.state_dict())
    result = training.fit(
        model, data, config.train, seed=config.seed, device=device, progress=progress, label=config.folder,
        resume=files.load_tensors(checkpoint) if checkpoint.is_file() else None,
        on_epoch=lambda state: files.save_tensors(checkpoint, state),
    )  # fmt: skip
    files.save_tensors(weights / "final.pt", model.state_dict())
    files.save_tensors(weights / "last.pt", result.last_state)
    selected = result.history[result.selected_epoch - 1]
    files.write_csv(run.path / "metrics.csv", result.history)
    files.write_json(
        run.path / "summary.json",
        {
            "test_accuracy": selected["test_accuracy"],
            "test_loss": selected["test_loss"],
            "train_accuracy": selected["train_accuracy"],
            "train_loss": selected["train_loss"],
            "selected_epoch": result.selected_epoch,
            "last_test_accuracy": result.history[-1]["test_accuracy"],
            "shrink_factor": result.shrink_factor,
            "field_px": field_px,
            "parameters": sum(p.numel() for p in model.parameters()),
            "prunable_weights": prunable,
        },
    )
    seconds = sum(row["seconds"] for row in result.history)
    files.write_json(run.path / "provenance.json", store.provenance(data.source, device, seconds))
    store.finish(run.path)


def _field_px(model, image_size):
    """Receptive field of the last feature map; None where it is the whole image or not known."""
    try:
        size = max(receptive_field.receptive_field(model, (3, image_size, image_size)).size)
    except (RuntimeError, ValueError):  # no rule for an operation, or no map at all
        return None
    return size if math.isfinite(size) else None


# --- many units -----------------------------------------------------------------------------------


def run_all(wanted, *, jobs=None, root=None, device=None, image_limit=None, progress=True):
    """Complete units in a pool of single-thread processes; safe to stop and start again.

    Args:
        wanted: `Unit` list, in order of importance.
        jobs: Number of processes; by default one a core, or one on a GPU.
        root: Folder of the run store.
        device: As in `rfkit.training.pick_device`.
        image_limit: As in `load`.
        progress: Show a bar (on a terminal) or a line a unit.

    Returns:
        List of (`Unit`, message) of the units that failed.

    Raises:
        KeyboardInterrupt: If the user stops it; workers are stopped, finished epochs are on disk.
    """
    runs = store.Store(root)
    todo = [unit for unit in wanted if not unit.is_complete(runs.run(unit.config))]
    # one seed after the other, in each the longest first: no core waits long for the last run
    todo.sort(key=lambda unit: (unit.config.seed, -cost.images(unit.config) * cost.flops_per_image(unit.config)))
    if not todo:
        return []
    jobs = _processes(jobs, device, len(todo))
    failures, started = [], time.perf_counter()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers when they import torch
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_start_worker)
    bar = tqdm(total=len(todo), unit="run", disable=None if progress else True)
    futures = {pool.submit(_work, unit, str(runs.root), device, image_limit): unit for unit in todo}
    try:
        for done, future in enumerate(as_completed(futures), start=1):
            unit = futures[future]
            name = unit.config.folder
            try:
                line = f"{name}: test {future.result():.2f} %"
            except Exception as error:  # one bad run must not stop the others
                if isinstance(error, BrokenProcessPool):
                    error = "a worker was killed; run the same command again"
                failures.append((unit, str(error)))
                line = f"{name}: FAILED, {error}"
            bar.update()
            if progress:
                minutes = (time.perf_counter() - started) / 60
                tqdm.write(f"[{done}/{len(todo)}, {minutes:.1f} min] {line}")
    except KeyboardInterrupt:
        for process in list(pool._processes.values()):  # finished epochs are on disk; nothing is lost
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        bar.close()
    return failures


def _processes(jobs, device, work):
    """How many processes to use: by default one a core, or one on a GPU."""
    on_gpu = training.pick_device(device).type != "cpu"
    return max(1, min(jobs or (1 if on_gpu else os.cpu_count() or 1), work))


def _start_worker():
    torch.set_num_threads(1)


def _work(unit, root, device, image_limit):
    runs = store.Store(root)
    run = complete(unit, runs, data=records.load(unit.dataset, image_limit), device=device)
    return run.summary["test_accuracy"]


def ensure(preset, *, max_minutes=10, jobs=None, root=None, results=records.RESULTS, device=None):
    """The runs of a preset: found, or trained if that is quick enough.

    Args:
        preset: `Preset`.
        max_minutes: Longest training to start without asking, by an estimate for this machine.
        jobs: As in `run_all`.
        root: Folder of the run store.
        results: Folder of the committed records.
        device: As in `rfkit.training.pick_device`.

    Returns:
        List of `rfkit.store.Run`. Where a study is recorded in part and the rest would take longer, the part; what is
        missing is printed.

    Raises:
        TooLongError: If nothing is there and training would take longer; names the command to run.
        RuntimeError: If a training fails.
    """
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
    untrained = [unit for unit in todo if not store.Store(root).run(unit.config).done]
    minutes = sum(cost.seconds(unit.config, device) for unit in untrained) / 60 / _processes(jobs, device, len(todo))
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
    failures = run_all(todo, jobs=jobs, root=root, device=device, image_limit=preset.image_limit)
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
    if preset.architectures == contrasts.of_preset(base).architectures:
        base, words = contrasts.of_preset(base), [preset.name, "--contrasts"]
    fields = ("protocol", "datasets", "architectures", "levels", "seeds", "rates", "epochs", "width", "precision")
    for field in (*fields, "compiled"):
        value = getattr(preset, field)
        if value is True:
            words.append(f"--{field}")
        elif value != getattr(base, field):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"--{field} {text}")
    return " ".join(words)


def jobs_of(preset):
    """The units of a preset, each as a job of its own.

    Args:
        preset: `Preset`, perhaps changed by `Preset.select`.

    Returns:
        List of mappings: ``name`` (unique, usable in a file name), ``command`` (arguments of ``rfkit study``),
        ``minutes`` (generous) and ``memory_mib``.
    """
    jobs = []
    for seed in preset.seeds:
        for dataset, architecture, level in preset.cells():
            alone = replace(preset, datasets=(dataset,), architectures=(architecture,), levels=(level,), seeds=(seed,))
            config = records.unit_of_what_is_here(preset, dataset, architecture, level, seed).config
            with torch.device("meta"):
                weights = sum(p.numel() for p in analyses.build(config).parameters())
            # analyses take up to as long as the training; twice that for a slower node. The largest need of memory is
            # Lanczos' basis of about 120 vectors, beside what Python and torch take
            jobs.append({
                "name": f"{config.folder.replace('/', '-')}",
                "command": command(alone),
                "minutes": math.ceil(4 * cost.seconds(config) / 60) + 10,
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
    rows = []
    for dataset, architecture, level in preset.cells():
        config = records.unit_of_what_is_here(preset, dataset, architecture, level, 0).config
        with torch.device("meta"):
            model = models.build(architecture, level, width=config.width, num_classes=config.num_classes)
        runs = len(preset.seeds)
        flops = cost.images(config) * cost.flops_per_image(config)
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
