"""Making what a preset asks for: train, analyse, never twice; by one process or on all cores."""

import itertools
import math
import sys
import time

import torch
from tqdm import tqdm

from rfkit import pruning, receptive_field, training
from rfkit.config import ConfigError, whole
from rfkit.experiments import finding, pool, store
from rfkit.experiments.analysis import Work
from rfkit.experiments.networks import build
from rfkit.experiments.provenance import Clock
from rfkit.experiments.registry import ANALYSES, named
from rfkit.files import load_tensors, save_tensors, write_csv, write_json


def complete(unit, runs, *, analyses=None, data=None, device=None):
    """Train a unit and analyse it; what is finished already is left as it is."""
    data = data if data is not None else finding.load(unit.dataset)
    device = training.pick_device(device)
    _refuse_other_data(unit.config, data)
    with runs.claim(unit.config, unit.asked) as run:
        if not run.done:
            _train(unit.config, run, data, device)
        (run.path / "checkpoint.pt").unlink(missing_ok=True)  # after DONE: at every instant one of the two is there
        run = store.Run(run.path, unit.asked)
        weights = {"final": run.weights_sha256}
        for name, settings in run.missing([each for each in named(analyses) if each.needs == "run"]).items():
            _measure(ANALYSES[name], run, settings, run.folder_of(name, settings), data, device, weights)
    return run


def compare(unit, runs, *, analyses, data, device):
    """Make the analyses of a unit that need another seed of its network, where both are there with their weights."""
    second = runs.run(unit.config, unit.asked)
    todo = second.pairs(named(analyses))
    for name, settings, first in todo:
        with store.claimed(folder := second.folder_of(name, settings)):
            if second.result(name) is not None:  # another process was faster
                continue
            weights = {"final": second.weights_sha256, "other": first.weights_sha256}
            _measure(ANALYSES[name], (first, second), settings, folder, data, training.pick_device(device), weights)
    return len(todo)


def _measure(analysis, subject, settings, folder, data, device, weights, progress=False):
    """Compute and store one result; weights are checksums by name."""
    # Apple's GPUs have no float64, which analyses need
    place = torch.device("cpu") if analysis.on_cpu or device.type == "mps" else device
    there = store.read_result(folder)
    if there is not None and "rates" in settings:  # of other rates than are asked for: a curve never becomes shorter
        settings = settings | {"rates": sorted({*settings["rates"], *there["settings"]["rates"]})}
    clock = Clock(data.source if data is not None else None)
    try:
        values = analysis.compute(subject, settings, Work(data, place, progress))
    except Exception as error:
        error.add_note(f" (in analysis {analysis.name!r})")
        raise
    store.save_result(folder, settings, values, clock.stop(place), weights)


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


def _train(config, run, data, device):
    checkpoint, weights = run.path / "checkpoint.pt", run.path / "weights"
    state = load_tensors(checkpoint) if checkpoint.is_file() else None
    clock = Clock(data.source, state and state.get("begun_by"))
    model = build(config)
    # asked before the training, so that a network they do not fit fails before its hours of work
    training.check_outputs(model, config.num_classes, data.image_size)
    field_px = _field_px(model, data.image_size)
    prunable = sum(w.numel() for w in pruning.prunable(model).values())
    if not (weights / "init.pt").is_file():
        save_tensors(weights / "init.pt", model.state_dict())
    result = training.fit(
        model, data, config.train, seed=config.seed, device=device, label=config.folder,
        on_epoch=lambda state: save_tensors(checkpoint, state | {"begun_by": clock.commit}), resume=state,
    )  # fmt: skip
    save_tensors(weights / "final.pt", model.state_dict())
    save_tensors(weights / "last.pt", result.last_state)
    selected = result.history[result.selected_epoch - 1]
    write_csv(run.path / "metrics.csv", result.history)
    kept = ("test_accuracy", "test_loss", "train_accuracy", "train_loss")
    write_json(run.path / "summary.json", {name: selected[name] for name in kept} | {
        "selected_epoch": result.selected_epoch, "last_test_accuracy": result.history[-1]["test_accuracy"],
        "shrink_factor": result.shrink_factor, "field_px": field_px,
        "parameters": sum(p.numel() for p in model.parameters()), "prunable_weights": prunable,
    })  # fmt: skip
    seconds = sum(row["seconds"] for row in result.history)  # of all sessions together
    write_json(run.path / "provenance.json", clock.stop(device, seconds))
    store.finish(run.path)


def _field_px(model, image_size):
    """Receptive field of the last feature map; None where it is the whole image or not known."""
    try:
        size = max(receptive_field.receptive_field(model, (3, image_size, image_size)).size)
    except (RuntimeError, ValueError):  # no rule for an operation, or no map at all
        return None
    return size if math.isfinite(size) else None


