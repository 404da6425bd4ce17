"""Named presets (how much to run), protocols (how to train) and contrasts (which networks are changed how)."""

import re
from dataclasses import dataclass, replace
from types import MappingProxyType

from rfkit.config import PRECISIONS, PROTOCOLS, ConfigError, TrainConfig, literal, one_of, whole, width_factor
from rfkit.data import COPIES, DATASETS, PAPER_DATASET_BY_SIZE

PAPER_RATES = (0.5, 0.6, 0.7, 0.8, 0.9)
FINE_TUNED_RATE = 0.9
CURVE_RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
NEVER_PRUNED = ("first_conv", "last_linear")
"""What the author's code leaves alone."""
LISTS = ("datasets", "architectures", "levels", "seeds", "rates")
CHOICES = (*LISTS, "epochs", "width", "precision", "compiled")
"""What a notebook or a command may choose of a preset, beside its protocol."""
CONTRAST_NETS = "rfkit.contrast_nets:"
"""Networks of this module are trained as the VGG19-like one that they change."""

PROTOCOL_TRAINING = MappingProxyType({
    # the paper's Sec. 3.1; batch size is not stated there, 128 is the author's
    "as_stated": TrainConfig(epochs=200, lr=1e-4, weight_decay=5e-5, clip_value=0.1),
    "as_run": TrainConfig(epochs=200, lr=0.1, selection="best_test"),
    "careful": TrainConfig(epochs=200, lr=0.1),
    "short": TrainConfig(epochs=8, lr=0.1, nesterov=True, schedule="one_cycle"),
})
PROTOCOL_FINE_TUNING = MappingProxyType({
    # the text's list; "as_run" saw 5,000 images, kept batch norm frozen and took the best test accuracy
    "as_stated": TrainConfig(epochs=10, lr=1e-4, schedule="constant", clip_value=0.1),
    "as_run": TrainConfig(epochs=10, lr=1e-4, schedule="constant", train_share=0.1, selection="best_test"),
    "careful": TrainConfig(epochs=10, lr=1e-4, schedule="constant"),
    # about the same product of learning rate and steps as above, in fewer epochs
    "short": TrainConfig(epochs=3, lr=1e-3, nesterov=True, schedule="one_cycle"),
})


@dataclass(frozen=True)
class Spectrum:
    """Which Hessian spectra are computed, before and after training, on images of CIFAR-10's size."""

    k: int  #: Largest eigenvalues.
    images: int  #: Number of training images.
    probes: int  #: Starting vectors for the density.
    steps: int  #: Lanczos steps from each.
    seeds: tuple[int, ...]  #: For these seeds only.
    levels: tuple[int, ...] | None = None  #: At these levels only; ``None`` for all.
    author_steps: int = 90  #: Lanczos steps in the author's construction.


@dataclass(frozen=True)
class Pairs:
    """Which pairs of seeds are compared, before and after training."""

    images: int  #: Number of test images.
    levels: tuple[int, ...] | None = None  #: At these levels only; ``None`` for all.
    points: int = 11  #: Points on the straight line between the two trained networks.
    line_images: int = 512  #: Number of training images for the loss on that line.


