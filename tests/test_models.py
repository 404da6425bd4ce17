import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from rfkit import models, training

MAPS = {  # side of the last feature map, by (architecture, image size), levels 1 to 4
    ("vgg19", 32): (3, 2, 1, 1),
    ("vgg19", 64): (7, 4, 2, 2),
    ("resnet50", 32): (4, 2, 2, 1),
    ("resnet50", 64): (8, 4, 3, 2),
}


@pytest.mark.parametrize(("architecture", "size"), MAPS)
def test_feature_map_sizes(architecture, size):
    sides = []
    for level in (1, 2, 3, 4):
        features = models.feature_extractor(models.build(architecture, level, width=1 / 16))
        height, width = features(torch.zeros(2, 3, size, size)).shape[-2:]
        assert height == width
        sides.append(height)
    assert tuple(sides) == MAPS[architecture, size]


@pytest.mark.parametrize(("architecture", "count"), [("vgg19", 20_040_522), ("resnet50", 23_520_842)])
def test_full_width_parameters_are_the_same_at_every_level(architecture, count):
    with torch.device("meta"):
        nets = [models.build(architecture, level) for level in (1, 2, 3, 4, 7)]
    assert [sum(p.numel() for p in net.parameters()) for net in nets] == [count] * 5
    shapes = [[(name, p.shape) for name, p in net.named_parameters()] for net in nets]
    assert all(other == shapes[0] for other in shapes)


def test_vgg19_layer_order():
    features = models.build("vgg19", 3, width=1 / 16).features
    names = list(features._modules)
    assert names[:4] == ["conv1", "level_pool", "bn1", "relu1"]
    assert [type(features[i]).__name__ for i in range(4)] == ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]
    body = [name for name in names if name.startswith(("conv", "pool"))]
    convs = [f"conv{i}" for i in range(1, 17)]
    assert body == [*convs[:2], "pool1", *convs[2:4], "pool2", *convs[4:8], "pool3", *convs[8:]]
    assert features.conv1.bias is not None
    pool = features.level_pool
    assert (pool.kernel_size, pool.stride, pool.padding) == (4, 3, 1)


def test_resnet50_layer_order():
    features = models.build("resnet50", 1, width=1 / 16).features
    assert list(features._modules) == ["conv1", "bn1", "relu1", "level_pool", "layer1", "layer2", "layer3", "layer4"]
    assert [len(getattr(features, f"layer{i}")) for i in (1, 2, 3, 4)] == [3, 4, 6, 3]
    assert features.conv1.bias is None
    block = features.layer2[0]
    assert block.conv2.stride == (2, 2) and block.conv1.stride == (1, 1)
    pool = features.level_pool
    assert (pool.kernel_size, pool.stride, pool.padding) == (2, 1, 0)
    assert sum(isinstance(m, nn.ReLU) for m in features.modules()) == 49


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_same_seed_same_weights_at_every_level(architecture):
    before = torch.random.get_rng_state()
    one, four = (models.seeded_build(architecture, level, width=1 / 16, seed=5).state_dict() for level in (1, 4))
    assert all(torch.equal(one[name], four[name]) for name in one)
    other = models.seeded_build(architecture, 1, width=1 / 16, seed=6).state_dict()
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("level", [1, 2, 3, 4, 6])
def test_smallest_input(architecture, level):
    net = models.build(architecture, level, width=1 / 32).eval()
    net(torch.zeros(1, 3, net.min_size, net.min_size))
    with pytest.raises(ValueError, match=rf"too small.*level {level}.*at least {net.min_size}x"):
        net(torch.zeros(1, 3, net.min_size - 1, net.min_size + 5))


def test_bad_input_shape():
    with pytest.raises(ValueError, match=r"\(2, 1, 32, 32\); expected \(N, 3"):
        models.build("vgg19", 1, width=1 / 16)(torch.zeros(2, 1, 32, 32))


