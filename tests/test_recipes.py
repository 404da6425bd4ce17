"""Question 4's recipes: settings, training, records."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rfkit import presets, recipes, summaries, views
from rfkit import receptive_field as rf
from rfkit.config import ConfigError


@pytest.fixture
def smoke():
    return presets.get("smoke")


def test_every_preset_has_three_networks_and_their_variants():
    for name in ("smoke", "demo", "study", "paper"):
        networks, variants = recipes.networks(name), recipes.variants(name)
        assert [recipe.framework for recipe in networks] == ["numpy", "numpy", "torch"]
        assert len({recipe.key for recipe in networks}) == 3 and len({recipe.key for recipe in variants}) == 6
    assert recipes.networks("paper") == recipes.networks("study")


def test_variants_differ_in_one_choice():
    first, *others = recipes.variants("study")
    for other in others:
        options = {k for k in first.options | other.options if first.options.get(k) != other.options.get(k)}
        training = {k for k in first.training | other.training if first.training.get(k) != other.training.get(k)}
        assert len(options) + len(training - {"lr"}) == 1


def test_key_is_of_the_settings_not_of_the_name():
    recipe = recipes.networks("smoke")[0]
    assert replace(recipe, name="other").key == recipe.key != replace(recipe, seed=1).key


def test_wrong_framework():
    with pytest.raises(ConfigError, match="numpy"):
        recipes.Recipe("x", "jax", "SmallResNet", 1)


@pytest.mark.parametrize("residual", [True, False])
def test_small_resnet(residual):
    net = recipes.SmallResNet(7, widths=(4, 6, 8), residual=residual).eval()
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 7)
    assert rf.receptive_field(net, (3, 32, 32)).size == rf.measured(net, input_shape=(3, 64, 64)).size
    small = recipes.SmallResNet(7, widths=(4, 6, 8), residual=residual, kernel=1)
    assert rf.receptive_field(small, (3, 32, 32)).size < rf.receptive_field(net, (3, 32, 32)).size
    assert any(p.dim() == 1 for name, p in net.named_parameters() if "features" in name)
    bare = recipes.SmallResNet(7, widths=(4, 6, 8), batchnorm=False)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in bare.modules())


def test_residual_addition_is_there():
    torch.manual_seed(0)
    net = recipes.SmallResNet(3, widths=(4, 4)).eval()
    block = net.features[1 + 1]
    x = torch.rand(1, 4, 8, 8)
    assert torch.allclose(block(x), x + block.body(x))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_record_is_whole_and_found_again(smoke, tmp_path, index, capsys):
    recipe = recipes.networks("smoke")[index]
    (made,) = recipes.ensure([recipe], smoke, root=tmp_path, results=tmp_path / "results")
    confusion = np.array(made["confusion"])
    assert confusion.shape == (10, 10)
    assert made["test_accuracy"] == pytest.approx(100 * confusion.trace() / confusion.sum())
    assert made["history"][-1]["accuracy"] == pytest.approx(made["test_accuracy"])
    assert np.array(made["filters"]).shape[1] == 3 and made["parameters"] > 1000
    again = recipes.find(recipe, "smoke", root=tmp_path, results=tmp_path / "results")
    assert again["history"] == made["history"]
    (path,) = (tmp_path / "recipes").glob("*.json")
    path.write_text(json.dumps(again | {"recipe": again["recipe"] | {"epochs": 99}}))
    with pytest.raises(ConfigError, match="another recipe"):
        recipes.find(recipe, "smoke", root=tmp_path, results=tmp_path / "results")


def test_each_data_set_has_its_own_record(smoke, tmp_path):
    from conftest import class_files, write_tree

    folder = write_tree(tmp_path / "photos", class_files(count=12, size=32))
    recipe, where = recipes.networks("smoke")[2], {"root": tmp_path, "results": tmp_path / "none"}
    photos = smoke.select(datasets=f"folder:{folder}")
    same_name = write_tree(tmp_path / "other" / "photos", class_files(count=15, size=32))
    (made,) = recipes.ensure([recipe], smoke.select(datasets=f"folder:{same_name}"), **where)
    other = made["provenance"]["data"]["sha256"]
    (made,) = recipes.ensure([recipe], photos, **where)
    assert made["provenance"]["data"]["sha256"] != other
    for _ in range(2):
        for preset, label in ((smoke, "scikit-learn digits"), (photos, "photos")):
            (made,) = recipes.ensure([recipe], preset, **where)
            assert made["provenance"]["data"]["label"] == label


def test_same_seed_same_record(smoke, tmp_path):
    recipe = recipes.networks("smoke")[2]
    first, second = (
        recipes.ensure([recipe], smoke, root=tmp_path / name, results=tmp_path / "none")[0] for name in "ab"
    )
    assert first["confusion"] == second["confusion"] and first["filters"] == second["filters"]


def test_study_is_never_trained_by_a_notebook(tmp_path, capsys):
    study = presets.get("study")
    assert recipes.ensure(recipes.networks("study"), study, root=tmp_path, results=tmp_path) == []
    assert "rfkit recipes study --datasets cifar10" in capsys.readouterr().out


def test_tables_and_lines(smoke, tmp_path):
    made = recipes.ensure(recipes.networks("smoke"), smoke, root=tmp_path, results=tmp_path)
    table = summaries.recipes(made)
    assert list(table["Network"]) == [recipe.name for recipe in recipes.networks("smoke")]
    assert "scikit-learn" in views.recipe_line(made) and views.recipe_line([]) == "No recipe is recorded."
