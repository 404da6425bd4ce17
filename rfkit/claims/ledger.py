"""The claims ledger as readers see it: tables of verdicts."""

import pandas as pd

from rfkit import tables
from rfkit.claims.judging import CLAIMS, CONTRADICTED, SUPPORTED, UNDECIDED, in_order
from rfkit.data import DATASET_LABELS

MARKS = {SUPPORTED: "✓ supported", CONTRADICTED: "✗ contradicted", UNDECIDED: "? undecided"}


def verdict_table(sources):
    """The claims in words, and a column per network and data set: a mark for each source, in their order."""
    judged = [(name, v) for name, verdicts in sources.items() for v in verdicts]
    marks = {(name, v.claim, *_combination(v).values()): MARKS[v.verdict][0] for name, v in judged}
    tested = dict.fromkeys(tuple(_combination(v).values()) for v in in_order(v for _, v in judged))
    rows = []
    for claim, words in CLAIMS.items():
        row = {"The paper says": words}
        for network, data in sorted(tested, key=lambda pair: "all" in pair):
            each = [marks.get((name, claim, network, data), tables.MISSING) for name in sources]
            row[network if data == "all" else f"{network}, {data}"] = (
                " ".join(each) if set(each) != {tables.MISSING} else ""
            )
        rows.append(row | {"Claim": claim})
    return pd.DataFrame(rows)


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
    if verdict.p_holm is None and verdict.p is not None:
        return f"{tables.p_value(verdict.p)}, uncorrected"
    return tables.p_value(verdict.p_holm)


def detail_table(judged):
    """Every test of one source."""
    return pd.DataFrame([
        {
            "Claim": v.claim,
            **_combination(v),
            "Verdict": MARKS[v.verdict],
            "Effect": v.effect,
            "p (Holm)": _p_value(v),
            "Smallest p": tables.p_value(v.smallest_p),
            "Test": v.test,
        }
        for v in judged
    ])
