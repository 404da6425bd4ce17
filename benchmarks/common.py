"""Shared by the benchmarks: alternate two contenders, take the best of each, write one JSON file."""

import json
import platform
import time
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def alternate(contenders, rounds=3):
    """Best seconds of each contender; they take turns, so that a slow moment of the machine hits all of them."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def report(name, rows):
    """Print the rows and write them with the environment they were measured in."""
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")
