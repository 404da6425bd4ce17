"""What an analysis is: one file each says its name, settings, computation, cost and frame."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NEEDS = ("run", "pair", "network")


@dataclass(frozen=True)
class Analysis:
    """One kind of measurement, from its settings to the tidy frame it is read into.

    Attributes:
        name: Unique; part of the folder of every result.
        needs: ``"run"``, a trained network; ``"pair"``, two seeds of one; ``"network"``, one that the analysis makes
            itself, so that nothing is trained for it.
        settings: What is computed: of (preset, unit) a mapping, or None where the preset does not plan it; for
            ``"network"`` of (preset) a list of (mapping, data set or None). Settings are hashed into the folder of the
            result, except ``rates``: a curve of more rates serves where fewer are asked for.
        compute: Of (subject, settings, `Work`) the result: a mapping of JSON-able values and numpy arrays. The
            subject is a `Run`, a pair of them, or None.
        frame: Of finished runs (or of stored results, for ``"network"``) a tidy data frame.
        cost: Of (settings, unit) the work, in training steps on one image; for ``"network"`` of (settings, data) the
            seconds on one core. Nothing to speak of by default.
        planned: Whether a study makes it unless other analyses are named.
        on_cpu: Whether it computes on the CPU wherever the networks were trained.
    """

    name: str
    needs: str
    settings: Callable
    compute: Callable
    frame: Callable
    cost: Callable = lambda settings, unit: 0
    planned: bool = True
    on_cpu: bool = False

    def __post_init__(self):
        """Check what it needs."""
        if self.needs not in NEEDS:
            raise ValueError(f"analysis {self.name!r} needs {self.needs!r}; expected one of {', '.join(NEEDS)}")


@dataclass(frozen=True)
class Work:
    """What a computation is given beside its subject and settings.

    Attributes:
        data: `rfkit.data.ImageData`, or None for an analysis without a data set.
        device: `torch.device`.
        scratch: Folder for checkpoints of long computations; removed when the result is stored.
        progress: Whether to show bars.
    """

    data: Any
    device: Any
    scratch: Path
    progress: bool = False
