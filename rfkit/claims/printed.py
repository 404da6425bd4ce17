"""The claims tested on the paper's printed means and standard deviations, by Welch intervals."""

from dataclasses import replace

from rfkit import outcomes, stats, tables
from rfkit.claims.evidence import PAPER_CHANCE, PAPER_SEEDS, PAPER_TEST_IMAGES, seeds_behind_tables
from rfkit.claims.judging import ALPHA, CONTRADICTED, SUPPORTED, UNDECIDED, Verdict, in_order, of_steps
from rfkit.presets import FINE_TUNED_RATE, PAPER_RATES

INTERVALS = 4 * (4 + 4)
"""First against last level: in four combinations C1, C3, C4, C6, and C5 at four rates."""


def judge_printed(printed=None):
    """Test the claims that printed means and standard deviations can test, by Welch intervals."""
    printed = tables.reference() if printed is None else printed
    printed = printed[printed["metric"].isin(("dense_accuracy", "pruned_accuracy", "accuracy_difference"))]
    few = seeds_behind_tables().set_index(["table", "architecture", "rf_level"])["networks"].to_dict()
    found = []
    for (dataset, architecture), part in printed.groupby(["dataset", "architecture"], sort=False):
        cell = {
            (metric.split("_")[1 if metric.startswith("acc") else 0], rate, bool(tuned)): _by_level(rows, few)
            for (metric, rate, tuned), rows in part.groupby(["metric", "pruning_rate", "fine_tuned"])
        }
        gaps = {rate: cell["difference", rate, False] for rate in PAPER_RATES}
        tuned = cell.get(("difference", FINE_TUNED_RATE, True), {})
        dense = _ends("C1", dataset, architecture, cell["dense", 0.9, False], True)
        rising = _ends("C4", dataset, architecture, cell["pruned", 0.9, False], False)
        both = {dense.verdict, rising.verdict}
        worst = CONTRADICTED if CONTRADICTED in both else SUPPORTED if both == {SUPPORTED} else UNDECIDED
        found += [dense, _ends("C3", dataset, architecture, gaps[0.9], True), replace(rising, verdict=worst)]
        lower = {rate: _ends("C5", dataset, architecture, gaps[rate], True) for rate in PAPER_RATES if rate <= 0.8}
        early = [(rate, v) for rate, v in lower.items() if v.verdict == SUPPORTED]
        effect = f"gap at {early[0][0]:g}: {early[0][1].effect}" if early else "no fall beyond its interval up to 0.8"
        verdict = CONTRADICTED if early else UNDECIDED
        found.append(replace(lower[0.8], verdict=verdict, effect=effect))
        found.append(_reversed_above(dataset, architecture, {r: cell["pruned", r, False] for r in PAPER_RATES}))
        found.append(_ends("C6", dataset, architecture, tuned, True))
        # what is lost down to chance is bounded by what was there: no step between such levels is one of robustness
        clear = {rate: _above_floor(gaps[rate], cell["pruned", rate, False], dataset) for rate in PAPER_RATES}
        found.append(of_steps(dataset, architecture, {**clear, None: tuned}, _welch, lambda value: value[0], "Welch"))
    return in_order(found)


def _reversed_above(dataset, architecture, pruned):
    """E8: pruned accuracy rises beyond its interval at 0.9, and in no mean at lower rates."""
    ends = {rate: _ends("E8", dataset, architecture, values, False) for rate, values in pruned.items()}
    above = ends.pop(0.9)
    early = [rate for rate, verdict in ends.items() if verdict.verdict == SUPPORTED]
    means = {rate: [mean for mean, *_ in pruned[rate].values()] for rate in ends}
    rises = any(each[-1] > each[0] for each in means.values())
    late = above.verdict == SUPPORTED and not rises
    verdict = CONTRADICTED if early else SUPPORTED if late else UNDECIDED
    effect = (
        f"at {early[0]:g}: {ends[early[0]].effect}" if early else f"at 0.9: {above.effect}; at 0.8: {ends[0.8].effect}"
    )
    return replace(above, verdict=verdict, effect=effect)


def _by_level(rows, few):
    """{level: (mean, standard deviation, networks)}; the paper says five networks, its author's files fewer in some."""
    return {
        int(r.rf_level): (float(r.mean), float(r.std), few.get((r.table, r.architecture, r.rf_level), PAPER_SEEDS))
        for r in rows.sort_values("rf_level").itertuples()
    }


def _above_floor(values, pruned, dataset):
    """Levels whose pruned accuracy is clear of chance."""
    about = (PAPER_CHANCE[dataset], PAPER_TEST_IMAGES)
    return {level: values[level] for level, value in pruned.items() if not outcomes.near_chance(*value, *about)}


def _ends(claim, dataset, architecture, values, falling):
    """First against last level."""
    if len(values) < 2:
        return Verdict(claim, dataset, architecture, None, None, None, "near chance", "Welch intervals")
    (start, first), *_, (end, last) = values.items()
    low, high = _welch(first, last, 1 - ALPHA / INTERVALS)
    falls, rises = high < 0, low > 0
    verdict = UNDECIDED if not (falls or rises) else SUPPORTED if falls == falling else CONTRADICTED
    effect = tables.from_to(first[0], last[0])
    test = f"Welch interval, levels {start} and {end}"
    return Verdict(claim, dataset, architecture, None, None, None, effect, test, verdict)


def _welch(a, b, level):
    return stats.welch_interval(*a, *b, level)
