import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from scipy.stats import page_trend_test, rankdata
from torch import nn

from rfkit import experiments, models, presets, projection, report, stats, tables, training
from rfkit.cli import main
from rfkit.config import ConfigError
from rfkit.experiments import runner, store
from rfkit.experiments.gradient_projection import ANALYSIS, cosine, fitted_similarity

make = functools.partial(models.build, "resnet50", 2, width=1 / 16)


def project(make_model=make, **options):
    return projection.gradient_projection(make_model, **({"input_size": 32, "repeats": 2} | options))


def replaced(model, keep_first_relu, linear=True, average=True):
    """Oracle of the changed passes: identities and average-pools in place of the network's own modules."""
    model, first = copy.deepcopy(model), keep_first_relu
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU) and first:
                first = False
            elif linear and isinstance(child, nn.ReLU | nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif average and isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    return model.eval()


def plain_gradient(model, x):
    x = x.clone().requires_grad_()
    features = model.features(x)
    middle = -(-features.shape[-1] // 2) - 1
    features[:, :, middle, middle].sum().backward()
    return x.grad[0].abs()


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("level", [1, 2, 4])
@pytest.mark.parametrize("keep", [True, False])
def test_linearised_is_the_network_with_its_modules_replaced(architecture, level, keep):
    build = functools.partial(models.build, architecture, level, width=1 / 16)
    ours = project(build, repeats=1, seed=7, backward="linearised", keep_first_relu=keep)
    torch.manual_seed(7)
    expected = plain_gradient(replaced(build(), keep), torch.full((1, 3, 32, 32), 3.0))
    scale = float(expected.max())
    assert np.allclose(ours.pattern / scale, expected[0].numpy() / scale, atol=1e-4)
    assert ours.maxima[0] == pytest.approx(float(expected[0].max()), rel=1e-4)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("average", [True, False])
def test_pooling_is_changed_by_itself(architecture, linear, average):
    build = functools.partial(models.build, architecture, 3, width=1 / 16)
    options = {"backward": "linearised" if linear else "true", "pooling": "average" if average else "max"}
    ours = project(build, repeats=1, seed=5, image="gaussian", **options)
    torch.manual_seed(5)
    model = replaced(build(), False, linear, average)
    expected = plain_gradient(model, torch.randn(1, 3, 32, 32))
    assert np.allclose(ours.pattern / ours.maxima[0], expected[0].numpy() / float(expected[0].max()), atol=1e-4)
    assert ours.maxima[0] == pytest.approx(float(expected[0].max()), rel=1e-4)


@pytest.mark.parametrize("colours", ["first", "all"])
def test_true_is_autograd(colours):
    ours = project(seed=3, repeats=1, colours=colours)
    torch.manual_seed(3)
    expected = plain_gradient(make().eval(), torch.full((1, 3, 32, 32), 3.0))
    expected = expected[:1] if colours == "first" else expected
    assert np.allclose(ours.pattern, expected.mean(0).numpy(), rtol=1e-3, atol=1e-6)
    assert ours.maxima[0] == pytest.approx(float(expected.max()), rel=1e-4)


def test_seeds_networks_and_images():
    a, b, c = project(seed=0), project(seed=0), project(seed=1)
    assert np.array_equal(a.pattern, b.pattern) and np.array_equal(a.maxima, b.maxima) and a.maxima[1] == c.maxima[0]
    each = [project(seed=seed, repeats=1).pattern for seed in (0, 1)]
    assert a.pattern.shape == (32, 32) and np.allclose(a.pattern, np.mean(each, 0))
    assert not np.allclose(a.maxima, project(image="gaussian").maxima)


def test_the_callers_model_is_untouched_also_after_an_error():
    model = make().train()
    model.features.bn1.eval()
    before, state = copy.deepcopy(model.state_dict()), torch.random.get_rng_state()
    for backward in ("true", "linearised"):
        project(lambda: model, backward=backward)
    model.features.layer4.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        project(lambda: model)
    assert model.training and not model.features.bn1.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backward": "linear"}, "unknown backward 'linear'.*true, linearised"),
        ({"image": "noise"}, "unknown image 'noise'"),
        ({"colours": "red"}, "unknown colours 'red'"),
        ({"repeats": 0}, "repeats is 0"),
        ({"input_size": "64"}, "input_size is '64'; expected a whole number of at least 1"),
        ({"pooling": "mean"}, "unknown pooling 'mean'.*max, average"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        project(**options)


def test_similarity_is_blind_to_strength():
    pattern = np.random.default_rng(0).random((5, 5))
    likeness = [cosine(each, pattern) for each in (pattern, 1e-6 * pattern, pattern[::-1], 0 * pattern)]
    assert likeness[:2] == pytest.approx([1, 1]) and likeness[2] < 0.99 and np.isnan(likeness[3])


@pytest.mark.parametrize("moved", [-7, 0, 5])
def test_patterns_are_compared_where_they_fit(moved):
    x = np.arange(32)
    pattern, reference = (np.exp(-((x - m) ** 2)[:, None] / 9 - (x - m) ** 2 / 9) for m in (15 + moved, 15))
    assert fitted_similarity(3 * pattern, reference) == (pytest.approx(1), moved)
    assert moved == 0 or cosine(pattern, reference) < 0.1


def test_coverage_counts_windows():
    assert set(np.unique(projection.coverage(3, 2, 9)[2:7, 2:7])) == {1, 2, 4}
    assert set(np.unique(projection.coverage(2, 1, 9)[2:7, 2:7])) == {4}


def test_calibrated_statistics_are_those_of_the_images():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    before = copy.deepcopy(net.state_dict())
    images = torch.randn(48, 3, 5, 5) * 3 + 1
    done = training.calibrated(net, images, batch_size=16)
    with torch.no_grad():
        hidden = net[0](images)
    assert torch.allclose(done[1].running_mean, hidden.mean((0, 2, 3)), atol=1e-5)
    by_batch = torch.stack([part.var((0, 2, 3)) for part in hidden.split(16)]).mean(0)
    assert torch.allclose(done[1].running_var, by_batch, rtol=1e-4)
    assert not done.training and net.training and done[1].momentum == net[1].momentum == 0.1
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_page_trend():
    rising = [[1, 2, 3, 4], [2, 3, 5, 9], [0, 1, 2, 3]]
    least = 1 / 24**3
    assert stats.page_trend(rising) == pytest.approx((least, least))
    assert stats.page_trend(rising, falling=True) == pytest.approx((1.0, least))
    assert stats.page_trend([row[::-1] for row in rising], falling=True) == pytest.approx((least, least))
    with pytest.raises(ValueError, match=r"shape \(1, 4\)"):
        stats.page_trend(rising[:1])
    random = np.random.default_rng(0)
    for rows in (random.normal(size=(4, 4)), random.normal(size=(6, 3))):
        assert stats.page_trend(rows)[0] == pytest.approx(page_trend_test(rows, method="exact").pvalue)
    nine = random.normal(size=(3, 9))
    assert stats.page_trend(nine)[0] == page_trend_test(nine, method="asymptotic").pvalue


def test_page_trend_with_ties_counts_the_orders_of_what_is_there():
    rows = np.array([[1.0, 2, 2, 3], [5, 4, 5, 5]])
    sums = [
        rankdata(a) @ range(1, 5) + rankdata(b) @ range(1, 5)
        for a in itertools.permutations(rows[0])
        for b in itertools.permutations(rows[1])
    ]
    observed = sums[0]
    assert stats.page_trend(rows)[0] == pytest.approx(np.mean(np.array(sums) >= observed))
    assert stats.page_trend(rows)[1] == pytest.approx(np.mean(np.array(sums) == max(sums)))


# --- the experiment -------------------------------------------------------------------------------


def values_of(results, architecture, variant):
    about = {"architecture": architecture, "variant": variant}
    return next(each["values"] for each in results if about.items() <= each["settings"].items())


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    root = tmp_path_factory.mktemp("importance")
    chosen = presets.get("smoke").select(levels=(1, 2, 4))
    wanted = [each for each in ANALYSIS.settings(chosen) if "calibrated" not in each[0]["variant"]]
    return root, wanted, experiments.measure("gradient_projection", chosen, wanted, jobs=1, root=root)


def test_results_are_kept_and_found(found, monkeypatch):
    root, wanted, results = found
    monkeypatch.setattr(runner, "make", lambda *_: pytest.fail("computed again"))
    again = experiments.measure("gradient_projection", presets.get("smoke"), wanted, jobs=1, root=root)
    for one, other in zip(again, results, strict=True):
        values, patterns = one["values"], one["values"]["patterns"]
        assert values["maxima"] == other["values"]["maxima"]
        assert np.array_equal(patterns, other["values"]["patterns"])
        assert patterns.shape == (3, 64, 64) and [len(v) for v in values["maxima"].values()] == [2, 2, 2]
        assert values["similarity"]["1"] == pytest.approx([1, 1]) and one["provenance"]["device"] == "cpu"
    frame = experiments.frame("gradient_projection", results)
    assert len(frame) == 16 * 3 * 2 and frame["maximum"].gt(0).all()


def test_a_result_of_other_settings_is_refused(found, tmp_path):
    _, wanted, results = found
    (request,) = experiments.requests("gradient_projection", presets.get("smoke"), wanted[:1])
    changed = results[0]["settings"] | {"repeats": 3}
    store.save_result(request.folder(tmp_path), changed, results[0]["values"], None)
    with pytest.raises(ConfigError, match="of other settings .*repeats: stored 3, asked 2"):
        request.find(presets.get("smoke"), tmp_path)


def test_importance_tables(found):
    _, _, results = found
    table = tables.importance_table(4, results)
    assert table["field_px"].tolist() == [108, 213, 318, 423] and table["paper_mean"].iloc[0] == 0.322
    assert table["linearised_networks"].tolist() == [2, 2, None, 2] and table["true_mean"].iloc[2] is None
    one = values_of(results, "resnet50", "true")
    assert table["true_mean"].iloc[0] == pytest.approx(np.mean(one["maxima"]["1"]))
    text = report.show_importance_table(4, {"recorded study": [], "this build": results})._repr_markdown_()
    assert text.startswith("(paper-table-4)=") and "width 0.0625" in text and "0.322 ± 0.12" in text
    wide = experiments.measured("gradient_projection", presets.get("study"))
    other = copy.deepcopy(wide)
    for each in other:
        for maxima in each["values"]["maxima"].values():
            maxima[:] = [1.5 * value for value in maxima]
    text = report.show_importance_table(4, {"recorded study": wide, "this build": other})._repr_markdown_()
    assert "Distance, recorded study (standard errors)" in text and "Distance, this build (standard errors)" in text
    variants = tables.importance_variants(results)
    assert len(variants) == 16 and variants["p (falls)"].str.match(r"^[\d.e-]+$").all()
    shapes = tables.importance_shapes(results)
    assert shapes["Level 1"].tolist() == ["1.00 ± 0.00", "1.00 (+0)"] * 4


def test_pattern_plot(found):
    import matplotlib

    matplotlib.use("agg")
    shown = found[2][0]["values"]["patterns"]
    axes = report.plot_patterns(shown, [181, 359, 715])
    assert axes.shape == (2, 3) and [ax.get_title() for ax in axes[0]] == ["181 px", "359 px", "715 px"]
    assert np.array_equal(axes[1][2].images[0].get_array(), shown[2])
    matplotlib.pyplot.close("all")


def test_tables_3_and_4_on_the_command_line(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["table", "3", "--preset", "smoke", "--csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith("architecture,rf_level,field_px,paper_mean") and rows[0].startswith(
        "vgg19,1,181,1.24e-05,"
    )
    assert len(rows) == 4 and "nan" not in "".join(rows).lower()


def test_unknown_variant():
    with pytest.raises(ConfigError, match="unknown variant 'fake'"):
        ANALYSIS.compute(None, {"variant": "fake"}, None)


def test_the_recorded_study_is_close_to_the_paper(monkeypatch):
    """Full width, 50 networks: what is committed, against the printed means."""
    from pathlib import Path

    monkeypatch.chdir(Path(__file__).parents[1])
    recorded = experiments.measured("gradient_projection", presets.get("study"))
    assert len(recorded) == len(ANALYSIS.settings(presets.get("study")))
    apart = {n: tables.importance_table(n, recorded)["standard_errors"].tolist() for n in (3, 4)}
    assert max(apart[3]) < 2 and sorted(apart[4])[2] < 2 and max(apart[4]) < 2.5
    for n, falls in ((3, True), (4, False)):
        name = tables.IMPORTANCE_TABLES[n]
        by_network = list(zip(*values_of(recorded, name, "true")["maxima"].values(), strict=True))
        assert (stats.page_trend(by_network, falling=True)[0] < 0.05) == falls


def test_recorded_networks_can_be_made_again(monkeypatch):
    """The first network of a committed record, at full width, through the level exchange."""
    from pathlib import Path

    monkeypatch.chdir(Path(__file__).parents[1])
    recorded = experiments.measured("gradient_projection", presets.get("study"))
    for name, variant in (("vgg19", "linearised"), ("resnet50", "true, Gaussian image")):
        settings = next(
            each["settings"]
            for each in recorded
            if (each["settings"]["architecture"], each["settings"]["variant"]) == (name, variant)
        )
        again = ANALYSIS.compute(None, settings | {"repeats": 1}, None)
        for level, maxima in values_of(recorded, name, variant)["maxima"].items():
            assert again["maxima"][level] == pytest.approx(maxima[:1], rel=1e-3)


@pytest.mark.parametrize("variant", ["true, Gaussian image", "true, Kaiming normal weights"])
def test_exchanging_the_level_is_building_anew(variant):
    chosen = presets.get("smoke").select(architectures="resnet50", levels=(1, 3))
    settings = next(each for each, _ in ANALYSIS.settings(chosen) if each["variant"] == variant)
    both = ANALYSIS.compute(None, settings | {"input_size": 16}, None)
    alone = ANALYSIS.compute(None, settings | {"input_size": 16, "levels": [3]}, None)
    assert both["maxima"]["3"] == alone["maxima"]["3"]


def test_every_level_of_a_changed_network_is_built_anew():
    """What else its level changes than the pool is not known: the enlargement of an image, for one."""
    settings = next(each for each, _ in ANALYSIS.settings(presets.get("smoke")) if each["variant"] == "true")
    settings |= {"architecture": "rfkit.contrast_nets:enlarged", "width": 1 / 32, "repeats": 1, "input_size": 32}
    both = ANALYSIS.compute(None, settings | {"levels": [1, 2]}, None)
    assert both["maxima"]["2"] == ANALYSIS.compute(None, settings | {"levels": [2]}, None)["maxima"]["2"]


def test_a_small_overlap_is_not_a_likeness():
    """Two corners of noise overlap in a few pixels somewhere; that they are alike there says nothing."""
    random = np.random.default_rng(0)
    pattern, reference = np.zeros((2, 32, 32))
    pattern[:6, :6], reference[-6:, -6:] = random.random((2, 6, 6)) + 1
    cosine, _ = fitted_similarity(pattern, reference)
    assert cosine < 0.1
