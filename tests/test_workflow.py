"""The Snakemake workflow on this computer gives the numbers of rfkit's own pool."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPTIONS = "--architectures vgg19 --levels 3"


@pytest.fixture
def snakemake():
    beside = ROOT / ".venv-cluster" / "bin" / "snakemake"
    found = beside if beside.is_file() else shutil.which("snakemake")
    if not found:
        pytest.skip("no Snakemake here; make .venv-cluster/installed")
    return str(found)


def test_local_run_gives_the_same_numbers(snakemake, tmp_path):
    shutil.copytree(ROOT / "workflow", tmp_path / "workflow")
    environment = os.environ | {"RFKIT_RUNS": str(tmp_path / "pool"), "PYTHONPATH": str(ROOT)}
    rfkit = [sys.executable, "-m", "rfkit"]
    for command in (["study", "smoke", *OPTIONS.split(), "-j", "1"], ["summary", "smoke", *OPTIONS.split()]):
        pool = subprocess.run([*rfkit, *command], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert pool.returncode == 0, pool.stderr
    command = [
        snakemake, "-s", "workflow/Snakefile", "--profile", "workflow/profiles/local", "--until", "summary", "--config",
        "preset=smoke", f"options={OPTIONS}", f"rfkit={' '.join(rfkit)}",
    ]  # fmt: skip
    environment |= {"RFKIT_RUNS": str(tmp_path / "runs"), "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/workflow/smoke/summary.csv").read_text() == pool.stdout
    again = subprocess.run([*command, "--dry-run"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert re.search(r"total\s+0\b|Nothing to be done", again.stdout + again.stderr)
