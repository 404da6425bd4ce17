"""The claims ledger: every claim of the paper as a test on records, with a verdict."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pandas as pd

from rfkit import experiments, stats
from rfkit.outcomes import ALPHA
from rfkit.presets import FINE_TUNED_RATE, MARGIN_POINTS, PAPER_RATES
from rfkit.tables import ARCHITECTURE_LABELS, from_to

SUPPORTED, CONTRADICTED, UNDECIDED = "supported", "contradicted", "undecided"
CLAIMS = {
    "C1": "dense accuracy falls as the field grows",
    "C2": "larger fields prune better: the breaking point rises",
    "C3": "the gap between dense and pruned accuracy at rate 0.9 shrinks as the field grows",
    "C4": "pruned accuracy at 0.9 rises with the field, the reverse of dense accuracy",
    "C5": "the trend of the gap needs rates above 0.8",
    "C6": "after fine-tuning at 0.9 the gap shrinks as the field grows",
    "C7": "spectra at initialisation are wider for larger fields: the largest eigenvalue rises",
    "C8": "deep layers of two seeds grow less similar as the field grows",
    "C9": "it generalises over all combinations of network and data set (C1 and C2)",
    "C10": "sharper landscapes go with less similar features and with more robustness to pruning",
    "E1": "no larger field loses more by pruning than the next smaller one",
    "E2": "every mean is over five networks",
    "E3": "the projected gradient at initialisation falls as the field grows: the true gradient",
    "E4": "the pattern of the projected gradient keeps its shape: as the paper computes it",
    "E5": "every receptive field has the same number of weights",
    "E6": "the projected gradient at initialisation falls as the field grows: as the paper computes it",
    "E7": "the pattern of the projected gradient keeps its shape: the true gradient",
    "E8": "pruned accuracy rises with the field at rates above 0.8 only: the other reading of C5",
}
"""C: confirmatory, fixed before the results. E: looked at as well, outside the corrected family."""

ALIKE, UNLIKE = 0.9, 0.5
"""Cosines of patterns above and below which E4 and E7 count as supported and as contradicted."""
FALLS = {"E3": "true", "E6": "linearised"}
KEEPS_SHAPE = {"E4": "linearised", "E7": "true"}
"""Claims by the definition of the projected gradient, as in `rfkit.experiments.DEFINITIONS`."""


@dataclass(frozen=True)
class Verdict:
    """What one claim came to in one combination."""

    claim: str  #: Key of `CLAIMS`.
    dataset: str  #: ``cifar10`` or ``tiny_imagenet``; empty for all.
    architecture: str  #: Network; empty for all.
    #: Whether the data lie in the claimed direction; None if they lie nowhere, or the verdict is by no test.
    towards: bool | None
    p: float | None  #: Two-sided p-value before correction; None where the verdict is not by a test.
    smallest_p: float | None  #: Smallest p-value this number of seeds can reach.
    effect: str  #: Size of the effect, in words.
    test: str  #: The test.
    verdict: str = UNDECIDED  #: Set by `judge` where there is a p-value.
    p_holm: float | None = None  #: p-value corrected over the family.


def _values(evidence, dataset, architecture, outcome, *, floor_rate=None, table=None):
    """One column per level; one row per seed that has them all, or networks that are no pairs."""
    table = evidence.runs if table is None else table
    if outcome not in table:
        return pd.DataFrame()
    part = table[(table["paper_dataset"] == dataset) & (table["architecture"] == architecture)]
    part = part[part[outcome].notna()]
    floored = part["rf_level"].isin(_at_floor(evidence, dataset, architecture, floor_rate))
    if floored.any():
        ends = part.loc[floored, outcome]
        part = part.assign(**{outcome: part[outcome].mask(floored, ends.max() if "gap" in outcome else ends.min())})
    if evidence.paired:
        return part.pivot(index="seed", columns="rf_level", values=outcome).dropna(axis=1, how="all").dropna()
    return pd.DataFrame({level: cell[outcome].reset_index(drop=True) for level, cell in part.groupby("rf_level")})


def _at_floor(evidence, dataset, architecture, rate):
    return sorted(level for d, a, level, r in evidence.floors if (d, a, r) == (dataset, architecture, rate))


def _columns(values):
    """{level: values}, without the gaps that networks without pairs leave."""
    return {level: list(column.dropna()) for level, column in values.items()}


def _trend(values, falling, paired=True):
    """(towards, two-sided p, smallest p, effect, test) of the test of a trend; None where there is none to test."""
    seeds, levels = values.shape
    if levels < 3 or not seeds:
        return None
    means = values.mean()
    effect = from_to(means.iloc[0], means.iloc[-1])
    if seeds < 2:
        towards = None if means.iloc[0] == means.iloc[-1] else bool((means.iloc[-1] < means.iloc[0]) == falling)
        return towards, None, None, effect, "one seed: not tested"
    if paired:
        test, data, count = stats.page_trend, values.to_numpy(), f"Page, {seeds} seeds"
    else:
        groups = list(_columns(values).values())
        test, data, count = stats.jonckheere_trend, groups, f"Jonckheere, {sum(map(len, groups))} networks"
    (claimed, smallest), (opposite, _) = test(data, falling=falling), test(data, falling=not falling)
    named = f"{count}, levels {', '.join(map(str, means.index))}"
    return claimed <= opposite, min(1.0, 2 * min(claimed, opposite)), min(1.0, 2 * smallest), effect, named


def _ordered(claim, outcome, falling, floor_rate=None, table=None):
    def test(evidence, *cell):
        if table and getattr(evidence, table) is None:
            return None
        source = getattr(evidence, table) if table else None
        found = _trend_of(evidence, cell, outcome, falling, floor_rate, source)
        return found and Verdict(claim, *cell, *found)

    return test


def _trend_of(evidence, cell, outcome, falling, floor_rate=None, table=None):
    """The trend of an outcome; levels at chance are tied and named, and the effect is what was measured."""
    values = _values(evidence, *cell, outcome, floor_rate=floor_rate, table=table)
    found, levels = _trend(values, falling, evidence.paired), _at_floor(evidence, *cell, floor_rate)
    if not found or not levels:
        return found
    measured = _values(evidence, *cell, outcome, table=table).mean()
    effect = from_to(measured.iloc[0], measured.iloc[-1])
    return (*found[:3], effect, f"{found[4]}; at chance, tied: {', '.join(map(str, levels))}")


def _reversed_order(evidence, dataset, architecture):
    dense = _trend_of(evidence, (dataset, architecture), "dense", True)
    pruned = _trend_of(evidence, (dataset, architecture), "pruned_0.9", False, 0.9)
    if not dense or not pruned:
        return None
    if dense[1] is None or pruned[1] is None:
        return Verdict("C4", dataset, architecture, bool(dense[0] and pruned[0]), *pruned[1:])
    if dense[0] and pruned[0]:  # both must hold: the weaker one counts
        return Verdict("C4", dataset, architecture, True, *max((dense, pruned), key=lambda trend: trend[1])[1:])
    worse = min((trend for trend in (dense, pruned) if not trend[0]), key=lambda trend: trend[1])
    return Verdict("C4", dataset, architecture, False, min(1.0, 2 * worse[1]), *worse[2:])  # two were looked at


def _only_above(evidence, dataset, architecture):
    """C5: a falling gap at a rate up to 0.8 contradicts; no difference there and one at 0.9 supports."""
    gaps = {rate: _values(evidence, dataset, architecture, f"gap_{rate}", floor_rate=rate) for rate in PAPER_RATES}
    trends = {rate: _trend_of(evidence, (dataset, architecture), f"gap_{rate}", True, rate) for rate in PAPER_RATES}
    above = trends.pop(0.9)
    tested = {rate: trend for rate, trend in trends.items() if trend}
    if not tested:
        return None
    if any(trend[1] is None for trend in tested.values()):
        return Verdict("C5", dataset, architecture, None, None, None, "no test up to 0.8", "one seed: not tested")
    smallest = min(1.0, len(tested) * min(trend[2] for trend in tested.values()))  # Bonferroni inside
    falls = {rate: trend[1] * len(tested) for rate, trend in tested.items() if trend[0]}
    if falls and min(falls.values()) < ALPHA:
        rate = min(falls, key=falls.get)
        effect = f"gap at {rate:g}: {tested[rate][3]}"
        return Verdict("C5", dataset, architecture, False, min(1.0, falls[rate]), smallest, effect, tested[rate][4])
    ends = [[column for column in _columns(gaps[rate]).values()] for rate in tested]
    if not above or not above[0] or min(len(column) for each in ends for column in (each[0], each[-1])) < 2:
        test = next(iter(tested.values()))[4].partition(",")[0]
        return Verdict("C5", dataset, architecture, None, 1.0, smallest, "no significant trend up to 0.8", test)
    none = [stats.equivalence(each[0], each[-1], MARGIN_POINTS, paired=evidence.paired) for each in ends]
    test = f"{above[4].partition(',')[0]} at 0.9, TOST ±{MARGIN_POINTS:g} points below"
    return Verdict("C5", dataset, architecture, True, max(above[1], *none), smallest, above[3], test)


def _reversed_above(evidence, dataset, architecture):
    """E8: pruned accuracy rises with the field at 0.9; a rise at a rate up to 0.8 contradicts."""
    trends = {rate: _trend_of(evidence, (dataset, architecture), f"pruned_{rate}", False, rate) for rate in PAPER_RATES}
    above = trends.pop(0.9)
    below = {rate: trend for rate, trend in trends.items() if trend}
    if not above or not below:
        return None
    words = f"at 0.9: {above[3]}; at {max(below):g}: {below[max(below)][3]}"
    if above[1] is None:
        return Verdict("E8", dataset, architecture, None, None, None, words, "one seed: not tested")
    early = [rate for rate, trend in below.items() if trend[0] and trend[1] * len(below) < ALPHA]
    late = bool(above[0]) and above[1] < ALPHA and not any(trend[0] for trend in below.values())
    verdict = CONTRADICTED if early else SUPPORTED if late else UNDECIDED
    if early:
        words = f"rises at {early[0]:g} already: {below[early[0]][3]}"
    test = f"{above[4].partition(',')[0]} at every rate"
    return Verdict("E8", dataset, architecture, None, None, None, words, test, verdict)


def _steps(evidence, dataset, architecture):
    """E1, on the gap at every rate and after fine-tuning."""
    cells = {}
    for outcome, rate in (*((f"gap_{rate}", rate) for rate in PAPER_RATES), ("gap_tuned", None)):
        values = _values(evidence, dataset, architecture, outcome, floor_rate=rate)
        if len(values) > 1:
            cells[rate] = {level: column for level, column in _columns(values).items() if len(column) > 1}
    if not any(len(cell) > 1 for cell in cells.values()):
        return None
    interval, kind = (stats.paired_interval, "paired") if evidence.paired else (_welch, "Welch")
    return of_steps(dataset, architecture, cells, interval, lambda values: stats.mean_std(values)[0], kind)


def _welch(a, b, level):
    return stats.welch_interval(*stats.mean_std(a), len(a), *stats.mean_std(b), len(b), level)


def of_steps(dataset, architecture, cells, interval, mean, kind):
    """The verdict on E1: each step from level to level, and the whole way, at every rate."""
    against, shrinks = [], False
    for rate, values in cells.items():
        levels = list(values)
        if len(levels) < 2:
            continue
        for a, b in [*itertools.pairwise(levels), (levels[0], levels[-1])]:
            low, high = interval(values[a], values[b], 1 - ALPHA / (6 * len(levels)))
            if low > 0:
                where = f"{FINE_TUNED_RATE:g}, fine-tuned" if rate is None else f"{rate:g}"
                against.append(f"level {a} to {b} at {where}: +{mean(values[b]) - mean(values[a]):.3g}")
            shrinks |= high < 0
    verdict = CONTRADICTED if against else SUPPORTED if shrinks else UNDECIDED
    effect = "; ".join(against[:3]) or ("falls, no step against it" if shrinks else "no step beyond its interval")
    return Verdict("E1", dataset, architecture, None, None, None, effect, f"{kind} intervals", verdict)


def _everywhere(verdicts):
    needed = [v for v in verdicts if v.claim in ("C1", "C2")]
    if not needed:
        return []
    kinds = {v.verdict for v in needed}
    cells = {(v.dataset, v.architecture) for v in needed}
    datasets, networks = ({cell[i] for cell in cells} for i in (0, 1))
    whole = min(len(datasets), len(networks)) > 1 and len(needed) == 2 * len(datasets) * len(networks)
    verdict = CONTRADICTED if CONTRADICTED in kinds else SUPPORTED if kinds == {SUPPORTED} and whole else UNDECIDED
    held = sum(v.verdict == SUPPORTED for v in needed)
    return [Verdict("C9", "", "", None, None, None, f"{held} of {len(needed)} supported", "C1 and C2", verdict)]


def _projection(evidence):
    for claim, definition in FALLS.items():
        for name, maxima in evidence.maxima.get(definition, {}).items():
            found = _trend(pd.DataFrame(maxima), True)
            if found:
                yield Verdict(claim, "", name, *found[:4], "Page, networks as blocks")
    for claim, definition in KEEPS_SHAPE.items():
        for name, shapes in evidence.shapes.get(definition, {}).items():
            least = min(shapes.values())
            verdict = SUPPORTED if least > ALIKE else CONTRADICTED if least < UNLIKE else UNDECIDED
            effect = f"cosine with the first level at least {least:.2f}"
            yield Verdict(claim, "", name, None, None, None, effect, "mean patterns, moved to fit", verdict)


def _counted(evidence):
    """E2 and E5: counting, not testing."""
    if evidence.not_five is not None:
        short = evidence.not_five
        verdict = CONTRADICTED if len(short) else SUPPORTED
        effect = f"{len(short)} cells of Tables {', '.join(map(str, sorted(set(short['table']))))} have other numbers"
        yield Verdict("E2", "", "", not len(short), None, None, effect, "count", verdict)
    for (dataset, name), counts in evidence.parameters.items():
        verdict = SUPPORTED if len(set(counts.values())) == 1 else CONTRADICTED
        effect = ", ".join(f"{count:,}" for count in sorted(set(counts.values())))
        yield Verdict("E5", dataset, name, verdict == SUPPORTED, None, None, effect, "count", verdict)


def _across_cells(evidence):
    """C10: over the cells of one network, top eigenvalue against deep similarity and against the breaking point."""
    table = evidence.runs
    if evidence.pairs is None or "top_eigenvalue" not in table:
        return
    means = table.groupby(experiments.CELL)[["top_eigenvalue", "breaking_point"]].mean()
    means = means.join(evidence.pairs.groupby(experiments.CELL)["deep_similarity"].mean()).dropna()
    for name, cells in means.groupby("architecture"):
        if len(cells) < 4:
            continue
        features, p_features, smallest = stats.rank_correlation(cells["top_eigenvalue"], cells["deep_similarity"])
        robust, p_robust, _ = stats.rank_correlation(cells["top_eigenvalue"], cells["breaking_point"])
        if math.isfinite(features + robust):  # else one of them does not vary over the cells
            effect = f"ρ = {features:+.2f} with similarity, {robust:+.2f} with the breaking point"
            test = f"Spearman over {len(cells)} cells"
            yield Verdict("C10", "", name, features < 0 < robust, max(p_features, p_robust), smallest, effect, test)


_TESTS: tuple[Callable, ...] = (
    _ordered("C1", "dense", True),
    _ordered("C2", "breaking_point", False),
    _ordered("C3", "gap_0.9", True, floor_rate=0.9),
    _reversed_order,
    _only_above,
    _ordered("C6", "gap_tuned", True),
    _ordered("C7", "top_eigenvalue_init", False),
    _ordered("C8", "deep_similarity", True, table="pairs"),
    _steps,
    _reversed_above,
)


def judge(evidence):
    """Test every claim on some evidence."""
    cells = evidence.runs[["paper_dataset", "architecture"]].drop_duplicates() if len(evidence.runs) else pd.DataFrame()
    found = [test(evidence, *cell) for test in _TESTS for cell in cells.itertuples(index=False)]
    found = [v for v in found if v] + [*_projection(evidence), *_counted(evidence), *_across_cells(evidence)]
    family = [v for v in found if v.claim.startswith("C") and v.p is not None]
    corrected = dict(zip(map(id, family), stats.holm([v.p for v in family]), strict=True))
    judged = []
    for v in found:
        p = corrected.get(id(v), v.p)
        if p is not None:
            sure = p < ALPHA and v.towards is not None
            v = replace(
                v,
                p_holm=corrected.get(id(v)),
                verdict=(SUPPORTED if v.towards else CONTRADICTED) if sure else UNDECIDED,
            )
        judged.append(v)
    return in_order(judged + _everywhere(judged))


def in_order(verdicts):
    """Verdicts in the order of the ledger."""
    place = {name: i for i, name in enumerate(ARCHITECTURE_LABELS)}.get
    return sorted(verdicts, key=lambda v: (v.claim[0], int(v.claim[1:]), v.dataset, place(v.architecture, 9)))
