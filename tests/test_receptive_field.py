import copy
import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from rfkit import models, pruning
from rfkit import receptive_field as rf

# --- the formula ----------------------------------------------------------------------------------


def test_closed_form():
    assert rf.closed_form([3, 3, 3], [1, 1, 1]) == [3, 5, 7]
    assert rf.closed_form([3, 2, 3], [1, 2, 1]) == [3, 4, 8]
    assert rf.closed_form([3, 3], [2, 1], [1, 4]) == [3, 19]
    assert rf.closed_form([], []) == []
    assert rf.closed_form([3] * 100, [1] * 100)[-1] == 201
    assert rf.closed_form([3] * 80, [2] * 80)[-1] == 1 + 2 * (2**80 - 1)  # exact, beyond any float


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([3], [1, 1]), "1 kernels, 2 strides, 1 dilations"),
        (([0], [1]), "kernel is 0"),
        (([3], [1.5]), "stride is 1.5"),
        (([3], [1], [True]), "dilation is True"),
    ],
)
def test_closed_form_checks(arguments, message):
    with pytest.raises(ValueError, match=message):
        rf.closed_form(*arguments)


# --- known networks -------------------------------------------------------------------------------

PUBLISHED = {  # field of the last map before global pooling, in pixels
    "alexnet": 195, "densenet121": 2071, "densenet161": 2967, "densenet169": 3351, "densenet201": 3863,
    "inception_v3": 1311, "mobilenet_v2": 491, "resnet18": 435, "resnet34": 899, "resnet50": 427, "resnet101": 971,
    "resnet152": 1451, "resnext50_32x4d": 427, "vgg11": 150, "vgg13": 156, "vgg16": 212, "vgg19": 268,
    "squeezenet1_0": 155, "squeezenet1_1": 207, "mnasnet1_0": 843, "googlenet": 379, "shufflenet_v2_x1_0": 527,
    "convnext_tiny": 1688, "regnet_x_400mf": 975,
}  # fmt: skip


def torchvision_model(name):
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, **options).eval()


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.filterwarnings("ignore:.*init.*:FutureWarning")
def test_torchvision_classification_models(name):
    field = rf.receptive_field(torchvision_model(name), (3, 224, 224))
    assert field.size == (PUBLISHED[name],) * 2 and field.aligned


@pytest.mark.parametrize(
    ("name", "layer", "size"), [("resnet18", "layer4", 435), ("resnet50", "layer4", 427), ("vgg16", "features.30", 212)]
)
def test_layers_by_name(name, layer, size):
    assert rf.receptive_field(torchvision_model(name), (3, 224, 224), layer).size == (size, size)


def test_inception_by_its_published_layer():
    assert rf.receptive_field(torchvision_model("inception_v3"), (3, 299, 299), "Mixed_7c").size == (1311, 1311)


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenet_v3_small", "regnet_y_400mf"])
def test_squeeze_and_excitation_sees_the_whole_image(name):
    assert rf.receptive_field(torchvision_model(name), (3, 224, 224)).size == (math.inf, math.inf)


@pytest.mark.parametrize("name", ["swin_t", "maxvit_t"])
def test_windowed_attention_is_refused_by_name(name):
    with pytest.raises(rf.UnsupportedOperation, match="'view' in module .* splits an axis of the image"):
        rf.trace(torchvision_model(name), (3, 224, 224))


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize(("architecture", "per_level"), [("vgg19", 178), ("resnet50", 105)])
def test_the_papers_networks_by_theory_and_by_gradients(architecture, per_level, level):
    net, expected = models.build(architecture, level, width=1 / 32), (3 + per_level * level,) * 2
    theory, measured = rf.receptive_field(net), rf.measured(net)
    assert theory.size == measured.size == expected
    assert theory.stride == measured.stride and theory.center == measured.center and theory.name == measured.name


def test_a_hundred_convolutions():
    net = nn.Sequential(*[nn.Conv2d(3 if i == 0 else 1, 1, 3, padding=1) for i in range(100)])
    assert rf.receptive_field(net).size == (201, 201) == rf.measured(net).size


# --- the hard cases -------------------------------------------------------------------------------