@dataclass(frozen=True)
class Preset:
    """How much to run: data sets, networks, levels, seeds, width, epochs, pruning rates."""

    name: str  #: ``smoke``, ``demo``, ``study`` or ``paper``.
    protocol: str  #: One of `rfkit.config.PROTOCOLS`.
    datasets: tuple[str, ...]  #: As in `rfkit.data.load`.
    purpose: str  #: One sentence for people.
    architectures: tuple[str, ...] = ("vgg19", "resnet50")  #: As in `rfkit.models.build`.
    levels: tuple[int, ...] = (1, 2, 3, 4)  #: RF levels.
    seeds: tuple[int, ...] = (0,)  #: Seeds; levels are paired by them.
    width: float = 1.0  #: Factor on the channel counts.
    epochs: int | None = None  #: Epochs of a training; ``None`` for the protocol's own.
    #: Exceptions to `epochs`, as pairs ``((dataset, architecture), epochs)``.
    epochs_of: tuple[tuple[tuple[str, str], int], ...] = ()
    rates: tuple[float, ...] = PAPER_RATES  #: Pruning rates, fractions of the prunable weights.
    fine_tuning_epochs: int | None = None  #: Epochs of fine-tuning; ``None`` for the protocol's own.
    fine_tuned_seeds: tuple[int, ...] | None = None  #: Seeds whose pruned networks are fine-tuned; ``None`` for all.
    spectrum: Spectrum | None = None  #: Hessian spectra; ``None`` for none.
    pairs: Pairs | None = None  #: Pairs of seeds that are compared; ``None`` for none.
    left_out: tuple[tuple[str, str, int], ...] = ()  #: Cells (dataset, architecture, level) that are not run.
    image_limit: tuple[int, int] | None = None  #: Largest number of (training, test) images used; ``None`` for all.
    precision: str = "float32"  #: As in `rfkit.config.TrainConfig`.
    compiled: bool = False  #: As in `rfkit.config.TrainConfig`.

    def __post_init__(self):
        """Check every list of values, as `ConfigError`."""
        one_of("protocol", self.protocol, PROTOCOLS)
        one_of("precision", self.precision, PRECISIONS)
        for field, least in (("levels", 1), ("seeds", 0)):
            for value in getattr(self, field):
                whole(f"one of {field}", value, least)
        for rate in self.rates:
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
                raise ConfigError(f"rates holds {rate!r}; expected fractions in [0, 1), such as 0.9")
        for field in ("datasets", "architectures"):
            for name in getattr(self, field):
                if not isinstance(name, str):
                    raise ConfigError(f"{field} holds {name!r}; expected names")
        for field in LISTS:
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{field} is {list(values)}; expected at least one value, each only once")
        for dataset in self.datasets:
            if not dataset.startswith("folder:"):
                one_of("data set", dataset, (*DATASETS, "folder:PATH"))
        for architecture in self.architectures:
            if ":" not in architecture:
                one_of("architecture", architecture, ("vgg19", "resnet50", "module:callable"))
        if not self.cells():
            left_out = "; ".join(f"{dataset}, {network}, level {lv}" for dataset, network, lv in self.left_out)
            raise ConfigError(f"nothing is left to run: preset {self.name!r} leaves out {left_out}; ask for more")

    def select(self, **changes):
        """A preset with some of `CHOICES` and its protocol changed; ``None`` keeps a field as it is.

        Lists may be a single value (``seeds=3`` is seed number 3) or a text such as ``"1,3"``. If no chosen
        level is one of those for which the preset plans spectra or pairs of seeds, they are computed at all chosen
        levels. A `ConfigError` names a field or value that is not valid, and the valid ones.
        """
        for key in changes:
            one_of("parameter", key, (*CHOICES, "protocol"))
        given = {key: _plain(value) for key, value in changes.items() if value is not None}
        for key in LISTS:
            if key in given:
                read = dataset_names if key == "datasets" else literal
                value = read(given[key]) if isinstance(given[key], str) else given[key]
                given[key] = tuple(map(_plain, value)) if isinstance(value, list | tuple | range) else (value,)
        for key in ("levels", "rates"):
            if all(isinstance(v, int | float) and not isinstance(v, bool) for v in given.get(key, ("none",))):
                given[key] = tuple(sorted(round(value, 6) for value in given[key]))  # 0.1 + 0.2 is a rate of 0.3
        for key in ("spectrum", "pairs") if "levels" in given else ():
            part = getattr(self, key)
            if part and part.levels and not any(level in part.levels for level in given["levels"]):
                given[key] = replace(part, levels=None)
        for key in ("epochs", "width"):
            given |= {key: literal(given[key])} if isinstance(given.get(key), str) else {}
        if "epochs" in given:
            whole("epochs", given["epochs"], 1)
            given["epochs_of"] = ()
        if "width" in given:
            given["width"] = width_factor(given["width"])
        return replace(self, **given)

    @property
    def headline_rate(self):
        """The rate that figures single out: the paper's 0.9 if it is run, else the highest."""
        return 0.9 if 0.9 in self.rates else max(self.rates)

    @property
    def seed_pairs(self):
        """Pairs of seeds that are compared; no seed is in two of them, so that they are independent."""
        return tuple(zip(self.seeds[::2], self.seeds[1::2], strict=False)) if self.pairs else ()

    def cells(self):
        """Every (dataset, architecture, level) of the preset."""
        every = ((d, a, lv) for d in self.datasets for a in self.architectures for lv in self.levels)
        return [cell for cell in every if cell not in self.left_out]

    def training(self, dataset, architecture):
        """How the networks of a cell are trained."""
        base, dataset = PROTOCOL_TRAINING[self.protocol], COPIES.get(dataset, dataset)
        like = "vgg19" if architecture.startswith(CONTRAST_NETS) else architecture
        epochs = dict(self.epochs_of).get((dataset, like), self.epochs or base.epochs)
        return self._fitted(base, dataset, epochs, lr=min(base.lr, 0.05), share=0.95)

    def _fitted(self, base, dataset, epochs, lr, share):
        """A protocol's training, fitted to a data set; `lr` is for digits, `share` the author's for Tiny ImageNet."""
        changes = {"epochs": epochs, "precision": self.precision, "compiled": self.compiled}
        if dataset == "digits":  # a mirrored digit is no digit, and few images call for smaller batches
            changes |= {"augmentation": "crop", "batch_size": 64, "lr": lr}
        elif dataset == "tiny_imagenet" and self.protocol != "short":
            changes |= {"augmentation": "resized_crop_flip", "train_share": share if self.protocol == "as_run" else 1.0}
        return replace(base, **changes)

    def spectrum_of(self, image_size, level, seed):
        """The `Spectrum` that is computed for a unit, or None."""
        wanted = self.spectrum
        if wanted is None or seed not in wanted.seeds or PAPER_DATASET_BY_SIZE.get(image_size) != "cifar10":
            return None
        return wanted if wanted.levels is None or level in wanted.levels else None

    def fine_tuning(self, dataset, seed):
        """How the pruned networks of a cell are fine-tuned: rate, `TrainConfig`, frozen_batchnorm; or None."""
        if self.fine_tuned_seeds is not None and seed not in self.fine_tuned_seeds:
            return None
        base, dataset = PROTOCOL_FINE_TUNING[self.protocol], COPIES.get(dataset, dataset)
        epochs = self.fine_tuning_epochs or base.epochs
        # digits have 23 steps per epoch, CIFAR-10 has 391
        train = self._fitted(base, dataset, epochs, lr=base.lr * 10, share=5_000 / 100_000)
        return {"rate": FINE_TUNED_RATE, "train": train, "frozen_batchnorm": self.protocol == "as_run"}


