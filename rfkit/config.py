"""What a run is: frozen, checked, hashable configurations."""

import ast
import difflib
import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from numbers import Integral

SCHEMA = 1
"""Layout of the stored configuration; a store with a newer one is refused."""
ALGORITHM = 1
"""Raised whenever the same configuration would train to other weights."""

PROTOCOLS = ("as_stated", "as_run", "careful", "short")
PRECISIONS = ("float32", "bfloat16")
AUGMENTATIONS = ("none", "crop", "crop_flip", "resized_crop_flip")
"""Augmentations that `rfkit.training.batches` can apply to a batch."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the value and the valid ones."""


def one_of(what, value, valid):
    """Check that a value is among the valid ones."""
    if value in valid:
        return value
    near = difflib.get_close_matches(str(value), [str(v) for v in valid], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise ConfigError(
        f"unknown {what} {value!r}{hint} Valid: {', '.join(str(v) for v in valid) or 'none, there is none'}"
    )


def whole(field, value, least):
    """Check that a value is a whole number of at least `least`; one of numpy's becomes a plain int."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(f"{field} is {value!r}; expected a whole number of at least {least}")
    return int(value)


def _number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def width_factor(width):
    """Check a factor on channel counts."""
    if not _number(width) or width <= 0:
        raise ConfigError(f"width is {width!r}; expected a positive factor such as 0.125")
    return float(width)


def _require(condition, field, value, expected):
    if not condition:
        raise ConfigError(f"{field} is {value!r}; expected {expected}")


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained with stochastic gradient descent."""

    epochs: int  #: Passes over the training set.
    lr: float  #: Learning rate, the start of a cosine or constant schedule or the peak of one-cycle.
    batch_size: int = 128  #: Images per step.
    momentum: float = 0.9  #: Momentum of SGD.
    nesterov: bool = False  #: Nesterov's form of momentum.
    weight_decay: float = 5e-4  #: L2 coefficient, on every parameter.
    #: ``cosine`` (one step per epoch, ``T_max = epochs``), ``one_cycle`` (one step per batch) or ``constant``.
    schedule: str = "cosine"
    clip_value: float | None = None  #: Each gradient entry is clipped to this magnitude; ``None`` for no clipping.
    augmentation: str = "crop_flip"  #: One of `AUGMENTATIONS`.
    train_share: float = 1.0  #: Share of the training images used, a random subset fixed by the seed.
    selection: str = "last"  #: ``last`` epoch, or ``best_test`` accuracy (only the author's protocol may).
    precision: str = "float32"  #: ``float32`` or ``bfloat16`` (autocast).
    compiled: bool = False  #: Compile the training step; it rounds differently, so it is another run.

    def __post_init__(self):
        """Check every field, as `ConfigError`."""
        object.__setattr__(self, "epochs", whole("epochs", self.epochs, 1))
        object.__setattr__(self, "batch_size", whole("batch_size", self.batch_size, 2))
        _require(_number(self.lr) and self.lr > 0, "lr", self.lr, "a positive learning rate")
        _require(_number(self.momentum) and 0 <= self.momentum < 1, "momentum", self.momentum, "a number in [0, 1)")
        _require(self.momentum > 0 or not self.nesterov, "momentum", self.momentum, "more than 0 for Nesterov's form")
        decay, clip, share = self.weight_decay, self.clip_value, self.train_share
        _require(_number(decay) and decay >= 0, "weight_decay", decay, "a number of at least 0")
        _require(clip is None or (_number(clip) and clip > 0), "clip_value", clip, "None or positive")
        _require(_number(share) and 0 < share <= 1, "train_share", share, "a share in (0, 1]")
        _require(isinstance(self.compiled, bool), "compiled", self.compiled, "True or False")
        one_of("schedule", self.schedule, ("cosine", "one_cycle", "constant"))
        one_of("selection", self.selection, ("last", "best_test"))
        one_of("precision", self.precision, PRECISIONS)
        one_of("augmentation", self.augmentation, AUGMENTATIONS)

    def to_dict(self):
        """Every field as JSON-able values; those added after the first records are left out at their default."""
        content = asdict(self)
        if not self.compiled:
            del content["compiled"]
        return content


@dataclass(frozen=True)
class RunConfig:
    """One training: data, network, protocol, seed. Every field is part of the hash but the seed."""

    dataset: str  #: Short name of the data set, as in `rfkit.data.Source`.
    data_sha256: str  #: Checksum of its content, so that two data sets of one name are never mixed up.
    image_size: int  #: Height and width of the images, in pixels.
    train_images: int  #: Number of training images.
    test_images: int  #: Number of test images.
    architecture: str  #: As in `rfkit.models.build`.
    level: int  #: RF level.
    width: float  #: Factor on the channel counts.
    num_classes: int  #: Outputs of the network.
    protocol: str  #: One of `PROTOCOLS`; a label, its settings are in `train`.
    train: TrainConfig  #: `TrainConfig`.
    seed: int = 0  #: Seed of initial weights, batch order and augmentation.
    architecture_sha256: str = ""  #: Checksum of the source of a user's own network; empty for ours.

    def __post_init__(self):
        """Check the fields that have a fixed set of values, as `ConfigError`."""
        one_of("protocol", self.protocol, PROTOCOLS)
        object.__setattr__(self, "level", whole("level", self.level, 1))
        object.__setattr__(self, "seed", whole("seed", self.seed, 0))
        object.__setattr__(self, "width", width_factor(self.width))
        for field in ("dataset", "architecture"):  # they become part of a folder's name
            name = getattr(self, field)
            _require(not set(name) & set("/\\\0") and ".." not in name, field, name, "a name, not a path")

    def to_dict(self):
        """Every field as JSON-able values, with the schema and algorithm versions."""
        return {"schema": SCHEMA, "algorithm": ALGORITHM, **asdict(self), "train": self.train.to_dict()}

    @property
    def hash10(self):
        """First ten digits of the sha256 of every field but the seed."""
        content = self.to_dict()
        del content["seed"]
        return stable_hash(content)

    @property
    def network(self):
        """What `rfkit.models.build` takes."""
        names = ("architecture", "level", "width", "num_classes")
        return {name: getattr(self, name) for name in names}

    @property
    def folder(self):
        """Folder of this run, relative to its store, ``<dataset>-<architecture>-level<l>-…/seed<k>``."""
        architecture = self.architecture.replace(":", ".")
        name = f"{self.dataset}-{architecture}-level{self.level}-{self.protocol}-{self.hash10}"
        return f"{name}/seed{self.seed}"


def run_config(stored):
    """The inverse of `RunConfig.to_dict`."""
    if not isinstance(stored, dict):
        raise ConfigError(f"configuration is {type(stored).__name__}; expected a mapping of schema {SCHEMA}")
    stored = dict(stored)
    schema, _ = stored.pop("schema", None), stored.pop("algorithm", None)
    if schema != SCHEMA:
        raise ConfigError(f"configuration has schema {schema!r}, this rfkit reads {SCHEMA}; update rfkit to read it")
    try:
        train = TrainConfig(**stored.pop("train"))
        return RunConfig(**stored, train=train)
    except (TypeError, KeyError) as error:
        raise ConfigError(f"configuration does not fit schema {SCHEMA}: {error}") from error


def differences(stored, asked, inside=""):
    """Compare two configurations field by field."""
    found = []
    for key in dict.fromkeys((*stored, *asked)):
        here, there = stored.get(key), asked.get(key)
        if isinstance(here, dict) and isinstance(there, dict):
            found += differences(here, there, f"{inside}{key}.")
        elif here != there:
            found.append(f"{inside}{key}: stored {here!r}, asked {there!r}")
    return found


def stable_hash(content):
    """First ten hexadecimal digits of the sha256 of a JSON-able value; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def literal(value):
    """A value given as text: a Python literal, a list ``1,3`` or ``[1,3]``, a fraction, or else the text itself."""
    if re.fullmatch(r"\s*\d+/[1-9]\d*\s*", value):
        return float(Fraction(value))
    try:
        parsed = ast.literal_eval(value)
        return list(parsed) if isinstance(parsed, tuple) else parsed
    except (ValueError, SyntaxError):
        text = value.strip()
        bracketed = text.startswith("[") and text.endswith("]")
        inner = text[1:-1] if bracketed else text
        is_list = bracketed or "," in inner
        return [literal(part.strip()) for part in inner.split(",") if part.strip()] if is_list else value
