"""The answer in five rows, for the first page and the conclusion."""

import pandas as pd

from rfkit.claims import CONTRADICTED, SUPPORTED
from rfkit.tables import MISSING

QUESTIONS = (
    (
        "A larger receptive field costs accuracy.", ("C1",), "s33-accuracy", "holds",
        "Accuracy falls in every network and data set. The cause is open. Of two networks with an equal field, the one "
        "with coarser maps after the pool is 8 points worse. Our one network with a larger field at equal maps, made "
        "by dilation, loses 14, but dilation changes more than the field. Less computation may be part of it: level "
        "1, narrowed until it computes as little as level 2 or 3, cannot be told apart from them.",
    ),
    (
        "A network with a larger field tolerates more pruning.", ("C2", "C3"), "beyond", "partly",
        "By the pruning rate that the paper prints, it mostly does; four ResNet50s of the paper's width do not. In "
        "the VGG19-like network on 32-pixel images most of that is dead weights, which only ever meet padding. Where "
        "none is dead, most networks with larger fields still break (lose 5 points) later. On CIFAR-10 most of the "
        "gain seems to lie in late layers that can be spared: when every layer loses the same share, little is left.",
    ),
    (
        "The difference needs more than 80 % of the weights to go.", ("C5",), "supp-rates", "does not hold",
        "Larger fields mostly lose less at lower rates, too. (The accuracy that is left is another question: in the "
        "author's VGG19-like networks on CIFAR-10 it tends to rise with the field only above 0.8, and in ours already "
        "at 0.8.)",
    ),
    (
        "Larger fields begin in a rougher loss landscape.", ("C7",), "s33-landscape", "partly",
        "Before training they mostly do, but a larger field is not needed for it: networks end in a mean over the "
        "positions of their last map, and at the largest fields there is only one. Let the smallest field read one "
        "position instead of the mean, and its loss is 9 times (VGG19-like) and 22 times (ResNet50) as curved.",
    ),
    (
        "Larger fields make the deep layers of two seeds less alike.", ("C8",), "s33-representations", "partly",
        "Much less alike in ResNet50 (similarity falls from 0.83 to 0.26, of the deep blocks' outputs from 0.92 to "
        "0.46), though at level 3 pairs of seeds disagree (0.33, 0.46 and 0.74); hardly less alike in the VGG19-like "
        "network (0.87 to 0.85).",
    ),
)  # fmt: skip
"""What the paper says, the claims that test it, the chapter, the verdict and why."""
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
    for question, claims, chapter, verdict, why in QUESTIONS:
        mark, style = LOOKS[verdict]
        became = f'<span class="verdict {style}">{mark} {verdict}.</span> {why}'
        counts = {name: _counted([each for each in judged if each.claim in claims]) for name, judged in sources.items()}
        on_a_phone = "; ".join(f"{name.lower()}: {count}" for name, count in counts.items())
        became += f' <span class="counts">{on_a_phone}</span>'
        rows.append({"The paper says": f"[{question}](#{chapter})", "What became of it": became} | counts)
    return pd.DataFrame(rows)


def _counted(judged):
    if not judged:
        return MISSING
    for_it, against = (sum(each.verdict == kind for each in judged) for kind in (SUPPORTED, CONTRADICTED))
    counts = {"✓": for_it, "✗": against, "?": len(judged) - for_it - against}
    return ", ".join(f"{mark}\u00a0{count}" for mark, count in counts.items() if count)