def dataset_names(text):
    """Data sets given as text, ``digits,folder:my pictures``; a comma inside the path of a folder is part of it."""
    text = text.strip()
    text = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    names = "|".join(DATASETS)
    next_name = rf"""(?=\s*['"]?(?:folder:|(?:{names})['"]?\s*(?:,|$)))"""
    parts = re.split("," + (next_name if "folder:" in text else ""), text)
    return [name for part in parts if (name := part.strip().strip("'\""))]


def changes(preset, base):
    """The protocol and choices in which two presets differ; epochs also where only the exceptions differ."""
    found = {name for name in ("protocol", *CHOICES) if getattr(preset, name) != getattr(base, name)}
    found |= {"epochs"} if preset.epochs_of != base.epochs_of else set()
    return {name: getattr(preset, name) for name in ("protocol", *CHOICES) if name in found}


def _plain(value):
    """Python's own number or list for one of numpy's."""
    return value.tolist() if hasattr(value, "tolist") else value


def field_px(architecture, level):
    """Receptive field of one unit of the last feature map.

    Source: Paper Sec. 3.3; the paper prints 110 for ResNet50 at level 1, where 108 is exact.
    """
    per_level = {"vgg19": 178, "resnet50": 105}.get(architecture)
    return None if per_level is None else 3 + per_level * level


