"""Results that need no run: found in the store or among the records, made, and recorded."""

from dataclasses import dataclass, field
from pathlib import Path

from rfkit.config import ConfigError
from rfkit.data import PUBLISHED
from rfkit.experiments import store
from rfkit.experiments.finding import command, is_here, load, records_of
from rfkit.experiments.registry import ANALYSES


class TooLongError(RuntimeError):
    """Something is missing and would take longer than allowed; the message holds the command to make it."""


@dataclass(frozen=True)
class Request:
    """One result of an analysis that needs no run."""

    analysis: str  #: Its name.
    settings: dict = field(hash=False)  #: What is computed.
    dataset: str | None = None  #: As in `rfkit.data.load`; None for an analysis without a data set.

    def __str__(self):
        about = (self.settings.get(name) for name in ("architecture", "network", "variant", "level"))
        return " ".join(str(word) for word in (self.analysis, *about) if word is not None)

    def folder(self, root, source=None):
        """Folder of the result under a store or a folder of records, for a `rfkit.data.Source`."""
        data = f"-{source.name}-{source.sha256[:6]}" if source else ""
        return Path(root) / "analysis" / f"{self.analysis}-{store.key_of(self.settings)}{data}"

    def stored(self, root, preset):
        """(folder, result) of every stored result under a folder; a `ConfigError` if one is of other settings."""
        for folder in sorted((root / "analysis").glob(f"{self.folder(root).name}*")):
            result = store.read_result(folder, self.settings)
            if result is not None and self._fits(result, preset):
                yield folder, result

    def find(self, preset, root=None):
        """The first stored result, of the store or the records, or None."""
        roots = (store.Store(root).root, records_of(preset))
        return next((result for each in roots for _, result in self.stored(each, preset)), None)

    def _fits(self, stored, preset):
        """Whether a result is of the data set, or of a known copy of one of the paper's."""
        if self.dataset is None:
            return True
        data = stored["provenance"]["data"]
        if self.dataset in PUBLISHED:
            return data["name"] in (self.dataset, PUBLISHED[self.dataset].copy)
        return data["sha256"] == load(self.dataset, preset.image_limit).source.sha256


def requests(name, preset, settings=None):
    """What an analysis that needs no run computes for a preset, a list of `Request`.

    A list of (settings, data set) may stand for the analysis's own settings for the preset.
    """
    wanted = ANALYSES[name].settings(preset) if settings is None else settings
    cut = {"image_limit": list(preset.image_limit)} if preset.image_limit else {}  # other images, other numbers
    return [Request(name, each | (cut if dataset else {}), dataset) for each, dataset in wanted]


def measured(name, preset, settings=None, *, root=None):
    """Those results of `requests` that are there already, a list of mappings as `measure` returns."""
    found = [request.find(preset, root) for request in requests(name, preset, settings)]
    return [each for each in found if each is not None]


def check_minutes(max_minutes):
    """Refuse a limit that is no number."""
    if isinstance(max_minutes, bool) or not isinstance(max_minutes, int | float):
        raise ConfigError(f"max_minutes is {max_minutes!r}; expected a number of minutes, such as 10")


def measure(name, preset, settings=None, *, max_minutes=None, jobs=None, root=None, device=None, progress=False):
    """Results of `requests`: found, or computed by `jobs` processes (by default one per core) and stored.

    Returns:
        List of mappings: ``settings``, ``provenance``, ``values``.

    Raises:
        TooLongError: If what is missing would be downloaded, or take longer than `max_minutes` by the estimate of the
            analysis; names the command to run. ``None`` for no limit.
        RuntimeError: If a computation fails.
    """
    if max_minutes is not None:
        check_minutes(max_minutes)
    wanted = requests(name, preset, settings)
    missing = [request for request in wanted if request.find(preset, root) is None]
    if missing:
        from rfkit.experiments import runner  # only now: what is recorded does not wait for torch

        if max_minutes is not None:
            _refuse_long(missing, len(wanted), preset, max_minutes, runner.processes(jobs, device, len(missing)))
        options = {"jobs": jobs, "root": root, "device": device, "image_limit": preset.image_limit}
        runner.make(missing, progress=progress, **options)
    return [request.find(preset, root) for request in wanted]


def follow(recipes, preset, *, make=True):
    """The results of recipes of question 4 on a preset's first data set, each with the recipe's ``name``.

    What is missing is trained if `make`, else left out, and it is said how to train it.
    """
    found = []
    for recipe in recipes:
        settings = ANALYSES["recipe"].settings(preset, [recipe])
        results = (measure if make else measured)("recipe", preset, settings)
        if not results:
            chosen = f"{preset.name} --datasets {preset.datasets[0]} --analyses recipe"
            print(f"{recipe['name']!r} is not recorded; run: rfkit study {chosen}")
        found += [each | {"name": recipe["name"]} for each in results]
    return found


def _refuse_long(missing, count, preset, max_minutes, jobs):
    absent = sorted({each.dataset for each in missing if each.dataset and not is_here(each.dataset)})
    name, seconds = missing[0].analysis, 0
    for each in missing if not absent else ():
        data = load(each.dataset, preset.image_limit) if each.dataset else None
        seconds += ANALYSES[name].cost(each.settings, data)
    minutes = seconds / 60 / jobs
    if absent or minutes > max_minutes:
        takes = f"{', '.join(absent)} would be downloaded" if absent else f"they take about {minutes:.0f} minutes here"
        planned = [each.settings for each in requests(name, preset)]
        own = not all(each.settings in planned for each in missing)
        way = "Give a larger max_minutes" if own else f"Run: rfkit study {command(preset)} --analyses {name}"
        raise TooLongError(
            f"{len(missing)} of {count} results of {name!r} of preset {preset.name!r} are missing; {takes} "
            f"(max_minutes={max_minutes}). {way}"
        )


def record_results(name, preset, *, root=None):
    """Copy those results of an analysis that the store has to where records are committed; returns their number."""
    here = [folder for each in requests(name, preset) for folder, _ in each.stored(store.Store(root).root, preset)]
    for folder in here:
        store.record_result(folder, records_of(preset) / "analysis" / folder.name)
    return len(here)
