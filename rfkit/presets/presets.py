"""Named presets (how much to run) and protocols (how to train): the two are orthogonal."""

from dataclasses import dataclass, replace
from types import MappingProxyType

from rfkit.config import (
    PROTOCOLS,
    ConfigError,
    TrainConfig,
    check_keys,
    dataset_names,
    literal,
    one_of,
    whole,
    width_factor,
)
from rfkit.data import COPIES, DATASETS, PAPER_DATASET_BY_SIZE

PAPER_RATES = (0.5, 0.6, 0.7, 0.8, 0.9)
FINE_TUNED_RATE = 0.9
CURVE_RATES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
NEVER_PRUNED = ("first_conv", "last_linear")
"""What the author's code leaves alone."""
CHOICES = ("datasets", "architectures", "levels", "seeds", "rates", "epochs", "width", "precision", "compiled")
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
    """Which Hessian spectra are computed, before and after training."""

    k: int  #: Largest eigenvalues.
    images: int  #: Of the training set, so many.
    probes: int  #: Starting vectors of the density.
    steps: int  #: Lanczos steps from each.
    seeds: tuple[int, ...]  #: Of these seeds only.
    levels: tuple[int, ...] | None = None  #: At these levels only; ``None`` for all.
    datasets: tuple[str, ...] = ("cifar10",)  #: Beside these data sets of the paper only, by image size.
    author_steps: int = 90  #: Lanczos steps of the author's construction.


@dataclass(frozen=True)
class Pairs:
    """Which pairs of seeds are compared, before and after training."""

    images: int  #: Of the test set, so many.
    levels: tuple[int, ...] | None = None  #: At these levels only; ``None`` for all.
    points: int = 11  #: Points on the straight line between the two trained networks.
    line_images: int = 512  #: Of the training set, so many, for the loss on that line.


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
        for level in self.levels:
            whole("one of levels", level, 1)
        for seed in self.seeds:
            whole("one of seeds", seed, 0)
        for rate in self.rates:
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
                raise ConfigError(f"rates holds {rate!r}; expected fractions in [0, 1), such as 0.9")
        for field in ("datasets", "architectures"):
            for name in getattr(self, field):
                if not isinstance(name, str):
                    raise ConfigError(f"{field} holds {name!r}; expected names")
        for field in ("datasets", "architectures", "levels", "seeds", "rates"):
            values = getattr(self, field)
            if not values or len(set(values)) != len(values):
                raise ConfigError(f"{field} is {list(values)}; expected at least one value, each only once")
        for dataset in self.datasets:
            if not dataset.startswith("folder:"):
                one_of("data set", dataset, (*DATASETS, "folder:PATH"))
        for architecture in self.architectures:
            if ":" not in architecture:
                one_of("architecture", architecture, ("vgg19", "resnet50", "module:callable"))

    def select(self, **changes):
        """A preset with some fields changed; ``None`` keeps a field as it is.

        Args:
            **changes: `datasets`, `architectures`, `levels`, `seeds`, `rates` (lists, a single value, or a text such
                as ``"1,3"``; an integer for `seeds` given as ``3`` is one seed, number 3), `epochs`, `width`,
                `protocol`, `precision`, `compiled`. Spectra and pairs of seeds are computed at all of the
                levels if these leave out every one of the preset's own.

        Returns:
            `Preset`.

        Raises:
            ConfigError: If a field or a value is not valid; the message lists the valid ones.
        """
        lists = ("datasets", "architectures", "levels", "seeds", "rates")
        check_keys("parameter", changes, (*CHOICES, "protocol"))
        given = {key: _plain(value) for key, value in changes.items() if value is not None}
        for key in lists:
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
        """The rate that figures single out, the paper's 0.9 where it is run, else the highest."""
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
        base = PROTOCOL_TRAINING[self.protocol]
        dataset = COPIES.get(dataset, dataset)
        like = "vgg19" if architecture.startswith(CONTRAST_NETS) else architecture
        exceptions = [n for (name, net), n in self.epochs_of if (name, net) == (dataset, like)]
        epochs = [*exceptions, self.epochs or base.epochs][0]
        changes = {"epochs": epochs, "precision": self.precision, "compiled": self.compiled}
        if dataset == "digits":  # a mirrored digit is another sign, and few images ask for smaller batches
            changes |= {"augmentation": "crop", "batch_size": 64, "lr": min(base.lr, 0.05)}
        elif dataset == "tiny_imagenet" and self.protocol != "short":
            changes |= {"augmentation": "resized_crop_flip", "train_share": 0.95 if self.protocol == "as_run" else 1.0}
        return replace(base, **changes)

    def spectrum_of(self, image_size, level, seed):
        """Which spectrum is computed for a unit."""
        wanted = self.spectrum
        if wanted is None or seed not in wanted.seeds or PAPER_DATASET_BY_SIZE.get(image_size) not in wanted.datasets:
            return None
        if wanted.levels is not None and level not in wanted.levels:
            return None
        names = ("k", "images", "probes", "steps", "author_steps")
        return {name: getattr(wanted, name) for name in names}

    def fine_tuning(self, dataset, seed):
        """How the pruned networks of a cell are fine-tuned: rate, `TrainConfig`, frozen_batchnorm; or None."""
        if self.fine_tuned_seeds is not None and seed not in self.fine_tuned_seeds:
            return None
        base, dataset = PROTOCOL_FINE_TUNING[self.protocol], COPIES.get(dataset, dataset)
        changes = {"epochs": self.fine_tuning_epochs or base.epochs, "precision": self.precision}
        changes["compiled"] = self.compiled
        if dataset == "digits":  # 23 steps an epoch, where CIFAR-10 has 391
            changes |= {"augmentation": "crop", "batch_size": 64, "lr": base.lr * 10}
        elif dataset == "tiny_imagenet" and self.protocol != "short":
            share = 5_000 / 100_000 if self.protocol == "as_run" else 1.0
            changes |= {"augmentation": "resized_crop_flip", "train_share": share}
        train = replace(base, **changes)
        return {"rate": FINE_TUNED_RATE, "train": train, "frozen_batchnorm": self.protocol == "as_run"}


def changes(preset, base):
    """Protocol and choices in which a preset differs from another one; epochs also where only the exceptions differ."""
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
    """A preset by name.

    Args:
        name: One of `names`.
        protocol: One of `rfkit.config.PROTOCOLS`; ``None`` for the preset's own.

    Returns:
        `Preset`.

    Raises:
        ConfigError: If the name or the protocol is unknown.
    """
    preset = _PRESETS[one_of("preset", name, names())]
    return preset if protocol is None else replace(preset, protocol=protocol)
