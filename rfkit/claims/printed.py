"""The claims tested on the paper's printed means and standard deviations, by Welch intervals."""

from dataclasses import replace

from rfkit import outcomes, stats, tables
from rfkit.claims.evidence import PAPER_CHANCE, PAPER_SEEDS, PAPER_TEST_IMAGES, seeds_behind_tables
from rfkit.claims.judging import ALPHA, CONTRADICTED, SUPPORTED, UNDECIDED, Verdict, in_order, of_steps, reversed_above
from rfkit.presets import FINE_TUNED_RATE, PAPER_RATES

INTERVALS = 4 * (4 + 4)
"""First against last level: in four combinations C1, C3, C4, C6, and C5 at four rates."""


def judge_printed(printed=None):
    """Test the claims that printed means and standard deviations can test, by Welch intervals."""
    printed = tables.reference() if printed is None else printed
    printed = printed[printed["metric"].isin(tables.METRICS)]
    few = seeds_behind_tables().set_index(["table", "architecture", "rf_level"])["networks"].to_dict()
    found = []
    for cell, part in printed.groupby(["dataset", "architecture"], sort=False):
        of = {
            (tables.METRICS[metric], rate, bool(tuned)): _by_level(rows, few)
            for (metric, rate, tuned), rows in part.groupby(["metric", "pruning_rate", "fine_tuned"])
        }
        gaps, pruned = ({rate: of[name, rate, False] for rate in PAPER_RATES} for name in ("difference", "pruned"))
        tuned = of["difference", FINE_TUNED_RATE, True]
        dense, rising = _ends("C1", cell, of["dense", 0.9, False], True), _ends("C4", cell, pruned[0.9], False)
        both = {dense.verdict, rising.verdict}
        worst = CONTRADICTED if CONTRADICTED in both else SUPPORTED if both == {SUPPORTED} else UNDECIDED
        found += [dense, _ends("C3", cell, gaps[0.9], True), replace(rising, verdict=worst)]
        lower = {rate: _ends("C5", cell, gaps[rate], True) for rate in PAPER_RATES if rate <= 0.8}
        early = [f"gap at {rate:g}: {v.effect}" for rate, v in lower.items() if v.verdict == SUPPORTED]
        effect = early[0] if early else "no fall beyond its interval up to 0.8"
        found.append(replace(lower[0.8], verdict=CONTRADICTED if early else UNDECIDED, effect=effect))
        found.append(reversed_above({rate: _ends("E8", cell, values, False) for rate, values in pruned.items()}))
        found.append(_ends("C6", cell, tuned, True))
        # what is lost down to chance is bounded by what was there: no step between such levels is one of robustness
        about = PAPER_CHANCE[cell[0]], PAPER_TEST_IMAGES
        clear = {
            rate: {level: gaps[rate][level] for level, v in values.items() if not outcomes.near_chance(*v, *about)}
            for rate, values in pruned.items()
        }
        found.append(of_steps(cell, {**clear, None: tuned}, stats.welch_interval, "Welch"))
    return in_order(found)


def _by_level(rows, few):
    """{level: (mean, standard deviation, networks)}; the paper says five networks, its author's files fewer in some."""
    return {
        int(r.rf_level): (float(r.mean), float(r.std), few.get((r.table, r.architecture, r.rf_level), PAPER_SEEDS))
        for r in rows.sort_values("rf_level").itertuples()
    }


def _ends(claim, cell, values, falling):
    """First against last level."""
    (start, first), *_, (end, last) = values.items()
    low, high = stats.welch_interval(first, last, 1 - ALPHA / INTERVALS)
    verdict = UNDECIDED if low <= 0 <= high else SUPPORTED if (high < 0) == falling else CONTRADICTED
    towards = last[0] < first[0] if falling else last[0] > first[0]
    effect, test = tables.from_to(first[0], last[0]), f"Welch interval, levels {start} and {end}"
    return Verdict(claim, *cell, towards, effect=effect, test=test, verdict=verdict)
