"""Shared by the benchmarks: alternate contenders, take the best of each, write one JSON file."""

import importlib.util
import json
import os
import platform
import time
from multiprocessing import get_context
from pathlib import Path

import torch

from rfkit.experiments.provenance import processor

RESULTS = Path(__file__).parent / "results"
QUICK = bool(os.environ.get("RFKIT_BENCH_QUICK"))
"""A few seconds of each benchmark, to see that it runs; nothing is written."""


def sized(full, quick):
    """How much to measure."""
    return quick if QUICK else full


def installed(package):
    """Whether a peer is there; one that is not costs no process."""
    return importlib.util.find_spec(package) is not None


def alternate(contenders, rounds=3):
    """Best seconds of each contender; they take turns, so that a slow moment of the machine hits all of them."""
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(sized(rounds, 1)):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def alone(contenders, measure):
    """A row of each contender, {function: the package it needs}, from a process of its own: so is its peak memory.

    There `measure` gets the contender's name and a queue for its row.
    """
    context, rows = get_context("spawn"), []
    for contender, package in contenders.items():
        name = contender.__name__
        if not installed(package):
            rows.append({"what": name, "failed": "not installed"})
            continue
        queue = context.SimpleQueue()
        process = context.Process(target=measure, args=(name, queue))
        process.start()
        process.join()
        rows.append(queue.get())
    return rows


def report(name, rows):
    """Print the rows and write them with the environment they were measured in."""
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if not QUICK:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps({"environment": environment, "rows": rows}, indent=1) + "\n")