_PAPER = Preset(
    name="paper",
    protocol="as_stated",
    datasets=("cifar10", "tiny_imagenet"),
    purpose="exactly the paper: full width, 200 epochs, 5 seeds; days on a GPU",
    seeds=(0, 1, 2, 3, 4),
    spectrum=Spectrum(k=90, images=10_000, probes=10, steps=90, seeds=(0, 1, 2)),
    pairs=Pairs(images=1_000),
    left_out=(("tiny_imagenet", "resnet50", 1),),
)
_STUDY = replace(
    _PAPER,
    name="study",
    protocol="short",
    purpose="the recorded study: copies of the paper's data, width 1/8, short schedules; hours on two cores",
    seeds=(0, 1, 2, 3, 4, 5),
    width=1 / 8,
    epochs=10,
    epochs_of=((("cifar10", "vgg19"), 30),),
    rates=CURVE_RATES,
    spectrum=Spectrum(k=90, images=128, probes=2, steps=60, seeds=(0, 1, 2)),
)
_DEMO = replace(
    _STUDY,
    name="demo",
    datasets=("digits",),
    purpose="real training on 1,797 embedded digits, in minutes on a laptop",
    seeds=(0, 1, 2),
    fine_tuned_seeds=(0,),
    spectrum=Spectrum(k=8, images=16, probes=2, steps=16, seeds=(0,), levels=(1, 4), author_steps=30),
    pairs=Pairs(images=200, levels=(1, 4), points=9, line_images=128),
    epochs=8,
    epochs_of=(),
    left_out=(),
)
_SMOKE = replace(
    _DEMO,
    name="smoke",
    purpose="a test that everything runs, in seconds; its numbers mean nothing",
    levels=(1, 3),
    seeds=(0,),
    width=1 / 16,
    epochs=1,
    fine_tuning_epochs=1,
    spectrum=Spectrum(k=2, images=8, probes=1, steps=4, seeds=(0,), levels=(3,), author_steps=4),
    pairs=Pairs(images=16, points=3, line_images=16),
    rates=(0.5, 0.9),
    image_limit=(256, 128),
)
_PRESETS = MappingProxyType({preset.name: preset for preset in (_SMOKE, _DEMO, _STUDY, _PAPER)})


def names():
    """Names of the presets."""
    return tuple(_PRESETS)


def get(name, protocol=None):
    """The `Preset` of a name, with its own protocol or another one; a `ConfigError` if one of the two is unknown."""
    preset = _PRESETS[one_of("preset", name, names())]
    return preset if protocol is None else replace(preset, protocol=protocol)


MARGIN_POINTS = 0.5
"""How many points of accuracy count as no difference, fixed before the study."""
CONTRAST_NETWORK = "vgg19"
MARGINS = {"dense": MARGIN_POINTS, "breaking_point": 0.05}
"""Outcome to the difference that counts as none."""
CONTRAST_OUTCOMES = {"dense": "dense accuracy (%)", "breaking_point": "breaking point"}
CONTRAST_LABELS = {
    "vgg19": "level {}",
    "resnet50": "level {}",
    CONTRAST_NETS + "centre_taps": "level {}, centre taps",
    CONTRAST_NETS + "open_third_pool": "level {}, third pool open",
    CONTRAST_NETS + "enlarged": "level {}, image enlarged",
    CONTRAST_NETS + "blurred": "level {}'s pool at stride 1",
    CONTRAST_NETS + "dilated": "level {}, dilated",
}
EQUAL_COMPUTATION = {2: 5 / 64, 3: 3 / 64}
"""Level to the width at which level 1 needs as many multiplications as that level does at width 1/8."""
SHORTER_EPOCHS = (3, 5, 8, 12)
"""Epochs of level 1, so that it can be compared with the other levels at equal training loss."""
FRESH_NETWORKS = {
    "datasets": "cifar10", "architectures": CONTRAST_NETWORK, "seeds": (6, 7, 8),
    "rates": tuple(n / 50 for n in range(20, 50)),
}  # fmt: skip
"""Trained after all others, pruned at rates 0.02 apart, to see whether the findings hold."""
THIRD_PAIRS = (
    {"datasets": "cifar10", "architectures": "resnet50", "seeds": (6, 7)},
    {"datasets": "cifar10", "architectures": "vgg19", "seeds": (9, 10)},
)
"""Trained to have three pairs: of each network one of the planned pairs kept no weights."""


