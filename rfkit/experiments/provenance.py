"""How a number was made: code, versions, device, time and memory. No host name."""

import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from rfkit import __version__


class Clock:
    """Started before a computation, to record the code it began with (`commit` if it goes on) and its memory."""

    def __init__(self, source=None, commit=None):
        self.source, self.start = source, time.perf_counter()
        self.commit = commit or git_state()
        self._own_peak = _reset_peak()

    def stop(self, device, seconds=None):
        """Provenance of what was computed since the start, as a JSON-able mapping."""
        import torch

        device = torch.device(device)
        seconds = time.perf_counter() - self.start if seconds is None else seconds
        versions = {name: version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")}
        about = {
            "commit": self.commit[0], "uncommitted_changes": self.commit[1],
            "versions": {"rfkit": __version__, "python": platform.python_version()} | versions,
            "system": platform.system(), "processor": processor(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads(),
            "wall_seconds": round(seconds, 2), "peak_memory_mib": _peak_mib() if self._own_peak else None,
        }  # fmt: skip
        if self.source is None:
            return about
        return about | {"data": {"name": self.source.name, "label": self.source.label, "sha256": self.source.sha256}}


def processor():
    """Name of the processor as its maker gives it, or None."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    vendor, name, family, model = map(fields.get, ("vendor_id", "model name", "cpu family", "model"))
    return f"{name or vendor} (family {family}, model {model})" if name or vendor else None


def git_state():
    """Commit of this source tree, and whether it has uncommitted changes."""
    try:
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", ".."))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(*words):
    done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _reset_peak():
    """Begin to count this process's peak memory anew; whether that is possible here (Linux)."""
    try:
        return bool(Path("/proc/self/clear_refs").write_text("5"))
    except OSError:
        return False


def _peak_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**10)