NETS = """
from torch import nn


def net(classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


def by_name(*, num_classes, level, width=1.0):
    return net(num_classes)


def two_of_any_name(a, b):
    return net(b)


def swapped(classes, level):
    return net(classes)


def by_keyword(*, level, outputs):
    return net(outputs)


def no_level(num_classes=10):
    return net(num_classes)


def thousand(level):
    return net(1000)


class Auxiliary(nn.Sequential):
    def forward(self, x):
        return (super().forward(x), x) if self.training else super().forward(x)


def auxiliary(num_classes):
    return Auxiliary(net(num_classes))


def demanding(level, num_classes, depth):
    return net(num_classes)


def one_of_any_name(depth, num_classes=10):
    return by_name(1, num_classes)


def one_beside_level(depth, level=1):
    return by_name(level, 10)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A project with networks of a user's at its top, the current folder being that of its notebooks."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "_config.yml").touch()
    (tmp_path / "mynets.py").write_text(NETS)
    (tmp_path / "unreadable.py").write_text("def net(:\n")
    monkeypatch.chdir(tmp_path / "notebooks")
    for name in ("mynets", "valued"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg91", 1), "unknown architecture 'vgg91'.*vgg19, resnet50"),
        ((None, 1), "unknown architecture None"),
        (("vgg19", 0), "RF level is 0"),
        (("vgg19", True), "RF level is True"),
        (("vgg19", 1.5), "RF level is 1.5"),
        (("no_such_module:net", 1), "cannot import architecture"),
        (("math:no_such", 1), "cannot import architecture"),
        (("math:pow", 2), "returned float"),
        (("mynets:by_keyword", 1), "mynets:by_keyword needs outputs"),
        (("mynets:swapped", 3), "mynets:swapped needs classes"),
        (("unreadable:net", 1), "cannot import architecture 'unreadable:net': SyntaxError"),
    ],
)
def test_bad_arguments(own, arguments, message):
    with pytest.raises(ValueError, match=message):
        models.build(*arguments)


@pytest.mark.parametrize("width", [-1, float("inf")])
def test_width_must_be_positive(width):
    with pytest.raises(ValueError, match=f"width is {width}"):
        models.build("vgg19", 1, width=width)


def test_feature_extractor_needs_features():
    with pytest.raises(ValueError, match="Linear has no 'features'"):
        models.feature_extractor(nn.Linear(2, 2))


def test_a_callable_is_given_what_it_has_arguments_for(own):
    for name, level in (("by_name", 3), ("two_of_any_name", 3), ("no_level", 1)):
        training.check_outputs(models.build(f"mynets:{name}", level, num_classes=7), 7, 32)
    resnet = models.build("torchvision.models:resnet18", 1, num_classes=7)
    training.check_outputs(resnet.train(), 7, 32)
    with pytest.raises(ValueError, match=r"tuple for 2 images in training; expected \(2, 7\)"):
        training.check_outputs(models.build("mynets:auxiliary", 1, num_classes=7), 7, 32)
    assert resnet.training and str(Path("..").resolve()) not in sys.path
    with pytest.raises(ValueError, match="takes no level, so every level is the same network"):
        models.build("mynets:no_level", 2)
    for name, missing in (("demanding", "depth"), ("one_of_any_name", "depth"), ("one_beside_level", "depth")):
        with pytest.raises(ValueError, match=f"needs {missing}; expected a callable"):
            models.build(f"mynets:{name}", 1)
    with pytest.raises(ValueError, match=r"logits of shape \(2, 1000\) for 2 images in training; expected \(2, 7\)"):
        training.check_outputs(models.build("mynets:thousand", 1, num_classes=7), 7, 32)


def test_a_notebook_finds_the_projects_folders(own, monkeypatch):
    from rfkit import data, experiments, presets

    for name in ("RFKIT_RUNS", "RFKIT_DATA"):
        monkeypatch.delenv(name)
    assert experiments.Store().root == Path("../runs") and data.default_root() == Path("../data")
    assert experiments.records_of(presets.get("study")) == Path("../results/study")
    chosen = presets.get("smoke").select(architectures="mynets:by_name", levels=2, datasets="digits")
    (unit,) = experiments.units(chosen)
    assert len(unit.config.architecture_sha256) == 64


VALUES = """
import numpy as np
import torch
from torch import nn

WIDTHS = 4


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        rates = [x.item() for x in torch.linspace(0.0, 0.1, 3)]
        self.features = nn.Sequential(nn.Conv2d(3, WIDTHS, 3), nn.Dropout(rates[1]), nn.Conv2d(WIDTHS, WIDTHS, 3))
        self.classifier = nn.Linear(WIDTHS, classes)
        self.shift = torch.from_numpy(np.zeros((1, 3, 1, 1), np.float32))

    def forward(self, x):
        return self.classifier(self.features(x - self.shift).mean((2, 3)))


def needs_values(num_classes):
    return Net(num_classes)


def broken(num_classes):
    net = Net(num_classes)
    net.forward = lambda x: {}["nothing"]
    return net
"""


def test_a_network_that_needs_values_is_costed_and_trained_and_a_broken_one_fails_alone(own, capsys):
    from rfkit import experiments, presets
    from rfkit.experiments import runner

    Path("../valued.py").write_text(VALUES)
    assert models.count_parameters("valued:needs_values", 1) == 310
    names = ["valued:broken", "valued:needs_values"]
    chosen = presets.get("smoke").select(architectures=names, levels=1, datasets="digits", epochs=1)
    failures = runner.run_all(experiments.units(chosen), analyses=["pruning"], jobs=1, image_limit=chosen.image_limit)
    assert [(unit.config.architecture, message) for unit, message in failures] == [
        ("valued:broken", "KeyError: 'nothing'")
    ]
    with pytest.raises(ValueError, match="valued:broken fails: KeyError: 'nothing'"):
        experiments.plan(chosen.select(architectures="valued:broken"))


def test_an_edited_network_is_read_anew(own):
    from rfkit.experiments.analysis import source_sha256

    path = Path("../valued.py")
    path.write_text(VALUES)
    before = source_sha256("valued:needs_values"), models.count_parameters("valued:needs_values", 1)
    path.write_text(VALUES.replace("WIDTHS = 4", "WIDTHS = 16"))
    after = source_sha256("valued:needs_values"), models.count_parameters("valued:needs_values", 1)
    assert before[0] != after[0] and (before[1], after[1]) == (310, 2938)


@pytest.mark.parametrize("name", ["dead_weights", "untrained_spectrum"])
def test_results_of_a_network_of_a_users_name_its_source(own, name):
    from rfkit import experiments, presets

    chosen = presets.get("smoke").select(architectures="valued:needs_values", levels=1)
    path, asked = Path("../valued.py"), []
    for text in (VALUES, VALUES.replace("WIDTHS = 4", "WIDTHS = 16")):
        path.write_text(text)
        asked.append(experiments.ANALYSES[name].settings(chosen)[0])
    assert asked[0] != asked[1]