class Net(nn.Module):
    """A network from its layers and a forward function."""

    def __init__(self, run, **layers):
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run(self, x)


def conv(kernel, cin=3, cout=3, **options):
    return nn.Conv2d(cin, cout, kernel, **options)


def unet(self, x):
    a = F.relu(self.down1(x))
    b = F.relu(self.down2(F.max_pool2d(a, 2)))
    up = F.interpolate(b, scale_factor=2, mode="nearest")
    return self.out(torch.cat([a, up[:, :, : a.shape[2], : a.shape[3]]], 1))


def inception(self, x):
    return self.out(torch.cat([self.a(x), self.b(x), F.avg_pool2d(x, 3, 1, 1)], 1))


def yolo(self, x):
    n, c, h, w = (a := self.a(x)).shape
    up = self.b(a).view(n, c, h // 2, 1, w // 2, 1).expand(n, c, h // 2, 2, w // 2, 2).reshape(n, c, h, w)
    return self.out(torch.cat([a, up], 1))


def repeated(self, x):
    return self.norm(self.a(x).repeat_interleave(2, 2).repeat_interleave(2, 3))


CASES = {
    "views upsample": (Net(yolo, a=conv(3, padding=1), b=conv(3, stride=2, padding=1), out=conv(3, cin=6)), (7, 7)),
    "stride > kernel": (nn.Sequential(conv(2, stride=5), conv(3)), (12, 12)),
    "dilation": (nn.Sequential(conv(3, dilation=4), conv(3, dilation=(1, 2))), (11, 13)),
    "asymmetric kernels": (nn.Sequential(conv((1, 7)), conv((5, 2), stride=(2, 1)), conv((3, 1))), (9, 8)),
    "transposed convolution": (nn.Sequential(conv(3, stride=2), nn.ConvTranspose2d(3, 3, 3, 2), conv(2)), (5, 5)),
    "transposed with gaps": (nn.Sequential(conv(3), nn.ConvTranspose2d(3, 3, 1, stride=3), conv(2)), (3, 3)),
    "U-Net": (Net(unet, down1=conv(3, padding=1), down2=conv(3, padding=1), out=conv(3, 6, padding=1)), (10, 10)),
    "inception-like concat": (Net(inception, a=conv(1), b=conv(5, padding=2), out=conv(1, cin=9)), (5, 5)),
    "functional pooling": (Net(lambda s, x: s.b(F.max_pool2d(F.relu(s.a(x)), 3, 2)), a=conv(3), b=conv(3)), (9, 9)),
    "in-place and re-used": (Net(lambda s, x: s.a(F.relu_(s.a(x))), a=conv(3)), (5, 5)),
    "pixel shuffle": (nn.Sequential(conv(3, cout=4), nn.PixelShuffle(2), conv(3, cin=1)), (4, 4)),
    "nearest and bilinear": (nn.Sequential(conv(3), nn.Upsample(scale_factor=2, mode="bilinear"), conv(3)), (5, 5)),
}  # fmt: skip


def test_upsampling_by_repeating_is_like_upsampling():
    fields = []
    for net in (
        Net(repeated, a=conv(3, stride=2, padding=1), norm=nn.BatchNorm2d(3)),
        nn.Sequential(conv(3, stride=2, padding=1), nn.Upsample(scale_factor=2), nn.BatchNorm2d(3)),
    ):
        last = rf.trace(net, (3, 32, 32))[-1]
        fields.append((last.shape, last.size, last.stride, last.center))
    assert fields[0] == fields[1] and fields[0][:3] == ((32, 32), (3, 3), (1, 1))


@pytest.mark.parametrize("case", CASES)
def test_hard_cases(case):
    net, size = CASES[case]
    last = [name for name, module in net.named_modules() if isinstance(module, nn.Conv2d)][-1]
    if case == "in-place and re-used":
        last = "a#2"
    theory, measured = rf.receptive_field(net, layer=last), rf.measured(net, last)
    assert theory.size == measured.size == size
    if theory.axes[0].period == theory.axes[1].period == 1:
        assert (theory.stride, theory.center) == (measured.stride, measured.center)


def test_misaligned_branches_are_flagged_and_the_union_is_exact():
    net = Net(lambda s, x: s.out(s.a(x)[:, :, 4:, 4:] + s.b(x)[:, :, :-4, :-4]), a=conv(3), b=conv(3), out=conv(1))
    field = rf.receptive_field(net, layer="out")
    assert field.size == (7, 7) == rf.measured(net, "out").size and not field.aligned


def test_branches_of_different_stride_are_flagged():
    net = Net(lambda s, x: s.a(x)[:, :, :10, :10] + s.b(x)[:, :, :10, :10], a=conv(3), b=conv(3, stride=2))
    field = rf.receptive_field(net, (3, 64, 64))
    assert not field.aligned and field.size[0] == 12  # unit 9 sees 9..11 in one branch, 18..20 in the other


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.squeeze, self.a, self.out = nn.AdaptiveAvgPool2d(1), conv(1), conv(3)

    def forward(self, x):
        return self.out(x * torch.sigmoid(self.a(self.squeeze(x))))


def test_squeeze_and_excitation_gate():
    assert rf.receptive_field(Gate(), layer="out").size == (math.inf, math.inf)
    assert rf.measured(Gate(), "out", (3, 40, 40)).clipped and rf.measured(Gate(), "out", (3, 40, 40)).size == (40, 40)


def test_attention_sees_the_whole_image():
    def run(self, x):
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        mixed, _ = self.mix(tokens, tokens, tokens)
        return self.out(mixed.transpose(1, 2).reshape(x.shape[0], 8, 8, 8))

    mix = nn.MultiheadAttention(8, 2, batch_first=True)
    net = Net(run, patch=conv(4, cout=8, stride=4), mix=mix, out=conv(3, cin=8)).eval()
    fields = {field.name: field.size for field in rf.trace(net, (3, 32, 32))}
    assert fields["patch"] == (4, 4) and fields.get("out", (math.inf,) * 2) == (math.inf, math.inf)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.InstanceNorm2d(3)])
