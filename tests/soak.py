"""Kill a study with two workers at random moments, over and over: nothing finished is lost, the numbers stay the same.

Not part of `make test`: `make soak` takes half an hour, and says so if that was not enough.
Usage: python tests/soak.py [kills] [minutes]
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rfkit.files import file_sha256, read_json

STUDY = ["smoke", "--seeds", "0,1,2", "--epochs", "2"]
KINDS = ("everything", "main process", "a worker")
SHARE = 0.35
"""Of the time of an undisturbed study, after which one is killed at the latest; imports take some of it."""


def start(runs):
    command = [sys.executable, "-m", "rfkit", "study", *STUDY, "-j", "2"]
    return subprocess.Popen(
        command, env=os.environ | {"RFKIT_RUNS": str(runs)}, start_new_session=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip


def numbers(runs):
    """What the study came to, as text."""
    command = [sys.executable, "-m", "rfkit", "summary", *STUDY]
    environment = os.environ | {"RFKIT_RUNS": str(runs)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def kill(process, kind):
    """Returns whether there was something to kill."""
    try:
        if kind == "everything":
            os.killpg(process.pid, signal.SIGKILL)
        elif kind == "main process":
            process.kill()
        else:
            os.kill(random.choice(workers(process)), signal.SIGKILL)
    except (ProcessLookupError, IndexError):  # it ended by itself, or has no worker yet
        return False
    return True


def workers(process):
    """The processes of a study's pool."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def ended(process, seconds=30):
    """Whether all that a killed main process started has ended by itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def finished(runs):
    """{folder: checksums} of everything that says it is finished, each checked against its files."""
    found = {}
    for mark in sorted(runs.rglob("DONE")):
        sums = read_json(mark)["sha256"]
        wrong = [name for name, sha256 in sums.items() if file_sha256(mark.parent / name) != sha256]
        if wrong:
            sys.exit(f"corrupt: {mark.parent} says it is finished, and {', '.join(wrong)} is not what it was")
        found[mark.parent.relative_to(runs)] = sums
    return found


def soak(kills, minutes):
    folder = Path(tempfile.mkdtemp(prefix="rfkit-soak-"))
    seed = int(time.time())
    random.seed(seed)
    print(f"seed {seed}, {folder}", flush=True)
    begun = time.monotonic()
    if start(folder / "whole").wait() != 0:
        sys.exit("the undisturbed study failed")
    longest = max(8.0, SHARE * (time.monotonic() - begun))
    expected = numbers(folder / "whole")
    deadline, counts, rounds, lost_time = time.monotonic() + 60 * minutes, dict.fromkeys(KINDS, 0), 0, 0
    while sum(counts.values()) < kills and time.monotonic() < deadline:
        runs, known, rounds = folder / f"round{rounds}", {}, rounds + 1
        while True:
            process, kind = start(runs), random.choice(KINDS)
            try:
                process.wait(random.uniform(2, longest))
            except subprocess.TimeoutExpired:
                counts[kind] += kill(process, kind)
            if process.wait() == 0:
                break
            if kind == "main process" and not ended(process):
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit("left behind: workers outlive their main process")
            now = finished(runs)
            gone = [str(name) for name, sums in known.items() if now.get(name) != sums]
            if gone:
                sys.exit(f"lost: {', '.join(gone)} was finished before {kind} was killed")
            lost_time += now == known
            known = now
        if numbers(runs) != expected:
            sys.exit(f"other numbers: compare {runs} with {folder / 'whole'}")
        leftovers = [str(path) for path in runs.rglob("*") if ".tmp" in path.name or path.name == "checkpoint.pt"]
        if leftovers:
            sys.exit(f"left behind: {', '.join(leftovers)}")
        print(f"round {rounds}: {sum(counts.values())} kills so far, same numbers", flush=True)
    done = ", ".join(f"{count} of {kind}" for kind, count in counts.items())
    print(f"{sum(counts.values())} kills ({done}) over {rounds} studies; after {lost_time} of them nothing new was")
    print("finished. No finished run or analysis was lost, none was corrupt, every study ended with the same numbers.")
    shutil.rmtree(folder)
    if sum(counts.values()) < kills:
        sys.exit(f"out of time: {sum(counts.values())} of {kills} kills")


if __name__ == "__main__":
    soak(*(int(word) for word in (sys.argv[1:] + ["100", "30"][len(sys.argv) - 1 :])))
