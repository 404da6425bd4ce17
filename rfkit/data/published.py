"""The data sets of the paper: what is known of them before they are on this machine."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Published:
    """A data set of the paper before it is on this machine, and the name of a known copy that is trained as it is.

    `file` is what a download leaves in the folder of the data.
    """

    label: str
    image_size: int
    train_images: int
    test_images: int
    num_classes: int
    file: str
    copy: str


PUBLISHED = MappingProxyType({
    "cifar10": Published("CIFAR-10", 32, 50_000, 10_000, 10, "cifar-10-batches-py", "cifar10_jpeg"),
    "tiny_imagenet": Published("Tiny ImageNet", 64, 100_000, 10_000, 200, "tiny-imagenet-200.zip", "tiny_imagenet_100"),
})
DATASETS = ("digits", *PUBLISHED)
PAPER_DATASET_BY_SIZE = MappingProxyType({about.image_size: name for name, about in PUBLISHED.items()})
"""Which of the paper's data sets images of a size (in pixels) are set beside."""
DATASET_LABELS = MappingProxyType({name: about.label for name, about in PUBLISHED.items()})
COPIES = MappingProxyType({about.copy: name for name, about in PUBLISHED.items()})