def test_statistics_count_when_asked(norm):
    net = nn.Sequential(conv(3), norm, conv(3)).train()
    noted = rf.receptive_field(net)
    assert noted.size == (5, 5) and noted.statistics and not rf.trace(net)[0].statistics
    assert rf.trace(net, follow_statistics=True)[-1].size == (math.inf, math.inf)
    still = rf.trace(nn.Sequential(conv(3), nn.BatchNorm2d(3)).eval(), follow_statistics=True)[-1]
    assert still.size == (3, 3) and not still.statistics


def test_one_and_three_dimensions():
    assert rf.receptive_field(nn.Sequential(nn.Conv1d(2, 2, 3), nn.MaxPool1d(2)), (2, 40)).size == (4,)
    net = nn.Sequential(nn.Conv3d(2, 2, (1, 3, 5)), nn.Conv3d(2, 2, 3, stride=2))
    assert rf.receptive_field(net, (2, 9, 20, 20)).size == (3, 5, 7)
    assert rf.measured(nn.Sequential(nn.Conv1d(2, 2, 3), nn.MaxPool1d(2)), input_shape=(2, 80)).size == (4,)


def test_a_field_that_grows_with_the_image_is_that_of_the_first_one():
    net = nn.Sequential(conv(3, padding=1), nn.AdaptiveAvgPool2d(7), conv(1))
    assert rf.measured(net, "2").size == rf.receptive_field(net, layer="2").size == (12, 12)


class Unbatched(nn.Module):
    """Pools maps without a dimension for images."""

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        return self.pool(F.conv2d(x, torch.ones(4, 3, 3, 3, device=x.device)).mean(1))


def test_pools_of_maps_without_images():
    for pool, size in ((lambda x: F.max_pool2d(x, 3, 2), (5, 5)), (lambda x: F.adaptive_avg_pool2d(x, 31), (4, 4))):
        assert rf.trace(Unbatched(pool), (3, 64, 64))[-1].size == size


def test_adaptive_pooling_has_torchs_bins():
    net = nn.Sequential(conv(3), nn.AdaptiveAvgPool2d((4, 31)))
    field = rf.trace(net, (3, 18, 33))[-1]
    assert field.size == (6, 3) and field.shape == (4, 31)
    assert [field.axes[0].at(i) for i in range(4)] == [(0, 5), (4, 9), (8, 13), (12, 17)]


