"""Question 4's recipes: settings, training, records."""

import numpy as np
import pytest
import torch

from rfkit import experiments, models, presets, report
from rfkit import receptive_field as rf
from rfkit.experiments import recipes
from rfkit.experiments.store import key_of


@pytest.fixture
def smoke():
    return presets.get("smoke")


def test_every_preset_has_three_networks_and_their_variants():
    for name in ("smoke", "demo", "study", "paper"):
        networks, variants = recipes.networks(name), recipes.variants(name)
        assert [recipe["framework"] for recipe in networks] == ["numpy", "numpy", "torch"]
        keys = [
            {key_of(settings) for settings, _ in recipes.settings(presets.get(name), those)}
            for those in (networks, variants)
        ]
        assert [*map(len, keys)] == [3, 6]
    assert recipes.networks("paper") == recipes.networks("study")


def test_variants_differ_in_one_choice():
    first, *others = recipes.variants("study")
    for other in others:
        changed = [
            {k for k in first[part] | other[part] if first[part].get(k) != other[part].get(k)}
            for part in ("options", "training")
        ]
        assert len(changed[0]) + len(changed[1] - {"lr"}) == 1


def test_key_is_of_the_settings_not_of_the_name(smoke):
    recipe = recipes.networks("smoke")[0]
    (same, _), (named, _), (seeded, _) = recipes.settings(
        smoke, [recipe, recipe | {"name": "other"}, recipe | {"seed": 1}]
    )
    assert same == named != seeded


@pytest.mark.parametrize("residual", [True, False])
def test_small_resnet(residual):
    net = models.SmallResNet(7, widths=(4, 6, 8), residual=residual).eval()
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert rf.receptive_field(net, (3, 32, 32)).size == rf.measured(net, input_shape=(3, 64, 64)).size
    small = models.SmallResNet(7, widths=(4, 6, 8), residual=residual, kernel=1)
    assert rf.receptive_field(small, (3, 32, 32)).size < rf.receptive_field(net, (3, 32, 32)).size
    assert any(p.dim() == 1 for name, p in net.named_parameters() if "features" in name)
    bare = models.SmallResNet(7, widths=(4, 6, 8), batchnorm=False)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in bare.modules())


def test_residual_addition_is_there():
    torch.manual_seed(0)
    net = models.SmallResNet(3, widths=(4, 4)).eval()
    block = net.features[1 + 1]
    x = torch.rand(1, 4, 8, 8)
    assert torch.allclose(block(x), x + block.body(x))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_record_is_whole_and_found_again(smoke, tmp_path, index):
    recipe = recipes.networks("smoke")[index]
    settings = recipes.settings(smoke, [recipe])
    (made,) = experiments.measure("recipe", smoke, settings, jobs=1, root=tmp_path)
    values = made["values"]
    confusion = np.array(values["confusion"])
    assert confusion.shape == (10, 10)
    assert values["test_accuracy"] == pytest.approx(100 * confusion.trace() / confusion.sum())
    assert values["history"][-1]["accuracy"] == pytest.approx(values["test_accuracy"])
    assert np.array(values["filters"]).shape[1] == 3 and values["parameters"] > 1000
    assert experiments.measured("recipe", smoke, settings, root=tmp_path) == [made]


def test_each_data_set_has_its_own_record(smoke, tmp_path):
    from conftest import class_files, write_tree

    folder = write_tree(tmp_path / "photos", class_files(count=12, size=32))
    same_name = write_tree(tmp_path / "other" / "photos", class_files(count=15, size=32))
    photos = smoke.select(datasets=f"folder:{folder}")

    def made(preset):
        settings = recipes.settings(preset, recipes.networks("smoke")[2:])
        return experiments.measure("recipe", preset, settings, jobs=1, root=tmp_path / "runs")[0]["provenance"]["data"]

    other = made(smoke.select(datasets=f"folder:{same_name}"))["sha256"]
    assert made(photos)["sha256"] != other
    for _ in range(2):
        assert made(smoke)["label"] == "scikit-learn digits" and made(photos)["label"] == "photos"


def test_same_seed_same_record(smoke, tmp_path):
    settings = recipes.settings(smoke, recipes.networks("smoke")[2:])
    first, second = (
        experiments.measure("recipe", smoke, settings, jobs=1, root=tmp_path / name)[0]["values"] for name in "ab"
    )
    assert first["confusion"] == second["confusion"] and first["filters"] == second["filters"]


def test_study_is_never_trained_by_a_notebook(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert experiments.follow(recipes.networks("study"), presets.get("study"), make=False) == []
    assert "rfkit study study --datasets cifar10 --analyses recipe" in capsys.readouterr().out


def test_tables_and_lines(smoke):
    made = experiments.follow(recipes.networks("smoke"), smoke)
    table = report.recipe_table(made)
    assert list(table["Network"]) == [recipe["name"] for recipe in recipes.networks("smoke")]
    assert "scikit-learn" in report.recipe_line(made) and report.recipe_line([]) == "No recipe is recorded."
