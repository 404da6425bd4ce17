"""Is it the receptive field? The contrasts fixed before the study, their runs, and what they came to."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from rfkit import presets, records, stats
from rfkit.outcomes import ALPHA, CELL, MARGIN_POINTS, usable_breaking_points
from rfkit.published import DATASET_LABELS

NETWORK = "vgg19"
MARGIN_RATE = 0.05
OUTCOMES = {"dense": "dense accuracy (%)", "breaking_point": "breaking point"}
LABELS = {
    "vgg19": "level {}",
    presets.CONTRASTS + "centre_taps": "level {}, centre taps",
    presets.CONTRASTS + "open_third_pool": "level {}, third pool open",
    presets.CONTRASTS + "enlarged": "level {}, image enlarged",
    presets.CONTRASTS + "blurred": "level {}'s pool at stride 1",
    presets.CONTRASTS + "dilated": "level {}, dilated",
}


@dataclass(frozen=True)
class Contrast:
    """One network against another, and what would speak for a cause.

    Attributes:
        key: D1 to D6, with the level where there are several.
        cause: What the contrast would speak for.
        cell: (architecture, level) of the changed network.
        against: The same of the network it is set against.
        outcome: Column of `rfkit.outcomes.by_run`.
        expected: ``"higher"`` or ``"lower"`` than the other, ``"equal"`` within the margin, or ``"nearer"`` to the
            third network than to the other.
        margin: For ``"equal"``, in the unit of the outcome.
        third: (architecture, level) of a third network: for ``"nearer"``, or as the end of a way on which the changed
            network has gone some share.
    """

    key: str
    cause: str
    cell: tuple[str, int]
    against: tuple[str, int]
    outcome: str
    expected: str
    margin: float | None = None
    third: tuple[str, int] | None = None


def _net(name, level):
    return presets.CONTRASTS + name, level


CONTRASTS = (
    Contrast("D1", "dead weights", _net("centre_taps", 1), (NETWORK, 1), "breaking_point", "higher",
             third=(NETWORK, 3)),
    Contrast("D2", "dead weights", _net("open_third_pool", 3), (NETWORK, 3), "breaking_point", "lower"),
    Contrast("D3", "field and final map", _net("open_third_pool", 3), (NETWORK, 2), "breaking_point", "equal",
             MARGIN_RATE),
    *(
        Contrast(f"D4, level {level}", "resolution", _net("enlarged", level), (NETWORK, 1), "dense", "equal",
                 MARGIN_POINTS)
        for level in (2, 3, 4)
    ),
    Contrast("D5", "blur", _net("blurred", 3), (NETWORK, 1), "dense", "lower"),
    *(
        Contrast("D6", "the field", _net("dilated", 1), (NETWORK, 1), outcome, "nearer", third=(NETWORK, 2))
        for outcome in ("dense", "breaking_point")
    ),
)  # fmt: skip
"""As fixed in *Written before the results*; D7 needs no training and no network of its own.