@dataclass(frozen=True)
class Contrast:
    """One network against another, and what would speak for a cause."""

    key: str  #: D1 to D6, with the level where there are several.
    cause: str  #: What the contrast would speak for.
    cell: tuple[str, int]  #: (architecture, level) of the changed network.
    against: tuple[str, int]  #: The same for the network it is compared with.
    outcome: str  #: Column of `rfkit.outcomes.by_run`.
    #: ``"higher"`` or ``"lower"`` than the other, ``"equal"`` within `MARGINS`, or ``"nearer"`` to the third network
    #: than to the other.
    expected: str
    #: (architecture, level) of a third network: for ``"nearer"``, or to say what share of the way from the other
    #: network to this one the change goes.
    third: tuple[str, int] | None = None


def _net(level, change=None):
    return (CONTRAST_NETS + change if change else CONTRAST_NETWORK), level


CONTRASTS = (
    Contrast("D1", "dead weights", _net(1, "centre_taps"), _net(1), "breaking_point", "higher", third=_net(3)),
    Contrast("D2", "dead weights", _net(3, "open_third_pool"), _net(3), "breaking_point", "lower"),
    Contrast("D3", "field and final map", _net(3, "open_third_pool"), _net(2), "breaking_point", "equal"),
    Contrast("D3b", "field and final map (post hoc)", _net(3, "open_third_pool"), _net(2), "dense", "equal"),
    *(Contrast(f"D4, level {n}", "resolution", _net(n, "enlarged"), _net(1), "dense", "equal") for n in (2, 3, 4)),
    Contrast("D5", "blur", _net(3, "blurred"), _net(1), "dense", "lower"),
    Contrast("D6", "the field", _net(1, "dilated"), _net(1), "dense", "nearer", third=_net(2)),
    Contrast("D6", "the field", _net(1, "dilated"), _net(1), "breaking_point", "nearer", third=_net(2)),
)
"""As fixed in *Written before the results*, and the other outcome of D3, seen afterwards; D7 needs no training.

:meta hide-value:
"""
CONTRAST_CELLS = tuple(dict.fromkeys(contrast.cell for contrast in CONTRASTS))


def contrast_label(architecture, level):
    """A network of a contrast in a few words."""
    return CONTRAST_LABELS[architecture].format(level)


def of_contrasts(preset):
    """The changed networks of the contrasts, trained as a preset trains the VGG19-like one."""
    datasets = tuple(name for name in preset.datasets if name != "tiny_imagenet") or preset.datasets
    architectures = tuple(dict.fromkeys(architecture for architecture, _ in CONTRAST_CELLS))
    levels = tuple(sorted({level for _, level in CONTRAST_CELLS}))
    every = [(dataset, a, level) for dataset in datasets for a in architectures for level in levels]
    few = preset.spectrum and replace(preset.spectrum, k=min(10, preset.spectrum.k), probes=1)
    return replace(
        preset, datasets=datasets, architectures=architectures, levels=levels, pairs=None, spectrum=few,
        left_out=tuple(cell for cell in every if cell[1:] not in CONTRAST_CELLS),
    )  # fmt: skip
