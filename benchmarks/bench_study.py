"""Two processes of one thread against one process of two threads, on trainings of the demo preset.

Also what evaluation gains from folding batch norm and from leaving out dead taps, with how far outputs move. Folding is
not used: it moves outputs by rounding, so that a recorded accuracy could change by an image. Leaving out dead taps is
exact; the Hessian uses it, where it pays most.
"""

import copy
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from common import alternate, report, sized
from torch.fx.experimental.optimization import fuse

from rfkit import experiments, hessian, models, presets, pruning, training
from rfkit.experiments import runner

PRESET = presets.get(sized("demo", "smoke")).select(levels=[1, 4], seeds=sized([0, 1], [0]), epochs=sized(4, 1))
ONE = """
import sys
from bench_study import PRESET
from rfkit import experiments
from rfkit.experiments import runner
for unit in experiments.units(PRESET):
    data = experiments.load(unit.dataset, PRESET.image_limit)
    runner.complete(unit, experiments.Store(sys.argv[1]), analyses=["pruning"], data=data)
"""


def two_processes(folder):
    units = experiments.units(PRESET)
    options = {"jobs": 2, "root": folder, "image_limit": PRESET.image_limit, "progress": False}
    assert runner.run_all(units, analyses=["pruning"], **options) == []


def one_process(folder):
    command = [sys.executable, "-c", ONE, folder]
    here = Path(__file__).parent  # where it finds this file
    threads = sized("2", "1")  # two threads on a core that something else uses wait for each other: minutes
    subprocess.run(command, check=True, cwd=here, env=os.environ | {"OMP_NUM_THREADS": threads})


def seconds(work):
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        work(folder)
        return time.perf_counter() - start


def evaluation(width, images):
    """Rows: seconds of an evaluation as it is, with batch norm folded, and without dead taps."""
    rows, labels = [], torch.randint(0, 10, (images,))
    images = torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8)
    for name in ("vgg19", "resnet50"):
        for level in (1, 4):
            plain = models.seeded_build(name, level, width=width).eval()
            training.remember_statistics(plain, (0.5,) * 3, (0.25,) * 3)
            folded = copy.deepcopy(plain)
            folded.features = fuse(folded.features)
            nets = {
                "plain": plain,
                "folded": folded,
                "without_dead_taps": pruning.without_dead_taps(plain, (3, 32, 32)),
            }
            for net in nets.values():
                net.to(memory_format=torch.channels_last)
            best = alternate({
                key: lambda net=net: training.loss_and_accuracy(net, images, labels) for key, net in nets.items()
            })
            outputs = {key: torch.cat(list(training.outputs(net, images))) for key, net in nets.items()}
            scale = outputs["plain"].abs().max()
            row = {"what": f"evaluation, {name}, level {level}, width {width:g}", "s": round(best["plain"], 3)}
            for key in ("folded", "without_dead_taps"):
                row[f"{key}_ratio"] = round(best["plain"] / best[key], 2)
                row[f"{key}_change"] = f"{float((outputs[key] - outputs['plain']).abs().max() / scale):.1e}"
            rows.append(row)
    return rows


def products():
    """A Hessian-vector product with and without dead taps, VGG19-like, level 4, full width, 16 images."""
    model = models.seeded_build("vgg19", 4, width=sized(1.0, 1 / 16)).eval()
    images, labels = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))
    with_taps = pruning.without_dead_taps
    operators = {"thin": hessian.HessianOperator(model, images, labels)}
    hessian.without_dead_taps = lambda net, shape: copy.deepcopy(net)
    operators["whole"] = hessian.HessianOperator(model, images, labels)
    hessian.without_dead_taps = with_taps
    vectors = {key: torch.randn(operator.size) for key, operator in operators.items()}
    best = alternate({key: lambda key=key: operators[key](vectors[key]) for key in operators})
    sizes = {key: operator.size for key, operator in operators.items()}
    ratio = round(best["whole"] / best["thin"], 2)
    return {"what": "Hessian product", "s": round(best["thin"], 2), "ratio_without_thinning": ratio, "sizes": sizes}


if __name__ == "__main__":
    took = {work.__name__: seconds(work) for work in (one_process, two_processes)}
    rows = [{"what": name, "s": round(s, 1)} for name, s in took.items()]
    rows[1]["ratio"] = round(took["one_process"] / took["two_processes"], 2)
    torch.set_num_threads(1)
    report(
        "study", [*rows, *evaluation(1 / 8, sized(500, 20)), *evaluation(sized(1.0, 1 / 16), sized(50, 20)), products()]
    )
