"""The ledger on the paper's own numbers, on the author's rows, and on made-up evidence with known answers."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from rfkit import claims, experiments, outcomes, presets, stats, tables
from rfkit.claims import CONTRADICTED, SUPPORTED, UNDECIDED
from rfkit.presets import PAPER_RATES


def verdict(verdicts, claim, architecture="vgg19", dataset="cifar10"):
    (found,) = [v for v in verdicts if (v.claim, v.architecture, v.dataset) == (claim, architecture, dataset)]
    return found


# --- the author's rows are the paper's tables -----------------------------------------------------


def printed_pairs():
    """(mean, std, our mean, our std) of every accuracy in Tables 1, 2 and 5-14, texts as printed."""
    rows = tables.author_runs().query("paper_table.notna()")
    printed = tables.reference(dtype=str)
    for _, cell in printed.iterrows():
        if int(cell["table"]) in tables.IMPORTANCE_TABLES:
            continue
        mine = rows[(rows["dataset"] == cell["dataset"]) & (rows["architecture"] == cell["architecture"])]
        mine = mine[(mine["rf_level"] == int(cell["rf_level"])) & (mine["fine_tuned"] == int(cell["fine_tuned"]))]
        mine = mine[mine["pruning_rate"] == float(cell["pruning_rate"])]
        if cell["table"] != "1":
            mine = mine[~mine["note"].str.contains("in Table 1 only", na=False)]
        dense, pruned = mine["dense_test_accuracy"], mine["pruned_test_accuracy"]
        values = {"dense_accuracy": dense, "pruned_accuracy": pruned, "accuracy_difference": dense - pruned}
        yield cell, cell["mean"], cell["std"], *stats.mean_std(list(values[cell["metric"]]))


def as_printed(text, value, how):
    digits = len(text.partition(".")[2])
    return how(value * 10**digits + (1e-9 if value >= 0 else -1e-9)) / 10**digits == pytest.approx(
        float(text), abs=1e-9
    )


def test_the_authors_rows_rebuild_every_printed_mean_and_deviation():
    pairs, cut_off = list(printed_pairs()), []
    assert len(pairs) == 270
    for cell, mean, std, our_mean, our_std in pairs:
        rounded = [as_printed(text, value, lambda x: math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1))
                   for text, value in ((mean, our_mean), (std, our_std))]  # fmt: skip
        truncated = [as_printed(text, value, math.trunc) for text, value in ((mean, our_mean), (std, our_std))]
        assert all(r or t for r, t in zip(rounded, truncated, strict=True)), (cell.to_dict(), our_mean, our_std)
        if not all(rounded):
            cut_off.append((int(cell["table"]), cell["architecture"]))
    # Tables 1 and 2, and four cells of the VGG19-like network in Table 5
    assert len(cut_off) == 35 and {table for table, _ in cut_off} == {1, 2, 5}
    assert [pair for pair in cut_off if pair[0] == 5] == [(5, "vgg19")] * 4


def test_means_that_are_not_over_five_networks():
    found = claims.seeds_behind_tables()
    assert sorted(set(found["table"])) == [5, 7, 9, 11, 13]
    assert set(found["architecture"]) == {"resnet50"} and set(found["networks"]) == {3} and len(found) == 20


# --- what the ledger finds without being told -----------------------------------------------------


def test_printed_numbers_contradict_two_of_the_papers_claims():
    verdicts = claims.judge_printed()
    assert verdict(verdicts, "C5", dataset="tiny_imagenet").verdict == CONTRADICTED
    steps = verdict(verdicts, "E1", dataset="tiny_imagenet")
    assert steps.verdict == CONTRADICTED and "level 1 to 2" in steps.effect
    assert {v.verdict for v in verdicts if v.claim == "C1"} == {SUPPORTED}


def test_the_authors_rows_agree():
    verdicts = claims.judge(claims.evidence_of_author())
    assert verdict(verdicts, "C5", dataset="tiny_imagenet").verdict == CONTRADICTED
    assert verdict(verdicts, "E1", dataset="tiny_imagenet").verdict == CONTRADICTED
    assert {v.verdict for v in verdicts if v.claim == "C1"} == {SUPPORTED}
    assert verdict(verdicts, "E2", "", "").verdict == CONTRADICTED
    three_networks = verdict(verdicts, "C2", "resnet50").smallest_p
    assert three_networks == pytest.approx(2 * math.factorial(3) ** 4 / math.factorial(12))
    (everywhere,) = [v for v in verdicts if v.claim == "C9"]
    assert everywhere.verdict == SUPPORTED and everywhere.effect == "8 of 8 supported"


def test_networks_that_are_no_pairs_are_not_paired():
    author = claims.evidence_of_author()
    shuffled = author.runs.sample(frac=1, random_state=1)
    assert claims.judge(replace(author, runs=shuffled)) == claims.judge(author)


def test_means_over_three_networks_are_tested_as_such():
    assert verdict(claims.judge_printed(), "C6", "resnet50").verdict == UNDECIDED  # five would support it


def test_swapping_two_rows_of_the_paper_flips_the_verdict():
    printed = tables.reference()
    vgg = (printed["architecture"] == "vgg19") & (printed["dataset"] == "tiny_imagenet")
    swapped = printed.copy()
    swapped.loc[vgg, "rf_level"] = printed.loc[vgg, "rf_level"].replace({1: 2, 2: 1})
    assert verdict(claims.judge_printed(swapped), "E1", dataset="tiny_imagenet").verdict == SUPPORTED
    others = [(a, b) for a, b in zip(claims.judge_printed(), claims.judge_printed(swapped), strict=True)
              if (a.architecture, a.dataset) != ("vgg19", "tiny_imagenet")]  # fmt: skip
    assert others and all(a == b for a, b in others)


# --- known answers --------------------------------------------------------------------------------


def made_up(dense, gap, seeds=5, noise=0.1):
    """Evidence of one cell: `dense` and `gap` at each of four levels, and some noise."""
    random, rows = np.random.default_rng(0), []
    for seed in range(seeds):
        for level in range(1, 5):
            row = {"paper_dataset": "cifar10", "architecture": "vgg19", "rf_level": level, "seed": seed}
            row["dense"] = dense[level - 1] + noise * random.normal()
            row["breaking_point"] = 1 - gap[level - 1] / 100 + noise / 100 * random.normal()
            for rate in PAPER_RATES:
                row[f"gap_{rate}"] = gap[level - 1] * (rate == 0.9) + noise * random.normal()
                row[f"pruned_{rate}"] = row["dense"] - row[f"gap_{rate}"]
            rows.append(row)
    return claims.Evidence(pd.DataFrame(rows))


def test_the_papers_story_is_supported():
    verdicts = claims.judge(made_up([90, 88, 86, 84], [60, 40, 20, 10]))
    found = {v.claim: v.verdict for v in verdicts}
    assert found.pop("C9") == UNDECIDED  # one combination is not all of them
    assert found == dict.fromkeys(["C1", "C2", "C3", "C4", "C5", "E1", "E8"], SUPPORTED)


def test_the_opposite_story_is_contradicted():
    verdicts = claims.judge(made_up([84, 86, 88, 90], [10, 20, 40, 60]))
    found = {v.claim: v.verdict for v in verdicts}
    assert found == dict.fromkeys(["C1", "C2", "C3", "C4", "C9", "E1", "E8"], CONTRADICTED) | {"C5": UNDECIDED}


def test_the_only_step_is_named_once():
    story = made_up([84, 86, 88, 90], [10, 20, 40, 60])
    ends = story.runs[story.runs["rf_level"].isin([1, 4])]
    (found,) = (v for v in claims.judge(claims.Evidence(ends)) if v.claim == "E1")
    assert found.verdict == CONTRADICTED and found.effect.count("level 1 to 4 at 0.9") == 1


def test_noise_is_undecided():
    verdicts = claims.judge(made_up([90] * 4, [40] * 4, noise=3))
    assert {v.verdict for v in verdicts} == {UNDECIDED}


def test_parameters_are_counted():
    story = made_up([90, 88, 86, 84], [60, 40, 20, 10])
    for counts, expected in (({1: 7, 4: 7}, SUPPORTED), ({1: 7, 4: 8}, CONTRADICTED)):
        verdicts = claims.judge(claims.Evidence(story.runs, parameters={("", "vgg19"): counts}))
        assert verdict(verdicts, "E5", dataset="").verdict == expected


def test_one_seed_decides_nothing():
    verdicts = claims.judge(made_up([90, 88, 86, 84], [60, 40, 20, 10], seeds=1))
    assert {v.verdict for v in verdicts} == {UNDECIDED} and verdict(verdicts, "C1").p is None


def test_levels_at_floor_are_tied_at_the_bottom():
    """They are censored, not uninformative: with two of four at chance the order of the others still counts."""
    story = made_up([90, 88, 86, 84], [80, 78, 20, 10])
    floor = {("cifar10", "vgg19", level, 0.9) for level in (1, 2)}
    verdicts = claims.judge(claims.Evidence(story.runs, floor))
    gap = verdict(verdicts, "C3")
    assert gap.verdict == SUPPORTED and gap.test == "Page, 5 seeds, levels 1 to 4; at chance, tied: 1 and 2"
    assert gap.effect == "80.1 → 10.0"  # what was measured, not what the tie makes of it
    assert gap.p == gap.smallest_p == pytest.approx(2 / 12**5)  # half of the 24 orders are the same for a tie
    every = {("cifar10", "vgg19", level, 0.9) for level in (1, 2, 3, 4)}
    assert verdict(claims.judge(claims.Evidence(story.runs, every)), "C3").p == 1.0


def test_a_single_network_of_a_level_does_not_end_the_ledger():
    story = made_up([90, 88, 86, 84], [60, 40, 20, 10])
    alone = story.runs[(story.runs["rf_level"] < 4) | (story.runs["seed"] == 0)]
    found = verdict(claims.judge(claims.Evidence(alone, paired=False)), "C5")
    assert found.verdict == UNDECIDED and found.effect == "no significant trend up to 0.8"


def test_single_seeds_do_not_count_in_the_family():
    story = made_up([90, 88, 86, 84], [60, 40, 20, 10], seeds=3).runs
    alone = story[story["seed"] == 0].assign(architecture="resnet50")
    both = claims.judge(claims.Evidence(pd.concat([story, alone])))
    assert verdict(both, "C1").p_holm == verdict(claims.judge(claims.Evidence(story)), "C1").p_holm
    assert verdict(both, "C1", "resnet50").p is None and verdict(both, "C1", "resnet50").towards


def test_all_combinations_are_needed_for_all():
    story, cells = made_up([90, 88, 86, 84], [60, 40, 20, 10], seeds=6).runs, []
    for dataset, name in (("cifar10", "vgg19"), ("cifar10", "resnet50"), ("tiny_imagenet", "vgg19")):
        cells.append(story.assign(paper_dataset=dataset, architecture=name))
    (three,) = [v for v in claims.judge(claims.Evidence(pd.concat(cells))) if v.claim == "C9"]
    assert (three.verdict, three.effect) == (UNDECIDED, "6 of 6 supported")
    cells.append(story.assign(paper_dataset="tiny_imagenet", architecture="resnet50"))
    (four,) = [v for v in claims.judge(claims.Evidence(pd.concat(cells))) if v.claim == "C9"]
    assert (four.verdict, four.effect) == (SUPPORTED, "8 of 8 supported")


def test_few_cells_cannot_show_a_correlation():
    story = made_up([90, 88, 86, 84], [60, 40, 20, 10], noise=0)
    runs = story.runs.assign(top_eigenvalue=story.runs["rf_level"])
    pairs = runs[["paper_dataset", "architecture", "rf_level", "seed"]].assign(deep_similarity=-runs["rf_level"])
    (found,) = [v for v in claims.judge(claims.Evidence(runs, pairs=pairs)) if v.claim == "C10"]
    assert found.architecture == "vgg19"  # cells of two networks are not one sample
    assert found.towards and found.p == found.smallest_p == pytest.approx(2 / 24) and found.verdict == UNDECIDED


def test_similarity_and_sharpness_have_claims_too():
    story = made_up([90, 88, 86, 84], [60, 40, 20, 10])
    runs = story.runs.assign(top_eigenvalue_init=10.0 ** story.runs["rf_level"], top_eigenvalue=story.runs["rf_level"])
    pairs = story.runs[["paper_dataset", "architecture", "rf_level", "seed"]].assign(
        deep_similarity=1 / runs["rf_level"]
    )
    verdicts = claims.judge(
        claims.Evidence(
            runs,
            pairs=pairs,
            maxima={
                "true": {"vgg19": {"1": [3, 3.1], "2": [2, 2.1], "3": [1, 1.1]}},
                "linearised": {"vgg19": {"1": [1, 1.1, 1], "2": [2, 2.1, 2], "3": [3, 3.1, 3]}},
            },
            shapes={"linearised": {"vgg19": {1: 1.0, 4: 0.95}, "resnet50": {1: 1.0, 2: 0.7}, "own": {1: 1.0, 2: 0.3}}},
        )
    )
    assert {v.claim for v in verdicts} >= {"C7", "C8", "C10", "E3"}
    assert {v.architecture: v.verdict for v in verdicts if v.claim == "E4"} == {
        "vgg19": SUPPORTED, "resnet50": UNDECIDED, "own": CONTRADICTED,
    }  # fmt: skip
    assert all(verdict(verdicts, c).verdict == SUPPORTED for c in ("C7", "C8"))
    table = claims.verdict_table({"one": verdicts, "none": []}).set_index("Claim")
    assert list(table.index) == list(claims.CLAIMS) and list(table["The paper says"]) == list(claims.CLAIMS.values())
    assert table.loc["E4", "VGG19-like"] == f"✓ {tables.MISSING}" and table.loc["E4", "own"][0] == "✗"
    assert not any(table.loc["E2"].drop("The paper says"))  # nothing to test it on: an empty row
    p_values = claims.detail_table(verdicts).set_index("Claim")["p (Holm)"]
    assert p_values["E3 gradient, true"].endswith("uncorrected")
    assert len(claims.detail_table(verdicts)) == len(verdicts)
    assert not any("p" in name.split() for name in claims.detail_table(claims.judge_printed()))


# --- statistics -----------------------------------------------------------------------------------


def test_intervals_agree_with_scipy():
    random = np.random.default_rng(1)
    a, b = random.normal(size=5), random.normal(0.5, 2, size=7)
    theirs = scipy_stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    first, second = ((each.mean(), each.std(ddof=1), len(each)) for each in (a, b))
    assert stats.welch_interval(first, second) == pytest.approx(tuple(theirs))
    theirs = scipy_stats.ttest_rel(b[:5], a).confidence_interval(0.9)
    assert stats.paired_interval(list(a), list(b[:5]), 0.9) == pytest.approx(tuple(theirs))
    one_sided = max(
        scipy_stats.ttest_1samp(b[:5] - a, 3, alternative="less").pvalue,
        scipy_stats.ttest_1samp(b[:5] - a, -3, alternative="greater").pvalue,
    )
    assert stats.equivalence(list(a), list(b[:5]), 3) == pytest.approx(one_sided)


def test_differences_that_are_all_the_same_are_an_interval_of_one_point():
    first, second = (pd.Series(values, index=[3, 4]) for values in ([1.0, 2.0], [3.0, 4.0]))
    assert stats.paired_interval(first, second) == (2.0, 2.0)


def test_jonckheere_counts_the_orders_of_independent_groups():
    groups = [[1.0, 2.0, 2.5], [2.2, 3.0], [3.5, 2.4, 4.0]]
    values, sizes = np.concatenate(groups), [len(group) for group in groups]
    level = np.repeat(range(3), sizes)

    def score(order):
        pairs = itertools.combinations(range(len(order)), 2)
        return sum(np.sign(order[j] - order[i]) for i, j in pairs if level[i] != level[j])

    splits = {
        (a, b)
        for a in itertools.combinations(range(8), 3)
        for b in itertools.combinations(sorted(set(range(8)) - set(a)), 2)
    }
    scores = []
    for a, b in splits:
        rest = [i for i in range(8) if i not in a + b]
        scores.append(score(values[[*a, *b, *rest]]))
    exact = np.mean(np.array(scores) >= score(values))
    assert stats.jonckheere_trend([[1, 2], [3], [4, 5]]) == (pytest.approx(1 / 30), pytest.approx(1 / 30))
    p, smallest = stats.jonckheere_trend(groups)
    assert p == pytest.approx(exact, rel=0.6) and smallest == pytest.approx(1 / len(splits))
    assert stats.jonckheere_trend(groups, falling=True)[0] == pytest.approx(1 - p, abs=0.02)
    assert stats.jonckheere_trend([[1.0], [1.0], [1.0]])[0] == 1.0
    with pytest.raises(ValueError, match=r"groups of \[1, 0, 2\] values"):
        stats.jonckheere_trend([[1], [], [1, 2]])


def test_a_correlation_over_few_cells_is_exact():
    random = np.random.default_rng(3)
    x, y = random.normal(size=6), random.normal(size=6)
    rho, p, smallest = stats.rank_correlation(x, y)
    theirs = [scipy_stats.spearmanr(x, order).statistic for order in itertools.permutations(y)]
    assert rho == pytest.approx(scipy_stats.spearmanr(x, y).statistic)
    assert p == pytest.approx(np.mean(np.abs(theirs) >= abs(rho) - 1e-9)) and smallest == pytest.approx(2 / 720)
    with pytest.raises(ValueError, match="2 and 2 values; expected the same number of at least 3"):
        stats.rank_correlation([1, 2], [1, 2])


def test_equivalence_of_independent_values():
    random = np.random.default_rng(2)
    a, b = random.normal(size=6), random.normal(0.3, 2, size=4)
    sides = {"greater": a - 3, "less": a + 3}
    theirs = [scipy_stats.ttest_ind(b, c, equal_var=False, alternative=side).pvalue for side, c in sides.items()]
    assert stats.equivalence(list(a), list(b), 3, paired=False) == pytest.approx(max(theirs))
    assert stats.equivalence([1.0, 1.0], [1.2, 1.2, 1.2], 0.5, paired=False) == 0.0
    with pytest.raises(ValueError, match="1 and 3 values; expected at least 2 of both"):
        stats.equivalence([1.0], [1.0, 2.0, 3.0], 1, paired=False)


def test_holm():
    with pytest.raises(ValueError, match="every p-value must be finite"):
        stats.holm([0.9, float("nan"), 0.01])
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06]) and stats.holm([]) == []


def test_too_few_pairs():
    for function in (stats.paired_interval, lambda a, b: stats.equivalence(a, b, 1)):
        with pytest.raises(ValueError, match="1 and 1 values; expected the same number of at least 2"):
            function([1.0], [2.0])


def test_the_study_counts_curvature_of_networks_that_were_not_trained():
    """Six seeds of every level, where the spectra are of one; the same quantity, so the same number of that one."""
    study = claims.evidence_of_study().runs
    cells = study[(study["architecture"] == "vgg19") & (study["paper_dataset"] == "cifar10")].groupby("rf_level")
    assert (cells["top_eigenvalue_init"].count() == 6).all() and (cells["top_eigenvalue"].count() < 6).all()
    runs = experiments.recorded(presets.get("study").select(architectures="vgg19", seeds=0, datasets="cifar10"))
    curved = experiments.measured("initial_curvature", presets.get("study"))
    spectra = outcomes.sharpness(runs)["top_eigenvalue_init"].tolist()
    alone = experiments.frame("initial_curvature", curved).query("seed == 0 and width == 0.125 and changed.isna()")
    alone = alone[alone["architecture"] == "vgg19"].sort_values("rf_level")["largest"]
    assert alone.tolist() == pytest.approx(spectra, rel=0.02)