# --- manners --------------------------------------------------------------------------------------


def test_the_model_is_untouched_also_after_an_error():
    net = nn.Sequential(conv(3), nn.BatchNorm2d(3), nn.Dropout(), conv(3)).train()
    net[1].eval()
    before = copy.deepcopy(net.state_dict())
    for ask in (rf.trace, rf.receptive_field, rf.measured, lambda n: rf.effective(n, input_size=16, repeats=2)):
        ask(net)
    broken = nn.Sequential(net, Net(lambda s, x: torch.fft.fft2(x).real))
    with pytest.raises(rf.UnsupportedOperation, match=r"operation .\w*fft\w*. in module .1."):
        rf.trace(broken)
    assert [m.training for m in net] == [True, False, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert not torch.nn.modules.module._global_forward_hooks and not torch.nn.modules.module._global_forward_pre_hooks


def into_a_map(self, x):
    y = self.a(x)
    y[:, :1] = self.b(x)[:, :1]
    return y


def into_a_fresh_buffer(self, x):
    y = torch.zeros_like(x)
    y[:, :2] = self.b(x)[:, :2]
    return self.a(y) + x


def through_a_view(self, x):
    y = self.a(x)
    y.view(2, 3, -1).copy_(self.b(x).view(2, 3, -1))
    return y


@pytest.mark.parametrize("run", [into_a_map, into_a_fresh_buffer, through_a_view])
def test_writes_into_parts_are_refused(run):
    with pytest.raises(rf.UnsupportedOperation, match="operation 'copy_'.*writes into a part of a tensor"):
        rf.trace(Net(run, a=conv(3, padding=1), b=conv(5, padding=2)))


def test_names_are_those_of_modules_calls_and_operations():
    net = Net(lambda s, x: F.relu(s.a(x) + s.a(x)), a=conv(1))
    assert [field.name for field in rf.trace(net)] == ["a", "a#2", "add", "relu"]


def test_a_single_layer_is_a_model():
    assert rf.measured(conv(5)).size == rf.receptive_field(conv(5)).size == (5, 5)


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(3, 2, 1, return_indices=True), nn.AdaptiveMaxPool2d(8, return_indices=True)]
)
def test_pools_that_give_their_indices_are_pools(pool):
    net = Net(lambda self, x: self.b(self.pool(self.a(x))[0]), a=conv(3, padding=1), pool=pool, b=conv(3))
    alike = copy.deepcopy(net)
    alike.pool.return_indices = False
    alike.run = lambda self, x: self.b(self.pool(self.a(x)))
    assert rf.measured(net, "b").size == rf.measured(alike, "b").size


@pytest.mark.parametrize("size", [(1, 1), (4, 4)])
def test_upsampling_between_aligned_corners_of_a_single_unit(size):
    def run(self, x):
        first = F.avg_pool2d(self.a(x), 2, 16) if size == (1, 1) else F.avg_pool2d(self.a(x), 2, 30)[:, :, :1, :1]
        return self.b(F.interpolate(first, size=size, mode="bilinear", align_corners=True))

    net = Net(run, a=conv(3, padding=1), b=conv(1))
    assert rf.receptive_field(net, layer="b", input_shape=(3, 40, 40)).size == (4, 4)


def test_errors_name_what_there_is():
    net = nn.Sequential(conv(3), nn.ReLU())
    with pytest.raises(ValueError, match="no layer 'conv9'.*expected one of: 0, 1"):
        rf.receptive_field(net, layer="conv9")
    with pytest.raises(ValueError, match="no module 'conv9'; gradients are taken at modules: 0, 1"):
        rf.measured(net, "conv9")
    with pytest.raises(ValueError, match=r"input_shape is \(64, 0\)"):
        rf.trace(net, (64, 0))
    grey = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    with pytest.raises(ValueError, match=r"fails on images of shape \(3, 64, 64\).*give the input_shape"):
        rf.trace(grey)
    for use in (rf.trace, rf.receptive_field, rf.measured, rf.effective):
        with pytest.raises(ValueError, match="model is .*lambda.*; expected an nn.Module"):
            use(lambda x: x)
    assert rf.measured(grey).size == (5, 5) and rf.measured(nn.Sequential(nn.Conv1d(2, 3, 7))).size == (7,)
    with pytest.raises(ValueError, match="repeats is 0"):
        rf.effective(net, repeats=0)


