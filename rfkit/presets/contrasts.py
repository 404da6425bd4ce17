"""The contrasts fixed before the study: networks changed in other ways than by the level pool, and what is expected."""

from dataclasses import dataclass, replace

from rfkit.presets.presets import CONTRAST_NETS

MARGIN_POINTS = 0.5
"""How many points of accuracy count as no difference, fixed before the study."""
NETWORK = "vgg19"
MARGIN_RATE = 0.05
OUTCOMES = {"dense": "dense accuracy (%)", "breaking_point": "breaking point"}
LABELS = {
    "vgg19": "level {}",
    CONTRAST_NETS + "centre_taps": "level {}, centre taps",
    CONTRAST_NETS + "open_third_pool": "level {}, third pool open",
    CONTRAST_NETS + "enlarged": "level {}, image enlarged",
    CONTRAST_NETS + "blurred": "level {}'s pool at stride 1",
    CONTRAST_NETS + "dilated": "level {}, dilated",
}
EQUAL_COMPUTATION = {2: 5 / 64, 3: 3 / 64}
"""Widths at which the network takes as many multiplications at level 1 as at a level at width 1/8."""
SHORTER_EPOCHS = (3, 5, 8, 12)
"""How long level 1 is trained to be compared at the training loss of the other levels."""
FRESH = {
    "datasets": "cifar10", "architectures": NETWORK, "seeds": (6, 7, 8), "rates": tuple(n / 50 for n in range(20, 50))
}  # fmt: skip
"""Trained after all others, pruned at rates 0.02 apart, to see whether the findings hold."""


@dataclass(frozen=True)
class Contrast:
    """One network against another, and what would speak for a cause."""

    key: str  #: D1 to D6, with the level where there are several.
    cause: str  #: What the contrast would speak for.
    cell: tuple[str, int]  #: (architecture, level) of the changed network.
    against: tuple[str, int]  #: The same of the network it is set against.
    outcome: str  #: Column of `rfkit.outcomes.by_run`.
    #: ``"higher"`` or ``"lower"`` than the other, ``"equal"`` within the margin, or ``"nearer"`` to the third network
    #: than to the other.
    expected: str
    margin: float | None = None  #: For ``"equal"``, in the unit of the outcome.
    #: (architecture, level) of a third network, for ``"nearer"``, or as the end of a way on which the changed network
    #: has gone some share.
    third: tuple[str, int] | None = None


def _net(name, level):
    return CONTRAST_NETS + name, level


CONTRASTS = (
    Contrast("D1", "dead weights", _net("centre_taps", 1), (NETWORK, 1), "breaking_point", "higher",
             third=(NETWORK, 3)),
    Contrast("D2", "dead weights", _net("open_third_pool", 3), (NETWORK, 3), "breaking_point", "lower"),
    Contrast("D3", "field and final map", _net("open_third_pool", 3), (NETWORK, 2), "breaking_point", "equal",
             MARGIN_RATE),
    Contrast("D3, post hoc", "field and final map", _net("open_third_pool", 3), (NETWORK, 2), "dense", "equal",
             MARGIN_POINTS),
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
"""As fixed in *Written before the results*, and the other outcome of D3, seen afterwards; D7 needs no training.

:meta hide-value:
"""
CELLS = tuple(dict.fromkeys(contrast.cell for contrast in CONTRASTS))


def label(architecture, level):
    """A network of a contrast in a few words."""
    return LABELS[architecture].format(level)


def of_contrasts(preset):
    """The changed networks of the contrasts, trained as a preset trains the VGG19-like one."""
    datasets = tuple(name for name in preset.datasets if name != "tiny_imagenet") or preset.datasets
    architectures = tuple(dict.fromkeys(architecture for architecture, _ in CELLS))
    levels = tuple(sorted({level for _, level in CELLS}))
    every = [(dataset, a, level) for dataset in datasets for a in architectures for level in levels]
    few = preset.spectrum and replace(preset.spectrum, k=min(10, preset.spectrum.k), probes=1)
    return replace(
        preset, datasets=datasets, architectures=architectures, levels=levels, pairs=None, spectrum=few,
        left_out=tuple(cell for cell in every if cell[1:] not in CELLS),
    )  # fmt: skip
