"""The claims ledger as readers see it: tables of verdicts."""

import pandas as pd

from rfkit import tables
from rfkit.claims.judging import CLAIMS, CONTRADICTED, SUPPORTED, UNDECIDED, in_order

MARKS = {SUPPORTED: "✓ supported", CONTRADICTED: "✗ contradicted", UNDECIDED: "? undecided"}
IN_SHORT = {
    "C1": "dense accuracy", "C2": "breaking point", "C3": "gap at 0.9", "C4": "pruned to 0.9", "C5": "only above 0.8",
    "C6": "gap, fine-tuned", "C7": "eigenvalue", "C8": "similarity", "C9": "everywhere", "C10": "landscape",
    "E1": "every step", "E2": "five networks", "E3": "gradient, true", "E4": "pattern, as printed", "E5": "weights",
    "E6": "gradient, as printed", "E7": "pattern, true", "E8": "only above 0.8, accuracy",
}  # fmt: skip


def verdict_table(sources):
    """The claims in words, and a column per network and data set: a mark for each source, in their order."""
    judged = [(name, v) for name, verdicts in sources.items() for v in verdicts]
    marks = {(name, v.claim, _combination(v)): MARKS[v.verdict][0] for name, v in judged}
    tested = dict.fromkeys(_combination(v) for v in in_order(v for _, v in judged))
    rows = []
    for claim, words in CLAIMS.items():
        row = {"The paper says": words}
        for network, data in sorted(tested, key=lambda pair: "all" in pair):
            each = [marks.get((name, claim, (network, data))) for name in sources]
            title = network if data == "all" else f"{network}, {data}"
            row[title] = " ".join(mark or tables.MISSING for mark in each) if any(each) else ""
        rows.append(row | {"Claim": claim})
    return pd.DataFrame(rows)


def _combination(verdict):
    return tables.label(verdict.architecture) or "all", tables.label(verdict.dataset) or "all"


def detail_table(judged):
    """Every test of one source; columns of which nothing is known, as p-values of printed means, are left out."""
    rows = []
    for v in judged:
        network, data = _combination(v)
        p = tables.p_value(v.p) + ", uncorrected" if v.p_holm is None and v.p is not None else tables.p_value(v.p_holm)
        claim = f"{v.claim} {IN_SHORT[v.claim]}"
        row = {"Claim": claim, "Network": network, "Data": data, "Verdict": MARKS[v.verdict], "Effect": v.effect}
        rows.append(row | {"p (Holm)": p, "Smallest p": tables.p_value(v.smallest_p), "Test": v.test})
    table = pd.DataFrame(rows)
    return table.loc[:, (table != tables.MISSING).any()]