def test_clipped_fields_say_so():
    net = nn.Sequential(conv(15, padding=7), conv(3))
    field = rf.measured(net, input_shape=(3, 16, 16))
    assert field.clipped and field.size == (16, 16)
    assert not rf.measured(net).clipped and rf.measured(net).size == (17, 17)


def test_effective_field_of_a_linear_network():
    """Averaging twice over 3x3 weighs pixels by 1 2 3 2 1 in each direction."""
    net = nn.Sequential(conv(3, 3, 1, padding=1, bias=False), conv(3, 1, 1, padding=1, bias=False))
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1.0)
    field = rf.effective(net, input_size=15, repeats=2)
    weights = torch.tensor([1.0, 2, 3, 2, 1], dtype=torch.float64)
    expected = 3 * torch.outer(weights, weights)
    assert field.size == (5, 5) and torch.allclose(torch.from_numpy(field.pattern)[5:10, 5:10], expected)
    assert field.pattern.sum() == pytest.approx(expected.sum())
    assert [field.radius_px(share) ** 2 * math.pi for share in (0.0455, 0.5)] == pytest.approx([25, 5])
    assert (field.side_px(0.1), field.side_px(0.5), field.side_px(0.999)) == (1, 3, 5)


def test_of_a_unit_that_depends_on_nothing_no_pixel_counts():
    assert rf.EffectiveField("dead", torch.zeros(4, 4).numpy(), (3, 3)).radius_px() == 0


# --- what is not a module, and what is not linear ---------------------------------------------------


class Multiplied(nn.Module):
    """A convolution whose map is multiplied by what `gate` makes of it."""

    def __init__(self, gate):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 3, 3, padding=1), gate

    def forward(self, x):
        x = self.conv(x)
        return x * self.gate(x)


@pytest.mark.parametrize("gate", [torch.sigmoid, torch.tanh, F.hardsigmoid])
def test_a_chain_of_gates_is_no_larger_by_gradients(gate):
    net = nn.Sequential(*[Multiplied(gate) for _ in range(12)])
    assert rf.measured(net).size == rf.receptive_field(net, (3, 64, 64)).size == (25, 25)


def test_gradients_that_overflow_are_refused():
    net = nn.Sequential(*[Multiplied(lambda x: 1e20 * x) for _ in range(12)])
    with pytest.raises(RuntimeError, match="the gradients overflow"):
        rf.measured(net)


class TwoBranches(nn.Module):
    """Two convolutions, joined by a function of the caller's choice."""

    def __init__(self, join, kernels=(7, 3)):
        super().__init__()
        self.a, self.b = (nn.Conv2d(3, 4, kernel, padding=kernel // 2) for kernel in kernels)
        self.join = join

    def forward(self, x):
        return self.join(self.a(x), self.b(x))


JOINS = {
    "maximum": torch.maximum,
    "max of two": torch.max,
    "minimum": torch.minimum,
    "where": lambda a, b: torch.where(a > 0, b, 0.0 * b),
    "masked fill": lambda a, b: b.masked_fill(a > 0, 0.0),
    "sign": lambda a, b: torch.sign(a) * b.round(),
    "max over channels": lambda a, b: torch.max(a, 1)[0][:, None] * b,
    "max of names": lambda a, b: a.max(dim=1, keepdim=True).values * b,
    "cat": lambda a, b: torch.cat([a, b], 1),
}


@pytest.mark.parametrize("join", JOINS)
def test_joined_branches_by_both_ways_and_no_weight_of_them_is_dead(join):
    net = TwoBranches(JOINS[join])
    assert rf.receptive_field(net).size == rf.measured(net).size == (7, 7)
    usable = pruning.usable_weights(net, (3, 16, 16))
    assert all(mask.all() for mask in usable.values())


def test_the_last_map_is_taken_where_it_is_returned():
    net = nn.Sequential(TwoBranches(JOINS["cat"], (5, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2))
    assert rf.measured(net).name == "0" and rf.measured(net).size == (5, 5)
    assert rf.effective(net, input_size=16, repeats=1).size == (5, 5)


def test_what_follows_the_last_global_pool_is_no_feature_map():
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(8), nn.Conv2d(4, 4, 3, padding=1), nn.AvgPool2d(8)]
    for more in ([nn.Dropout(), nn.Flatten(), nn.Linear(4, 2)], [nn.Conv2d(4, 2, 1)]):
        net = nn.Sequential(*body, *more)
        assert rf.receptive_field(net).name == rf.receptive_field(net.eval()).name == "2"


def test_a_gate_made_from_the_whole_map_is_no_end():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.pool, self.gate = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 1)

        def forward(self, x):
            x = self.body(x)
            return x * self.gate(self.pool(x)).sigmoid()

    assert rf.receptive_field(Gated(), (3, 16, 16)).shape == (14, 14)


def test_phases_have_one_stride_by_gradients_too():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3))
    traced, measured = rf.receptive_field(net), rf.measured(net)
    assert (traced.size, traced.stride, traced.center) == (measured.size, measured.stride, measured.center)


