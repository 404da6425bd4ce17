"""The claims ledger: every claim of the paper as a test on records, with a verdict."""

import itertools
import math
from dataclasses import dataclass, replace

import pandas as pd

from rfkit import experiments, stats
from rfkit.outcomes import ALPHA
from rfkit.presets import FINE_TUNED_RATE, MARGIN_POINTS, PAPER_RATES
from rfkit.tables import ARCHITECTURE_LABELS, from_to, listed

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
    "E1": "pruning costs less with a larger field, and no step to one makes it cost significantly more",
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
"""E4 and E7 are supported by cosines above the first, and contradicted by cosines below the second."""
FALLS = {"E3": "true", "E6": "linearised"}
KEEPS_SHAPE = {"E4": "linearised", "E7": "true"}
"""Claims by the definition of the projected gradient, as in `rfkit.experiments.DEFINITIONS`."""


TRENDS = {
    "C1": ("dense", True), "C2": ("breaking_point", False), "C3": ("gap_0.9", True, 0.9), "C6": ("gap_tuned", True),
    "C7": ("top_eigenvalue_init", False), "C8": ("deep_similarity", True),
}  # fmt: skip
"""Claims that are a trend: in which outcome, whether it falls, and the rate at which levels may be at chance."""


@dataclass(frozen=True)
class Verdict:
    """What one claim came to in one combination."""

    claim: str  #: Key of `CLAIMS`.
    dataset: str  #: ``cifar10`` or ``tiny_imagenet``; empty for all.
    architecture: str  #: Network; empty for all.
    #: Whether the data lie in the claimed direction; None if in neither, or if the verdict is by no test.
    towards: bool | None = None
    p: float | None = None  #: Two-sided p-value before correction; None where the verdict is not by a test.
    smallest_p: float | None = None  #: Smallest p-value this number of seeds can reach.
    effect: str = ""  #: Size of the effect, in words.
    test: str = ""  #: The test.
    verdict: str = UNDECIDED  #: Set by `judge` where there is a p-value.
    p_holm: float | None = None  #: p-value corrected over the family.


def _values(evidence, dataset, architecture, outcome, floor_rate=None):
    """One column per level; one row per seed that has them all, or per network where seeds pair nothing."""
    table = evidence.pairs if outcome == "deep_similarity" else evidence.runs
    if table is None or outcome not in table:
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


def _trend(claim, cell, values, falling, paired=True):
    """The test of a trend over levels; None where there is none to test."""
    seeds, levels = values.shape
    if levels < 3 or not seeds:
        return None
    first, last = values.mean().iloc[[0, -1]]
    if seeds < 2:
        towards = None if first == last else bool((last < first) == falling)
        return Verdict(claim, *cell, towards, effect=from_to(first, last), test="one seed: not tested")
    if paired:
        blocks = "pairs of seeds" if claim == "C8" else "seeds"
        test, data, count = stats.page_trend, values.to_numpy(), f"Page, {seeds} {blocks}"
    else:
        groups = list(_columns(values).values())
        test, data, count = stats.jonckheere_trend, groups, f"Jonckheere, {sum(map(len, groups))} networks"
    (claimed, smallest), (opposite, _) = test(data, falling=falling), test(data, falling=not falling)
    p_values = min(1.0, 2 * min(claimed, opposite)), min(1.0, 2 * smallest)
    named = f"{count}, levels {listed([int(level) for level in values])}"
    return Verdict(claim, *cell, claimed <= opposite, *p_values, from_to(first, last), named)


def _trend_of(evidence, claim, cell, outcome, falling, floor_rate=None):
    """The trend of an outcome; levels at chance are tied and named, and the effect is what was measured."""
    found = _trend(claim, cell, _values(evidence, *cell, outcome, floor_rate), falling, evidence.paired)
    levels = _at_floor(evidence, *cell, floor_rate)
    if not found or not levels:
        return found
    first, last = _values(evidence, *cell, outcome).mean().iloc[[0, -1]]
    test = f"{found.test}; at chance, tied: {listed(levels)}"
    return replace(found, effect=from_to(first, last), test=test)


