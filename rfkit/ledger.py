"""The claims ledger as readers see it: tables of verdicts."""

import pandas as pd

from rfkit import tables
from rfkit.claims import CLAIMS, CONTRADICTED, SUPPORTED, UNDECIDED, in_order
from rfkit.published import DATASET_LABELS

MARKS = {SUPPORTED: "✓ supported", CONTRADICTED: "✗ contradicted", UNDECIDED: "? undecided"}


def statements():
    """The claims in words.

    Returns:
        Data frame: Claim, The paper says.
    """
    return pd.DataFrame({"Claim": CLAIMS.keys(), "The paper says": CLAIMS.values()})


def verdicts(sources):
    """All verdicts side by side.

    Args:
        sources: Mapping of a name, such as "Paper's numbers", to a list of `rfkit.claims.Verdict`.

    Returns:
        Data frame, one row a claim and combination: Claim, Network, Data, and a column a source with its verdict; a
        dash where the source cannot test the claim. A claim that no source can test has a row of dashes.
    """
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


def counts(sources):
    """How often the confirmatory claims came out which way.

    Args:
        sources: Mapping of a name to the verdicts of `rfkit.claims.judge`.

    Returns:
        Data frame, one row a source.
    """
    rows = []
    for name, judged in sources.items():
        confirmatory = [v for v in judged if v.claim.startswith("C")]
        found = {kind: sum(v.verdict == kind for v in confirmatory) for kind in (SUPPORTED, CONTRADICTED, UNDECIDED)}
        rows.append({"Evidence": name, "Tests": len(confirmatory)} | {k.capitalize(): n for k, n in found.items()})
    return pd.DataFrame(rows)


def behind_tables(counted):
    """Means that are not over five networks, for readers.

    Args:
        counted: As made by `rfkit.evidence.seeds_behind_tables`.

    Returns:
        Data frame, one row a network and number of networks, with the tables and levels that have it.
    """

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


def details(judged):
    """Every test of one source.

    Args:
        judged: List of `rfkit.claims.Verdict`.

    Returns:
        Data frame: Claim, Network, Data, Verdict, Effect, p (Holm), Smallest p, Test.
    """
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