def test_attention_without_weights_and_what_is_added_to_a_product():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.attend = nn.Conv2d(3, 8, 4, stride=4), nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            patches = self.patches(x)
            tokens = patches.flatten(2).transpose(1, 2)
            return self.attend(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(patches.shape)

    assert rf.receptive_field(Tokens().eval()).size == (math.inf, math.inf)
    weight = torch.rand(1, 64, 64)
    net = TwoBranches(lambda a, b: torch.baddbmm(a[:, 0], b[:, 0], weight.expand(len(a), -1, -1))[:, None], (7, 1))
    assert rf.receptive_field(net).size == (7, math.inf)


def test_the_effective_field_of_a_block_that_runs_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())

        def forward(self, x):
            return self.block(self.block(x))

    for layer, size in (("block", 3), ("block#2", 5)):
        field = rf.effective(Twice(), layer, input_size=16, repeats=1)
        assert field.size == rf.measured(Twice(), layer, input_shape=(3, 16, 16)).size == (size, size)
        assert (field.pattern.sum(0) > 0).sum() <= size


def test_effective_fields_of_single_layers_and_other_images():
    assert rf.effective(nn.Conv2d(3, 4, 3), input_size=16, repeats=1).size == (3, 3)
    in_place = nn.Sequential(nn.ReLU6(inplace=True), nn.Conv2d(1, 4, 3))
    assert rf.effective(in_place, input_size=(1, 16, 20), repeats=1).pattern.shape == (16, 20)


@pytest.mark.parametrize("call", [0, 5])
def test_calls_that_do_not_happen(call):
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    for look in (rf.effective, rf.measured):
        with pytest.raises(ValueError, match=f"module '0' has no call {call}, it runs"):
            look(net, f"0#{call}")
    with pytest.raises(ValueError, match="repeats is 2.5; expected a whole number"):
        rf.effective(net, repeats=2.5)


@pytest.mark.parametrize("value", ["a", None, math.inf, math.nan, (3, 3), True, 2.5, 0])
def test_no_kernel(value):
    with pytest.raises(ValueError, match="kernel is .*; expected a whole number of at least 1"):
        rf.closed_form([value], [1])


def rearranged(self, x):
    y = self.first(x)
    return self.last(self.between(y.flatten(2 if self.between.in_features == 64 else 1)).reshape(y.shape))


@pytest.mark.parametrize("inputs", [64, 256])
def test_positions_after_the_whole_image_was_seen_see_all_of_it(inputs):
    """Linear over tokens, as in a mixer; over everything, as in an autoencoder."""
    ends = {"first": nn.Conv2d(3, 4, 3, padding=1), "last": nn.Conv2d(4, 4, 3, padding=1)}
    net = Net(rearranged, between=nn.Linear(inputs, inputs), **ends)
    first, last = rf.trace(net, (3, 8, 8))
    assert first.size == (3, 3) and last.size == (math.inf, math.inf) and last.shape == (8, 8)
    assert rf.receptive_field(net, (3, 8, 8)).name == "last"
    assert rf.measured(net, "last", (3, 8, 8)).size == (8, 8)