def _reversed_order(evidence, cell):
    """C4: dense accuracy falls and pruned accuracy at 0.9 rises."""
    dense = _trend_of(evidence, "C4", cell, "dense", True)
    pruned = _trend_of(evidence, "C4", cell, "pruned_0.9", False, 0.9)
    if not dense or not pruned:
        return None
    if dense.p is None or pruned.p is None:
        return replace(pruned, towards=bool(dense.towards and pruned.towards))
    if dense.towards and pruned.towards:  # both must hold: the weaker one counts
        return max(dense, pruned, key=lambda trend: trend.p)
    worse = min((trend for trend in (dense, pruned) if not trend.towards), key=lambda trend: trend.p)
    return replace(worse, p=min(1.0, 2 * worse.p))  # two were looked at


def _only_above(evidence, cell):
    """C5: a falling gap at a rate up to 0.8 contradicts; no difference there and one at 0.9 supports."""
    trends = {rate: _trend_of(evidence, "C5", cell, f"gap_{rate}", True, rate) for rate in PAPER_RATES}
    above = trends.pop(0.9)
    tested = {rate: trend for rate, trend in trends.items() if trend}
    if not tested:
        return None
    if any(trend.p is None for trend in tested.values()):
        return Verdict("C5", *cell, effect="no test up to 0.8", test="one seed: not tested")
    smallest = min(1.0, len(tested) * min(trend.smallest_p for trend in tested.values()))  # Bonferroni inside
    rate = min(tested, key=lambda rate: tested[rate].p if tested[rate].towards else math.inf)
    lowest = tested[rate]
    if lowest.towards and lowest.p * len(tested) < ALPHA:
        effect = f"gap at {rate:g}: {lowest.effect}"
        return replace(lowest, towards=False, p=lowest.p * len(tested), smallest_p=smallest, effect=effect)
    ends = [list(_columns(_values(evidence, *cell, f"gap_{rate}", rate)).values()) for rate in tested]
    if not above or not above.towards or min(len(column) for each in ends for column in (each[0], each[-1])) < 2:
        test = lowest.test.partition(",")[0]
        return Verdict("C5", *cell, None, 1.0, smallest, "no significant trend up to 0.8", test)
    none = [stats.equivalence(each[0], each[-1], MARGIN_POINTS, paired=evidence.paired) for each in ends]
    test = f"{above.test.partition(',')[0]} at 0.9, TOST ±{MARGIN_POINTS:g} points below"
    return replace(above, p=max(above.p, *none), smallest_p=smallest, test=test)


def _reversed_above(evidence, cell):
    trends = {rate: _trend_of(evidence, "E8", cell, f"pruned_{rate}", False, rate) for rate in PAPER_RATES}
    tested = {rate: trend for rate, trend in trends.items() if trend and trend.towards and trend.p is not None}
    below = sum(trend is not None for trend in trends.values()) - 1
    for rate, trend in tested.items():
        if trend.p * (1 if rate == 0.9 else below) < ALPHA:
            trends[rate] = replace(trend, verdict=SUPPORTED)
    return reversed_above(trends)


def reversed_above(trends):
    """E8, from a verdict a rate: pruned accuracy rises with the field at 0.9, and does not at lower rates."""
    above, below = trends.pop(0.9), {rate: trend for rate, trend in trends.items() if trend}
    if not above or not below:
        return None
    early = [rate for rate, trend in below.items() if trend.verdict == SUPPORTED]
    late = above.verdict == SUPPORTED and not any(trend.towards for trend in below.values())
    effect = f"at 0.9: {above.effect}; at {max(below):g}: {below[max(below)].effect}"
    if early:
        effect = f"rises at {early[0]:g} already: {below[early[0]].effect}"
    test, several, _ = above.test.partition(",")
    verdict = CONTRADICTED if early else SUPPORTED if late else UNDECIDED
    test += " at every rate" if several else ""
    return Verdict("E8", above.dataset, above.architecture, effect=effect, test=test, verdict=verdict)


def _steps(evidence, cell):
    """E1, on the gap at every rate and after fine-tuning."""
    found = {}
    for outcome, rate in (*((f"gap_{rate}", rate) for rate in PAPER_RATES), ("gap_tuned", None)):
        values = _values(evidence, *cell, outcome, rate)
        if len(values) > 1:
            found[rate] = {level: column for level, column in _columns(values).items() if len(column) > 1}
    if not any(len(levels) > 1 for levels in found.values()):
        return None
    if evidence.paired:
        return of_steps(cell, found, stats.paired_interval, "paired")
    about = {rate: {lv: (*stats.mean_std(each), len(each)) for lv, each in found[rate].items()} for rate in found}
    return of_steps(cell, about, stats.welch_interval, "Welch")


