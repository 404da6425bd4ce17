"""Named presets (how much to run), protocols (how to train) and contrasts (which networks are changed how)."""

from rfkit.presets.contrasts import CELLS as CONTRAST_CELLS
from rfkit.presets.contrasts import CONTRASTS, EQUAL_COMPUTATION, MARGIN_POINTS, SHORTER_EPOCHS, Contrast, of_contrasts
from rfkit.presets.contrasts import FRESH as FRESH_NETWORKS
from rfkit.presets.contrasts import LABELS as CONTRAST_LABELS
from rfkit.presets.contrasts import NETWORK as CONTRAST_NETWORK
from rfkit.presets.contrasts import OUTCOMES as CONTRAST_OUTCOMES
from rfkit.presets.contrasts import label as contrast_label
from rfkit.presets.presets import (
    CHOICES,
    CONTRAST_NETS,
    CURVE_RATES,
    FINE_TUNED_RATE,
    NEVER_PRUNED,
    PAPER_RATES,
    PROTOCOL_FINE_TUNING,
    PROTOCOL_TRAINING,
    Pairs,
    Preset,
    Spectrum,
    changes,
    field_px,
    get,
    names,
)
