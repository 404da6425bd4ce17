"""The claims ledger as readers see it: tables of verdicts."""

import pandas as pd

from rfkit import tables
from rfkit.claims.judging import CLAIMS, CONTRADICTED, SUPPORTED, UNDECIDED, in_order
from rfkit.data import DATASET_LABELS

MARKS = {SUPPORTED: "✓ supported", CONTRADICTED: "✗ contradicted", UNDECIDED: "? undecided"}


def statement_table():
    """The claims in words."""
    return pd.DataFrame({"Claim": CLAIMS.keys(), "The paper says": CLAIMS.values()})


def verdict_table(sources):
    """All verdicts side by side."""
    keys = {(v.claim, v.dataset, v.architecture): v for judged in sources.values() for v in judged}
    rows = []
    for v in in_order(keys.values()):
        row = {"Claim": v.claim, **_combination(v)}
        for name, judged in sources.items():
            here = [w for w in judged if (w.claim, w.dataset, w.architecture) == (v.claim, v.dataset, v.architecture)]
            row[name] = MARKS[here[0].verdict] if here else tables.MISSING
        rows.append(row)
    tested = {row["Claim"] for row in rows}
    dashes = dict.fromkeys(("Network", "Data", *sources), tables.MISSING)
    rows += [{"Claim": claim} | dashes for claim in CLAIMS if claim not in tested]
    return pd.DataFrame(sorted(rows, key=lambda row: list(CLAIMS).index(row["Claim"])))


def seeds_behind_tables_table(counted):
    """Means that are not over five networks, for readers."""

    def each(values):
        return ", ".join(map(str, sorted(set(values))))

    grouped = counted.groupby(["architecture", "networks"], as_index=False).agg({"table": each, "rf_level": each})
    return pd.DataFrame({
        "Network": [tables.ARCHITECTURE_LABELS.get(name, name) for name in grouped["architecture"]],
        "Paper Tables": grouped["table"],
        "Levels": grouped["rf_level"],
        "Networks": grouped["networks"],
    })


def _combination(verdict):
    network, dataset = verdict.architecture, verdict.dataset
    return {
        "Network": tables.ARCHITECTURE_LABELS.get(network, network or "all"),
        "Data": DATASET_LABELS.get(dataset, dataset or "all"),
    }


def _p_value(verdict):
    if verdict.p_holm is not None:
        return f"{verdict.p_holm:.2g}"
    return tables.MISSING if verdict.p is None else f"{verdict.p:.2g}, uncorrected"


def detail_table(judged):
    """Every test of one source."""
    return pd.DataFrame([
        {
            "Claim": v.claim,
            **_combination(v),
            "Verdict": MARKS[v.verdict],
            "Effect": v.effect,
            "p (Holm)": _p_value(v),
            "Smallest p": tables.MISSING if v.smallest_p is None else f"{v.smallest_p:.2g}",
            "Test": v.test,
        }
        for v in judged
    ])