def of_steps(cell, found, interval, kind):
    """The verdict on E1: each step from level to level, and the whole way, at every rate."""
    against, shrinks = [], False
    for rate, values in found.items():
        levels = list(values)
        for a, b in dict.fromkeys([*itertools.pairwise(levels), (levels[0], levels[-1])]) if len(levels) > 1 else ():
            low, high = interval(values[a], values[b], 1 - ALPHA / (6 * len(levels)))
            if low > 0:
                where = f"{FINE_TUNED_RATE:g}, fine-tuned" if rate is None else f"{rate:g}"
                against.append(f"level {a} to {b} at {where}: +{(low + high) / 2:.3g}")
            shrinks |= high < 0
    verdict = CONTRADICTED if against else SUPPORTED if shrinks else UNDECIDED
    effect = "; ".join(against[:3]) or (
        "falls; no step rises beyond its interval" if shrinks else "no step beyond its interval"
    )
    return Verdict("E1", *cell, effect=effect, test=f"{kind} intervals", verdict=verdict)


def _everywhere(verdicts):
    needed = [v for v in verdicts if v.claim in ("C1", "C2")]
    if not needed:
        return []
    kinds = {v.verdict for v in needed}
    datasets, networks = {v.dataset for v in needed}, {v.architecture for v in needed}
    whole = min(len(datasets), len(networks)) > 1 and len(needed) == 2 * len(datasets) * len(networks)
    verdict = CONTRADICTED if CONTRADICTED in kinds else SUPPORTED if kinds == {SUPPORTED} and whole else UNDECIDED
    effect = f"{sum(v.verdict == SUPPORTED for v in needed)} of {len(needed)} supported"
    return [Verdict("C9", "", "", effect=effect, test="C1 and C2", verdict=verdict)]


def _projection(evidence):
    for claim, definition in FALLS.items():
        for name, maxima in evidence.maxima.get(definition, {}).items():
            found = _trend(claim, ("", name), pd.DataFrame(maxima), True)
            if found:
                yield replace(found, test="Page, networks as blocks")
    for claim, definition in KEEPS_SHAPE.items():
        for name, shapes in evidence.shapes.get(definition, {}).items():
            least = min(shapes.values())
            verdict = SUPPORTED if least > ALIKE else CONTRADICTED if least < UNLIKE else UNDECIDED
            effect = f"cosine with the first level at least {least:.2f}"
            yield Verdict(claim, "", name, effect=effect, test="mean patterns, moved to fit", verdict=verdict)


def _counted(evidence):
    """E2 and E5: counting, not testing."""
    if evidence.not_five is not None:
        short = sorted(set(evidence.not_five["table"]))
        effect = f"{len(evidence.not_five)} cells of Tables {', '.join(map(str, short))} have other numbers"
        yield Verdict("E2", "", "", effect=effect, test="count", verdict=CONTRADICTED if short else SUPPORTED)
    for cell, counts in evidence.parameters.items():
        sizes = sorted(set(counts.values()))
        effect = ", ".join(f"{count:,}" for count in sizes)
        yield Verdict("E5", *cell, effect=effect, test="count", verdict=CONTRADICTED if sizes[1:] else SUPPORTED)


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


def judge(evidence):
    """Test every claim on some evidence."""
    found = []
    cells = evidence.runs[["paper_dataset", "architecture"]].drop_duplicates()
    for cell in cells.itertuples(index=False):
        found += [_trend_of(evidence, claim, cell, *asked) for claim, asked in TRENDS.items()]
        found += [test(evidence, cell) for test in (_reversed_order, _only_above, _steps, _reversed_above)]
    found = [v for v in found if v] + [*_projection(evidence), *_counted(evidence), *_across_cells(evidence)]
    family = [v for v in found if v.claim.startswith("C") and v.p is not None]
    corrected = dict(zip(map(id, family), stats.holm([v.p for v in family]), strict=True))
    judged = []
    for v in found:
        p = corrected.get(id(v), v.p)
        if p is not None:
            decided = SUPPORTED if v.towards else CONTRADICTED
            sure = p < ALPHA and v.towards is not None
            v = replace(v, p_holm=corrected.get(id(v)), verdict=decided if sure else UNDECIDED)
        judged.append(v)
    return in_order(judged + _everywhere(judged))


def in_order(verdicts):
    """Verdicts in the order of the ledger."""
    place = {name: i for i, name in enumerate(ARCHITECTURE_LABELS)}.get
    return sorted(verdicts, key=lambda v: (v.claim[0], int(v.claim[1:]), v.dataset, place(v.architecture, 9)))
