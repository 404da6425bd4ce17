"""One colour, marker and line style per RF level, through the whole book; safe for colour-blind readers."""

# Okabe and Ito's palette
LEVEL_STYLE = {1: ("#0072B2", "o", "-"), 2: ("#E69F00", "s", "--"), 3: ("#009E73", "^", "-."), 4: ("#D55E00", "D", ":")}
OTHER_LEVELS = ("#CC79A7", "v", (0, (3, 1, 1, 1)))
STYLES = (*LEVEL_STYLE.values(), OTHER_LEVELS, ("#56B4E9", "P", (0, (5, 1))))
