"""Two seeds of one network beside each other: similarity of their layers, and the line between them."""

import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context

from rfkit import records, store
from rfkit.config import stable_hash


def ensure(preset, runs, *, jobs=None):
    """Compare the pairs of seeds of a preset, where both runs are there with their weights.

    The result is stored as an analysis of the second run of a pair.

    Args:
        preset: `rfkit.presets.Preset`.
        runs: Its runs, as made by `rfkit.study.ensure`.
        jobs: Number of processes; by default one a core.

    Returns:
        Number of pairs that were compared now.
    """
    todo = list(_todo(preset, runs))
    here = [name for name in preset.datasets if records.is_here(name)] if todo else []
    names = {records.load(name, preset.image_limit).source.name: name for name in here}
    todo = [(a.path, b.path, preset, names[b.config.dataset]) for a, b in todo if b.config.dataset in names]
    if not todo:
        return 0
    jobs = max(1, min(jobs or os.cpu_count() or 1, len(todo)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for future in [pool.submit(_compare, *task) for task in todo]:
            future.result()
    return len(todo)


def _todo(preset, runs):
    """Pairs of runs that are not compared yet and have their weights."""
    levels = preset.pairs and preset.pairs.levels
    cells = {}
    for run in runs:
        if levels is None or run.config.level in levels:
            cells.setdefault(run.config.folder.rpartition("/")[0], {})[run.config.seed] = run
    for by_seed in cells.values():
        for a, b in preset.seed_pairs:
            if a in by_seed and b in by_seed and not by_seed[b].analysis_done("pair", key(preset, a)):
                pair = by_seed[a], by_seed[b]
                if all((run.path / "weights" / f"{which}.pt").is_file() for run in pair for which in ("init", "final")):
                    yield pair


def key(preset, other_seed):
    """Hash of the settings of a comparison.

    Args:
        preset: `rfkit.presets.Preset`.
        other_seed: Seed of the first run of the pair.

    Returns:
        Ten characters.
    """
    settings = asdict(preset.pairs)
    return stable_hash(
        {k: settings[k] for k in ("images", "points", "line_images")} | {"other_seed": other_seed, "version": 2}
    )


def _compare(first, second, preset, dataset):
    import torch

    torch.set_num_threads(1)
    first, second = store.Run(first), store.Run(second)
    data = records.load(dataset, preset.image_limit)
    store.save_analysis(second, "pair", key(preset, first.config.seed), compare(first, second, preset.pairs, data))


def compare(first, second, settings, data):
    """Two runs beside each other.

    Args:
        first: `rfkit.store.Run`, with weights.
        second: Another seed of the same network.
        settings: `rfkit.presets.Pairs`.
        data: Their data set.

    Returns:
        JSON-able mapping: ``layers``; for the stages ``init`` and ``final`` the matrix between the two networks, that
        of the first with itself, and dead layers; ``line``, the loss between the two trained networks.
    """
    from rfkit import analyses, cka, landscape, training  # here, as what is compared already does not wait for torch

    few, result = data.sample(settings.line_images, settings.images), {}
    images = few.test_images
    for stage in ("init", "final"):
        a, b = (analyses.at_stage(run, stage, data) for run in (first, second))
        found, own = cka.layer_similarity(a, b, images), cka.layer_similarity(a, a, images)
        result[stage] = {
            "matrix": _rounded(found.matrix), "self": _rounded(own.matrix), "dead_a": found.dead_a,
            "dead_b": found.dead_b,
        }  # fmt: skip
    places, losses, accuracies = landscape.line(
        a, b, few.train_images, few.train_labels, points=settings.points,
        calibration=data.sample(records.CALIBRATION_IMAGES).train_images,
    )  # fmt: skip
    line = {"places": places.tolist(), "losses": losses.tolist(), "accuracies": accuracies.tolist()}
    line["images"] = len(few.train_images)
    ends = [training.evaluate(model, images, few.test_labels) for model in (a, b)]
    return result | {
        "other_seed": first.config.seed, "layers": found.layers_a, "images": len(images), "line": line,
        "test_accuracy": ends,
    }  # fmt: skip


def _rounded(matrix):
    return [[None if math.isnan(value) else round(float(value), 6) for value in row] for row in matrix]
