"""Doing units, alone or on all cores: train, analyse, never twice."""

import math
import multiprocessing.connection
import os
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import replace

import torch
from tqdm import tqdm

from rfkit import analyses, cost, files, pruning, receptive_field, records, stacked, store, training
from rfkit.config import ConfigError, whole


def complete(unit, runs, *, data=None, device=None, progress=False):
    """Train a unit and analyse it; what is finished already is left as it is.

    Args:
        unit: `Unit`.
        runs: `rfkit.store.Store`.
        data: The data set as the unit was made for it, see `rfkit.records.load`; the whole one is loaded if ``None``.
        device: As in `rfkit.training.pick_device`.
        progress: As in `rfkit.training.fit`.

    Returns:
        `rfkit.store.Run`, finished.

    Raises:
        rfkit.config.ConfigError: If the data are not those of the unit.
    """
    return complete_together([unit], runs, data=data, device=device, progress=progress)[0]


def complete_together(units, runs, *, data=None, device=None, progress=False):
    """Train seeds of one network, as one program if they are several, and analyse each.

    Args:
        units: `Unit` list, which differ in their seed only.
        runs: As in `complete`.
        data: As in `complete`.
        device: As in `complete`.
        progress: As in `complete`; not for several.

    Returns:
        List of `rfkit.store.Run`, finished.

    Raises:
        rfkit.config.ConfigError: As in `complete`.
    """
    data, device = data if data is not None else records.load(units[0].dataset), training.pick_device(device)
    _refuse_other_data(units[0].config, data)
    # Apple's GPUs have no float64, which analyses need
    place = torch.device("cpu") if device.type == "mps" else device
    with ExitStack() as claims:
        claimed = [claims.enter_context(runs.claim(unit.config)) for unit in units]
        if not all(run.done for run in claimed):
            _train([unit.config for unit in units], claimed, data, device, progress)
        for run in claimed:  # after DONE: at every instant one of the two is there
            (run.path / "checkpoint.pt").unlink(missing_ok=True)
        for unit, run in zip(units, claimed, strict=True):
            for name, key in unit.missing(run).items():
                store.save_analysis(run, name, key, analyses.BY_NAME[name](run, unit, data, place))
    return [store.Run(run.path) for run in claimed]


def _refuse_other_data(config, data):
    here = {
        "data_sha256": data.source.sha256, "image_size": data.image_size,
        "train_images": len(data.train_labels), "test_images": len(data.test_labels),
    }  # fmt: skip
    for field, value in here.items():
        asked = getattr(config, field)
        if value != asked:
            raise ConfigError(
                f"{field} of {data.source.label} is {value!r}, that of the run {config.folder} {asked!r}; "
                "give the data it was configured with, or ask for the run again if they have changed"
            )


def _train(configs, runs, data, device, progress):
    # all of them as they were begun; or, if some are finished, those that are left as they were begun
    state = _checkpoint(configs, runs)
    if state is None:
        left = [(config, run) for config, run in zip(configs, runs, strict=True) if not run.done]
        configs, runs = zip(*left, strict=True)
        state = _checkpoint(configs, runs)
    checkpoint = runs[0].path / "checkpoint.pt"
    train, label = configs[0].train, configs[0].folder
    nets = [analyses.build(config) for config in configs]
    # asked before the training, so that a network they do not fit fails before its hours of work
    field_px = _field_px(nets[0], data.image_size)
    prunable = sum(w.numel() for w in pruning.prunable(nets[0]).values())
    for net, run in zip(nets, runs, strict=True):
        if not (run.path / "weights" / "init.pt").is_file():
            files.save_tensors(run.path / "weights" / "init.pt", net.state_dict())
    options = {
        "device": device, "label": label, "on_epoch": lambda state: files.save_tensors(checkpoint, state),
        "resume": state,
    }  # fmt: skip
    if train.stacked == 1:
        results = [training.fit(nets[0], data, train, seed=configs[0].seed, progress=progress, **options)]
    else:
        results = stacked.fit(nets, data, train, seeds=[config.seed for config in configs], **options)
    for net, run, result in zip(nets, runs, results, strict=True):
        if not run.done:
            _save(net, run, result, data, device, field_px, prunable)


