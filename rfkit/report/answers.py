"""The answer in five rows, for the first page and the conclusion."""

import pandas as pd

from rfkit.claims import CONTRADICTED, SUPPORTED
from rfkit.files import read_reference
from rfkit.tables import MISSING

LOOKS = {"holds": ("✓", "holds"), "partly": ("◐", "partly"), "does not hold": ("✗", "fails")}
"""Verdict to its mark and the class of its colour."""


def answer_table(sources):
    """What was claimed and what became of it, in five rows.

    Args:
        sources: Mapping of a name to verdicts, as for `rfkit.claims.verdict_table`.

    Returns:
        Data frame: the claim; the verdict with a mark, and why; a column per source that counts tests (✓ supported,
        ✗ contradicted, ? undecided).
    """
    rows = []
    for row in read_reference("answers.csv").itertuples():
        mark, style = LOOKS[row.verdict]
        became = f'<span class="verdict {style}">{mark} {row.verdict}.</span> {row.why}'
        claims = row.claims.split()
        counts = {name: _counted([each for each in judged if each.claim in claims]) for name, judged in sources.items()}
        on_a_phone = "; ".join(f"{name.lower()}: {count}" for name, count in counts.items())
        became += f' <span class="counts">{on_a_phone}</span>'
        rows.append({"The paper says": f"[{row.paper_says}](#{row.chapter})", "What became of it": became} | counts)
    return pd.DataFrame(rows)


def _counted(judged):
    if not judged:
        return MISSING
    for_it, against = (sum(each.verdict == kind for each in judged) for kind in (SUPPORTED, CONTRADICTED))
    counts = {"✓": for_it, "✗": against, "?": len(judged) - for_it - against}
    return ", ".join(f"{mark}\u00a0{count}" for mark, count in counts.items() if count)