def run_all(wanted, *, analyses=None, jobs=None, root=None, device=None, image_limit=None, progress=True):
    """Complete units in single-thread processes, then compare their pairs; safe to stop and start again."""
    runs, chosen = store.Store(root), named(analyses)
    alone = [each for each in chosen if each.needs == "run"]
    asked = ((unit, runs.run(unit.config, unit.asked)) for unit in wanted)
    todo = [unit for unit, run in asked if not run.done or run.missing(alone)]
    # one seed after the other, in each the longest first: no core waits long for the last run
    todo.sort(key=lambda unit: (unit.config.seed, -_flops(unit.config)))
    options = (analyses, str(runs.root), device, image_limit)
    failures = _work_through(_work, todo, (complete, *options), processes(jobs, device, len(todo)), progress)
    pairs = [unit for unit in wanted if runs.run(unit.config, unit.asked).pairs(chosen)]
    return failures + _work_through(_work, pairs, (compare, *options), processes(jobs, device, len(pairs)), progress)


def _flops(config):
    try:
        return training.image_steps(config) * training.flops_per_image(config)
    except Exception:  # its training will say what is wrong with the network
        return math.inf


def damaged(wanted, root=None, *, repair=False):
    """What is wrong with the finished runs among some units; repaired, they are moved aside, to be made again."""
    runs, found = store.Store(root), []
    for unit in wanted:
        path = runs.root / unit.config.folder
        problems = store.damage(path) if store.Run(path).done else []
        if problems and repair:
            names = (path.with_name(f"{path.name}.damaged{n}") for n in itertools.count(1))
            aside = next(name for name in names if not name.exists())
            (path / store.DONE).rename(path / "WAS_DONE")  # no longer a run
            path.rename(aside)
            print(f"rfkit: moved {path} to {aside.name}: {problems[0]}", file=sys.stderr)
        found += problems
    return found


def _work_through(work, todo, options, jobs, progress, run=None):
    """Do some work on each of a list, and say how it went; what failed, with its message."""
    if not todo:
        return []
    failures, start = [], time.perf_counter()
    bar = tqdm(total=len(todo), disable=None if progress else True)
    results = (run or pool.run)([(work, (each, *options)) for each in todo], jobs)
    for done, (index, result) in enumerate(results, start=1):
        if isinstance(result, Exception):
            plain = isinstance(result, ValueError | RuntimeError | OSError)  # else of a network's own code
            said = f"{result}{''.join(getattr(result, '__notes__', ()))}"
            failures.append((todo[index], said if plain else f"{type(result).__name__}: {said}"))
            result = f"FAILED, {failures[-1][1]}"
        bar.update()
        if progress:
            minutes = (time.perf_counter() - start) / 60
            tqdm.write(f"[{done}/{len(todo)}, {minutes:.1f} min] {todo[index]}: {result}")
    bar.close()
    return failures


def _work(unit, do, analyses, root, device, image_limit):
    data = finding.load(unit.dataset, image_limit)
    made = do(unit, store.Store(root), analyses=analyses, data=data, device=device)
    return f"test {made.summary['test_accuracy']:.2f} %" if do is complete else "compared with its pair"


def processes(jobs, device, work):
    """How many processes to use for an amount of work: as asked, else one per core, or one on a GPU."""
    if jobs is not None:
        whole("jobs", jobs, 1)
    on_gpu = training.pick_device(device).type != "cpu"
    return max(1, min(jobs or (1 if on_gpu else pool.cores()), work))


def make(requests, *, jobs=None, root=None, device=None, image_limit=None, progress=False):
    """Compute results that need no run, and store them."""
    jobs, options = processes(jobs, device, len(requests)), (store.Store(root).root, device, image_limit, progress)
    failures = _work_through(_make, requests, options, jobs, progress, _here if jobs == 1 else None)
    if failures:
        raise RuntimeError("; ".join(f"{request}: {message}" for request, message in failures))


def _here(tasks, _):
    threads = torch.get_num_threads()
    torch.set_num_threads(pool.threads())
    try:
        for index, (work, arguments) in enumerate(tasks):
            try:
                result = work(*arguments)
            except Exception as error:  # as from a process: the others still run
                result = error
            yield index, result
    finally:
        torch.set_num_threads(threads)


def _make(request, root, device, image_limit, progress):
    data = finding.load(request.dataset, image_limit) if request.dataset is not None else None
    folder = request.folder(root, data.source if data is not None else None)
    with store.claimed(folder):
        if store.read_result(folder, request.settings) is None:  # else another process was faster
            device = training.pick_device(device)
            _measure(ANALYSES[request.analysis], None, request.settings, folder, data, device, None, progress)
    return "done"
