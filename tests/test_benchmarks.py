"""Every benchmark runs: a few seconds of each, which writes no result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("bench_*.py")))
def test_benchmark_runs(name, tmp_path):
    before = {path: path.read_bytes() for path in FOLDER.glob("results/*.json")}
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py"], cwd=FOLDER.parent, capture_output=True, text=True,
        env=os.environ | {"RFKIT_BENCH_QUICK": "1", "RFKIT_RUNS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    ours = [line for line in done.stdout.splitlines() if "failed" not in line]
    assert any(mark in line for line in ours for mark in ("ratio", "times ours", "times torch")), done.stdout
    assert before == {path: path.read_bytes() for path in FOLDER.glob("results/*.json")}