def _checkpoint(configs, runs):
    """What an interrupted training of just these seeds left, or None."""
    path, seeds = runs[0].path / "checkpoint.pt", [config.seed for config in configs]
    state = files.load_tensors(path) if path.is_file() else None
    return state if state is not None and state.get("seeds", seeds[:1]) == seeds else None


def _save(model, run, result, data, device, field_px, prunable):
    weights = run.path / "weights"
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
    groups = [group for group in _groups(wanted) if not all(unit.is_complete(runs.run(unit.config)) for unit in group)]
    # one seed after the other, in each the longest first: no core waits long for the last run
    groups.sort(key=lambda group: (group[0].config.seed, -cost.flops(group[0].config)))
    todo = [unit for group in groups for unit in group]
    if not todo:
        return []
    jobs = processes(jobs, device, len(groups))
    failures, started = [], time.perf_counter()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by the workers when they import torch
    workers = [_worker() for _ in range(jobs)]
    bar = tqdm(total=len(todo), unit="run", disable=None if progress else True)
    waiting, running, done = iter(groups), {}, 0

    def start_next(place):
        group = next(waiting, None)
        if group is not None:
            running[workers[place].submit(_work, group, str(runs.root), device, image_limit)] = place, group

    try:
        for place in range(jobs):
            start_next(place)
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                place, group = running.pop(future)
                try:
                    said = [f"test {accuracy:.2f} %" for accuracy in future.result()]
                except Exception as error:  # one bad run must not stop the others
                    if isinstance(error, BrokenProcessPool):
                        error = "a worker was killed; run the same command again"
                        workers[place] = _worker()
                    failures += [(unit, str(error)) for unit in group]
                    said = [f"FAILED, {error}"] * len(group)
                start_next(place)
                for unit, line in zip(group, said, strict=True):
                    done += 1
                    bar.update()
                    if progress:
                        minutes = (time.perf_counter() - started) / 60
                        tqdm.write(f"[{done}/{len(todo)}, {minutes:.1f} min] {unit.config.folder}: {line}")
    except KeyboardInterrupt:
        for worker in workers:
            for process in list(worker._processes.values()):  # finished epochs are on disk; nothing is lost
                process.terminate()
        raise
    finally:
        for worker in workers:
            worker.shutdown(cancel_futures=True)
        bar.close()
    return failures


def _worker():
    """A pool of one process: a pool of several is lost as a whole when one of them is killed."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _groups(units):
    """Units that are trained as one program: seeds of one configuration, as many as it says."""
    by_cell = {}
    for unit in units:
        by_cell.setdefault(replace(unit.config, seed=0), []).append(unit)
    return [
        cell[i : i + config.train.stacked]
        for config, cell in by_cell.items()
        for i in range(0, len(cell), config.train.stacked)
    ]


def processes(jobs, device, work):
    """How many processes to use.

    Args:
        jobs: As asked; by default one a core, or one on a GPU.
        device: As in `rfkit.training.pick_device`.
        work: How many there is something to do for.

    Returns:
        Number of processes.

    Raises:
        rfkit.config.ConfigError: If `jobs` is no whole number of at least 1.
    """
    if jobs is not None:
        whole("jobs", jobs, 1)
    on_gpu = training.pick_device(device).type != "cpu"
    return max(1, min(jobs or (1 if on_gpu else os.cpu_count() or 1), work))


def _start_worker():
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """A worker whose main process was killed would hold its run for good, and wait for work that never comes."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _work(group, root, device, image_limit):
    data = records.load(group[0].dataset, image_limit)
    made = complete_together(group, store.Store(root), data=data, device=device)
    return [run.summary["test_accuracy"] for run in made]