def test_tokens_with_one_appended_see_the_whole_image():
    from torchvision.models import VisionTransformer

    net = VisionTransformer(32, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    patches, tokens = rf.trace(net, (3, 32, 32))
    assert patches.size == (8, 8) and tokens.name == "tokens" and tokens.size == (math.inf, math.inf)
    assert rf.measured(net, None, (3, 32, 32)).size == (8, 8)  # of the last map, which tokens are not


@pytest.mark.parametrize("layers", [
    [nn.Conv2d(3, 4, 3, padding=1), nn.Upsample(scale_factor=4), nn.Conv2d(4, 4, 3, padding=1)],
    [nn.Conv2d(3, 4, 4, stride=4), nn.Upsample(scale_factor=4), nn.Conv2d(4, 4, 3, padding=1)],
    [nn.Conv2d(3, 4, 5, stride=8), nn.ConvTranspose2d(4, 4, 2, stride=4)],
])  # fmt: skip
def test_the_step_of_a_decoder_by_gradients(layers):
    net = nn.Sequential(*layers)
    measured, traced = rf.measured(net), rf.receptive_field(net)
    assert (measured.size, measured.stride, measured.center) == (traced.size, traced.stride, traced.center)


def test_a_field_is_clipped_where_no_unit_sees_all_of_it():
    net = nn.Conv2d(3, 4, 11, padding=5)
    assert not rf.measured(net, "", (3, 32, 32)).clipped
    small = rf.measured(net, "", (3, 8, 8))
    assert small.clipped and small.size == (8, 8)


def gate(self, x):
    y = self.first(x)
    return self.last(y * self.gate(y.mean((2, 3))[:, None]).transpose(1, 2)[..., None].sigmoid())


def context(self, x):
    y = self.first(x)
    seen = self.pooled(F.interpolate(F.adaptive_avg_pool2d(y, 1), y.shape[2:]))
    return self.last(torch.cat([y, seen], 1))


def skip(self, x):
    y = self.first(x)
    decoded = self.pooled(self.code(y.flatten(1)).reshape(y.shape))
    return self.last(torch.cat([y, decoded], 1))


def turned(self, x):
    y = self.pooled(self.code(self.first(x).flatten(1)).reshape(-1, 4, 8, 8))
    return y + y.transpose(2, 3)


@pytest.mark.parametrize(("forward", "modules"), [
    (gate, {"gate": nn.Conv1d(1, 1, 3, padding=1), "last": nn.Conv2d(4, 4, 3, padding=1)}),
    (context, {"pooled": nn.Conv2d(4, 4, 1), "last": nn.Conv2d(8, 4, 3, padding=1)}),
    (skip, {"code": nn.Linear(256, 256), "pooled": nn.Conv2d(4, 4, 1), "last": nn.Conv2d(8, 4, 3, padding=1)}),
    (turned, {"code": nn.Linear(256, 256), "pooled": nn.Conv2d(4, 4, 1)}),
], ids=["channel attention", "global context", "autoencoder with a skip", "a decoder, turned"])  # fmt: skip
def test_maps_after_the_whole_image_was_seen_spoil_nothing(forward, modules):
    fields = rf.trace(Net(forward, first=nn.Conv2d(3, 4, 3, padding=1), **modules), (3, 8, 8))
    assert fields[0].size == (3, 3) and fields[-1].size == (math.inf, math.inf)
    assert fields[-1].stride == (1, 1) and fields[-1].aligned


def test_lists_of_places_that_are_joined_are_no_tokens():
    """Detection heads join the places of several maps; classifiers join features."""

    def heads(self, x):
        y = self.first(x)
        return torch.cat([self.head(y).flatten(2), self.head(y[:, :, ::2, ::2]).flatten(2)], 2)

    def features(self, x):
        y = self.first(x)
        return torch.cat([self.head(y).flatten(1), y.mean((2, 3))], 1)

    for forward in (heads, features):
        net = Net(forward, first=nn.Conv2d(3, 4, 3, padding=1), head=nn.Conv2d(4, 1, 1))
        assert rf.receptive_field(net, (3, 8, 8)).size == (3, 3)
