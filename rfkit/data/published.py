"""The data sets of the paper: what is known of them before they are on this machine."""

from collections import namedtuple
from types import MappingProxyType

Published = namedtuple("Published", "label image_size train_images test_images num_classes file copy")
"""`file` is what a download leaves in the folder of the data, `copy` the name of a known copy, trained alike."""
PUBLISHED = MappingProxyType({
    "cifar10": Published("CIFAR-10", 32, 50_000, 10_000, 10, "cifar-10-batches-py", "cifar10_jpeg"),
    "tiny_imagenet": Published("Tiny ImageNet", 64, 100_000, 10_000, 200, "tiny-imagenet-200.zip", "tiny_imagenet_100"),
})
DATASETS = ("digits", *PUBLISHED)
PAPER_DATASET_BY_SIZE = MappingProxyType({32: "cifar10", 64: "tiny_imagenet"})
"""Which of the paper's data sets images of a size (in pixels) are set beside."""
DATASET_LABELS = MappingProxyType({name: about.label for name, about in PUBLISHED.items()})
COPIES = MappingProxyType({about.copy: name for name, about in PUBLISHED.items()})
