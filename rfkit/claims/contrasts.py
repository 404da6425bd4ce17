"""Is it the receptive field? The contrasts fixed before the study, their runs, and what they came to."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rfkit import presets, stats
from rfkit.outcomes import ALPHA, RUN, usable_breaking_points
from rfkit.tables import BREAKS, label

LEAST_PAIRS = 3
"""With two seeds the quantile of Student's t is 12.7: an interval decides nothing."""


@dataclass(frozen=True)
class Finding:
    """What one contrast came to on one data set."""

    contrast: presets.Contrast  #: `Contrast`.
    dataset: str  #: Data set of the paper beside which the runs stand.
    values: dict  #: Mapping of (architecture, level) to the outcome of each seed, for the networks of the contrast.
    #: Mean over seeds, changed network minus the other; for ``"nearer"``, how much nearer it is to the third network
    #: than to the other.
    difference: float
    interval: tuple[float, float] | None  #: (low, high), 95 %, paired by seed; None for a single seed.
    verdict: str  #: ``"for"`` the cause, ``"against"`` it, or ``"undecided"``.


def judge_contrasts(by_run):
    """Every contrast for which there are runs."""
    found = []
    for dataset, part in by_run.groupby("paper_dataset", sort=False):
        here = []
        for contrast in presets.CONTRASTS:
            table = part.pivot_table(index="seed", columns=["architecture", "rf_level"], values=contrast.outcome)
            cells = [cell for cell in (contrast.cell, contrast.against, contrast.third) if cell]
            if all(cell in table for cell in cells) and len(paired := table[cells].dropna()):
                here.append(_judge(contrast, dataset, paired, _censored(part, contrast, cells)))
        for finding in here:
            verdicts = {other.verdict for other in here if other.contrast.key == finding.contrast.key}
            joint = "for" if verdicts == {"for"} else "against" if "against" in verdicts else "undecided"
            found.append(replace(finding, verdict=joint))
    return found


def _censored(part, contrast, cells):
    """Whether a network of a contrast has not reached its breaking point at the highest rate that was run."""
    if contrast.outcome != "breaking_point" or "top_rate" not in part:
        return False
    beyond = part[part["breaking_point"] >= part["top_rate"]]
    return any(cell in cells for cell in zip(beyond["architecture"], beyond["rf_level"], strict=True))


def _judge(contrast, dataset, paired, censored):
    changed, other = paired[contrast.cell], paired[contrast.against]
    if contrast.expected == "nearer":  # from here on: higher is nearer
        changed, other = (changed - other).abs(), (changed - paired[contrast.third]).abs()
    interval = stats.paired_interval(other, changed) if len(paired) > 1 else None
    verdict = _verdict(contrast, other, changed, interval, censored)
    values = {cell: list(paired[cell]) for cell in paired}
    return Finding(contrast, dataset, values, float((changed - other).mean()), interval, verdict)


def _verdict(contrast, first, second, interval, censored):
    never_break = censored and contrast.expected == "equal"  # two such networks are not shown to be equal
    if len(first) < LEAST_PAIRS or never_break:
        return "undecided"
    low, high = interval
    if contrast.expected == "equal":
        margin = presets.MARGINS[contrast.outcome]
        equal = stats.equivalence(first, second, margin) < ALPHA
        apart = low > margin or high < -margin
        return "for" if equal else "against" if apart else "undecided"
    if contrast.expected == "lower":
        low, high = -high, -low
    return "for" if low > 0 else "against" if high < 0 else "undecided"


def geometry_table(found):
    """What the networks do to an image, for readers."""
    rows = []
    for cell, seen in found.items():
        row = {"Network": presets.contrast_label(*cell), "Field (px)": f"{seen['field_px']:g}"}
        row["Maps"] = " – ".join(map(str, seen["maps"]))
        row["Field covers the image at"] = f"convolution {seen['covering']}"
        row["Dead weights (%)"] = f"{100 * seen['dead']:.1f}"
        rows.append(row | {"Last convolution: used taps meet a pixel at (% of places)": f"{100 * seen['met']:.0f}"})
    return pd.DataFrame(rows)


def contrast_table(findings):
    """Findings for readers."""
    rows = []
    for found in findings:
        contrast, digits = found.contrast, 1 if found.contrast.outcome == "dense" else 3
        mean = {cell: f"{np.mean(values):.{digits}f}" for cell, values in found.values.items()}
        third = f" ({presets.contrast_label(*contrast.third)}: {mean[contrast.third]})" if contrast.third else ""
        values = f"{mean[contrast.cell]} against {mean[contrast.against]}{third}"
        margin = f" within ±{presets.MARGINS[contrast.outcome]:g}" if contrast.expected == "equal" else ""
        rows.append({
            "Changed": presets.contrast_label(*contrast.cell),
            "Against": presets.contrast_label(*contrast.against),
            "Outcome": f"{presets.CONTRAST_OUTCOMES[contrast.outcome]}: {values}",
            "Expected of": f"{contrast.cause}: {contrast.expected}{margin}",
            "Difference": f"{found.difference:+.{digits}f}{_share(found)}",
            "95 %": "\u00a0to ".join(f"{end:+.{digits}f}" for end in found.interval or ()) or "–",
            "Seeds": len(found.values[contrast.cell]),
            "Speaks": f"{found.verdict} {contrast.cause}" if found.verdict != "undecided" else "undecided",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _share(found):
    """What share of the way from the other network to the third the changed one has gone."""
    contrast = found.contrast
    if contrast.third is None or contrast.expected == "nearer":
        return ""
    changed, other, third = (np.mean(found.values[c]) for c in (contrast.cell, contrast.against, contrast.third))
    return f" ({(changed - other) / (third - other):.0%} of the way)" if third != other else ""


def dead_weight_table(by_run, repruned):
    """Where accuracy has fallen 5 points below dense, with dead weights among those that are pruned and without."""
    points = usable_breaking_points(repruned[repruned["architecture"] == presets.CONTRAST_NETWORK])
    titles = {
        **{name: (BREAKS[name], "{:.3f}") for name in ("breaking_point", "usable", "usable_reestimated")},
        "left": ("Usable weights left there", "{:,.0f}"),
    }
    rows = []
    for dataset, part in points.merge(by_run, on=RUN).groupby("paper_dataset", sort=False):
        data, levels = {"Data (by image size)": label(dataset)}, part.groupby("rf_level")
        means, seeds = levels[list(titles)].mean(), levels.size()
        for level, cell in means.iterrows():
            numbers = {title: form.format(cell[name]) for name, (title, form) in titles.items()}
            rows.append(data | {"Level": str(level)} | numbers | {"Seeds": str(seeds[level])})
        order = {title: _in_order(means[name]) for name, (title, _) in titles.items()}
        rows.append(data | {"Level": "order"} | order | {"Seeds": ""})
    return pd.DataFrame(rows)


def _in_order(means):
    """Levels in the order of their means; those within three percent of each other are not told apart."""
    means = means.sort_values()
    signs = [" < " if high > 1.03 * low else " ≈ " for low, high in itertools.pairwise(means)]
    return "".join(f"{level}{sign}" for level, sign in zip(means.index, [*signs, ""], strict=True))