:meta hide-value:
"""
CELLS = tuple(dict.fromkeys(contrast.cell for contrast in CONTRASTS))


def label(architecture, level):
    """A network of a contrast in a few words.

    Args:
        architecture: Key of `LABELS`.
        level: RF level.

    Returns:
        Text such as "level 1, centre taps".
    """
    return LABELS[architecture].format(level)


def of_preset(preset):
    """The changed networks of the contrasts, trained as a preset trains the VGG19-like one.

    Args:
        preset: `rfkit.presets.Preset`; its seeds, protocol, epochs, width and data sets are kept, but Tiny ImageNet is
            left out beside another one: the contrasts were fixed for images of 32 pixels.

    Returns:
        `Preset`.
    """
    datasets = tuple(name for name in preset.datasets if name != "tiny_imagenet") or preset.datasets
    architectures = tuple(dict.fromkeys(architecture for architecture, _ in CELLS))
    levels = tuple(sorted({level for _, level in CELLS}))
    every = [(dataset, a, level) for dataset in datasets for a in architectures for level in levels]
    few = preset.spectrum and replace(preset.spectrum, k=min(10, preset.spectrum.k), probes=1)
    return replace(
        preset, datasets=datasets, architectures=architectures, levels=levels, pairs=None, spectrum=few,
        left_out=tuple(cell for cell in every if cell[1:] not in CELLS),
    )  # fmt: skip


def find(preset):
    """The runs of the contrasts and of the levels beside them, of a preset if its changed networks are trained.

    Args:
        preset: `rfkit.presets.Preset`.

    Returns:
        (name, runs): ``"this build"``, or ``"recorded study"`` where the preset has none; list of `rfkit.store.Run`.
    """
    name, wanted = "this build", of_preset(preset)
    changed = records.find(wanted, complete=False)[0]
    if not changed:
        name, preset = "recorded study", presets.get("study")
        wanted = of_preset(preset)
        changed = records.find(wanted, complete=False)[0]
    levels = replace(preset, datasets=wanted.datasets, architectures=(NETWORK,))
    return name, changed + records.find(levels, complete=False)[0]


@dataclass(frozen=True)
class Finding:
    """What one contrast came to on one data set.

    Attributes:
        contrast: `Contrast`.
        dataset: Data set of the paper beside which the runs stand.
        values: Mapping of (architecture, level) to the outcome of each seed, for the networks of the contrast.
        difference: Mean over seeds, changed network minus the other; for ``"nearer"`` how much nearer it is to the
            third network than to the other.
        interval: (low, high), 95 %, paired by seed; None for a single seed.
        verdict: ``"for"`` the cause, ``"against"`` it, or ``"undecided"``.
    """

    contrast: Contrast
    dataset: str
    values: dict
    difference: float
    interval: tuple[float, float] | None
    verdict: str


def judge(by_run):
    """Every contrast for which there are runs.

    Args:
        by_run: As made by `rfkit.outcomes.by_run`, of the changed networks and of the levels.

    Returns:
        List of `Finding`; seeds that one of the networks lacks are left out. A contrast with two outcomes speaks for
        its cause only if both do.
    """
    found = []
    for dataset, part in by_run.groupby("paper_dataset", sort=False):
        here = []
        for contrast in CONTRASTS:
            table = part.pivot_table(index="seed", columns=["architecture", "rf_level"], values=contrast.outcome)
            cells = [cell for cell in (contrast.cell, contrast.against, contrast.third) if cell]
            if all(cell in table for cell in cells) and len(paired := table[cells].dropna()):
                here.append(_judge(contrast, dataset, paired))
        for finding in here:
            verdicts = {other.verdict for other in here if other.contrast.key == finding.contrast.key}
            joint = "for" if verdicts == {"for"} else "against" if "against" in verdicts else "undecided"
            found.append(replace(finding, verdict=joint))
    return found


def _judge(contrast, dataset, paired):
    changed, other = paired[contrast.cell], paired[contrast.against]
    if contrast.expected == "nearer":
        to_third = (changed - paired[contrast.third]).abs()
        changed, other = (changed - other).abs(), to_third  # from here on: higher is nearer
    first, second = list(other), list(changed)
    difference = float(np.mean(changed - other))
    interval = stats.paired_interval(first, second) if len(paired) > 1 else None
    values = {cell: list(paired[cell]) for cell in paired}
    return Finding(contrast, dataset, values, difference, interval, _verdict(contrast, first, second, interval))


def _verdict(contrast, first, second, interval):
    if interval is None:
        return "undecided"
    low, high = interval
    if contrast.expected == "equal":
        equal = stats.equivalence(first, second, contrast.margin) < ALPHA
        apart = low > contrast.margin or high < -contrast.margin
        return "for" if equal else "against" if apart else "undecided"
    if contrast.expected == "lower":
        low, high = -high, -low
    return "for" if low > 0 else "against" if high < 0 else "undecided"


def geometry(found):
    """What the networks do to an image, for readers.

    Args:
        found: Mapping of (architecture, level) to what `rfkit.contrast_nets.geometry` says.

    Returns:
        Data frame, one row a network.
    """
    return pd.DataFrame([
        {
            "Network": label(*cell),
            "Field (px)": f"{row['field_px']:g}",
            "Maps": " – ".join(map(str, row["maps"])),
            "Field covers the image at": f"convolution {row['covering']}",
            "Dead weights (%)": f"{100 * row['dead']:.1f}",
            "Last convolution: used taps meet a pixel at (% of places)": f"{100 * row['met']:.0f}",
        }
        for cell, row in found.items()
    ])


def table(findings):
    """Findings for readers.

    Args:
        findings: As made by `judge`.

    Returns:
        Data frame, one row a contrast.
    """
    rows = []
    for found in findings:
        contrast, digits = found.contrast, 1 if found.contrast.outcome == "dense" else 3
        mean = {cell: f"{np.mean(values):.{digits}f}" for cell, values in found.values.items()}
        third = f", {label(*contrast.third)}: {mean[contrast.third]}" if contrast.third else ""
        margin = f" within ±{contrast.margin:g}" if contrast.margin else ""
        rows.append({
            "": contrast.key,
            "Changed": f"{label(*contrast.cell)}: {mean[contrast.cell]}",
            "Against": f"{label(*contrast.against)}: {mean[contrast.against]}{third}",
            "Outcome": OUTCOMES[contrast.outcome],
            "Expected of": f"{contrast.cause}: {contrast.expected}{margin}",
            "Difference": f"{found.difference:+.{digits}f}{_share(found)}",
            "95 %": f"{found.interval[0]:+.{digits}f} … {found.interval[1]:+.{digits}f}" if found.interval else "–",
            "Seeds": len(found.values[contrast.cell]),
            "Speaks": f"{found.verdict} {contrast.cause}" if found.verdict != "undecided" else "undecided",
        })  # fmt: skip
    return pd.DataFrame(rows)


def _share(found):
    """How far the changed network has gone from the one towards the third."""
    contrast = found.contrast
    if contrast.third is None or contrast.expected == "nearer":
        return ""
    changed, other, third = (np.mean(found.values[c]) for c in (contrast.cell, contrast.against, contrast.third))
    return f" ({(changed - other) / (third - other):.0%} of the way)" if third != other else ""


def dead_weights(by_run, repruned):
    """D7: where accuracy has fallen 5 points below dense, with dead weights among those that are pruned and without.

    Args:
        by_run: As made by `rfkit.outcomes.by_run`.
        repruned: As made by `rfkit.outcomes.repruned`.

    Returns:
        Data frame, one row a level: means over the seeds that have both; the last row orders the levels by them.
    """
    points = usable_breaking_points(repruned[repruned["architecture"] == NETWORK])
    both = points.merge(by_run, on=[*CELL, "seed"])
    titles = {
        "breaking_point": ("Breaking point", "{:.3f}"),
        "usable": ("At equal rate of the usable weights", "{:.3f}"),
        "left": ("Usable weights left there", "{:,.0f}"),
    }
    rows = []
    for dataset, part in both.groupby("paper_dataset", sort=False):
        means = part.groupby("rf_level")[list(titles)].mean()
        for level, cell in means.iterrows():
            row = {title: form.format(cell[name]) for name, (title, form) in titles.items()}
            rows.append({"Data (by image size)": DATASET_LABELS.get(dataset, dataset), "Level": str(level), **row})
            rows[-1]["Seeds"] = str(len(part[part["rf_level"] == level]))
        order = {title: " < ".join(map(str, means[name].sort_values().index)) for name, (title, _) in titles.items()}
        rows.append(rows[-1] | {"Level": "order", **order, "Seeds": ""})
    return pd.DataFrame(rows)
