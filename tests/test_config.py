from dataclasses import replace

import numpy as np
import pytest

from rfkit import config, experiments, presets
from rfkit.config import ConfigError, RunConfig, TrainConfig, literal

RUN = RunConfig(
    dataset="digits", data_sha256="ab", image_size=32, train_images=10, test_images=5, architecture="vgg19", level=2,
    width=0.125, num_classes=10, protocol="short", train=TrainConfig(epochs=2, lr=0.1), seed=3,
)  # fmt: skip


def test_golden_hashes():
    """A change here means that finished runs are no longer found: note it in CHANGELOG.md."""
    assert RUN.hash10 == "dc4b640994"
    assert config.stable_hash({"b": [1, 0.5], "a": None}) == "fc2ad73864"


def test_every_field_but_the_seed_is_in_the_hash():
    other = {
        "dataset": "x", "data_sha256": "x", "image_size": 64, "train_images": 11, "test_images": 6,
        "architecture": "resnet50", "level": 3, "width": 0.25, "num_classes": 11, "protocol": "careful",
        "train": TrainConfig(epochs=3, lr=0.1), "architecture_sha256": "x",
    }  # fmt: skip
    assert set(other) | {"seed"} == set(RunConfig.__dataclass_fields__)
    assert len({replace(RUN, **{key: value}).hash10 for key, value in other.items()} | {RUN.hash10}) == len(other) + 1
    assert replace(RUN, seed=4).hash10 == RUN.hash10
    changed = {
        "epochs": 9, "lr": 0.2, "batch_size": 64, "momentum": 0.5, "nesterov": True, "weight_decay": 0.0,
        "schedule": "constant", "clip_value": 1.0, "augmentation": "none", "train_share": 0.5,
        "selection": "best_test", "precision": "bfloat16", "compiled": True,
    }  # fmt: skip
    assert set(changed) == set(TrainConfig.__dataclass_fields__)
    hashes = {replace(RUN, train=replace(RUN.train, **{key: value})).hash10 for key, value in changed.items()}
    assert len(hashes | {RUN.hash10}) == len(changed) + 1


def test_round_trip_and_folder():
    assert config.run_config(RUN.to_dict()) == RUN
    assert RUN.folder == f"digits-vgg19-level2-short-{RUN.hash10}/seed3"
    assert ":" not in replace(RUN, architecture="mynet:tiny").folder


def test_stored_configurations_that_do_not_fit():
    with pytest.raises(ConfigError, match="has schema 99, this rfkit reads 1; update rfkit"):
        config.run_config(RUN.to_dict() | {"schema": 99})
    with pytest.raises(ConfigError, match="does not fit schema 1.*colour"):
        config.run_config(RUN.to_dict() | {"colour": "red"})
    with pytest.raises(ConfigError, match="does not fit schema 1.*train"):
        config.run_config({key: value for key, value in RUN.to_dict().items() if key != "train"})


def test_differences_name_every_field():
    other = replace(RUN, level=4, train=replace(RUN.train, lr=0.5))
    assert config.differences(RUN.to_dict(), other.to_dict()) == [
        "level: stored 2, asked 4",
        "train.lr: stored 0.1, asked 0.5",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0), ("epochs", 1.5), ("epochs", True), ("batch_size", 1), ("lr", 0), ("momentum", 1),
        ("weight_decay", -1), ("clip_value", 0), ("train_share", 0), ("schedule", "step"), ("selection", "best"),
        ("augmentation", "flip"), ("precision", "float16"), ("lr", "0.1"), ("compiled", "false"), ("compiled", 1),
        ("weight_decay", float("inf")), ("momentum", None),
    ],
)  # fmt: skip
def test_training_fields_are_checked(field, value):
    with pytest.raises(ConfigError, match=rf"{field}.*{value!r}"):
        replace(RUN.train, **{field: value})


@pytest.mark.parametrize(("field", "value"), [("level", 0), ("seed", -1), ("width", 0), ("protocol", "x")])
def test_run_fields_are_checked(field, value):
    with pytest.raises(ConfigError, match=f"{value!r}"):
        replace(RUN, **{field: value})


# --- presets --------------------------------------------------------------------------------------


def test_presets_and_their_protocols():
    assert presets.names() == ("smoke", "demo", "study", "paper")
    assert [presets.get(name).protocol for name in presets.names()] == ["short", "short", "short", "as_stated"]
    paper = presets.get("paper")
    assert (paper.width, len(paper.seeds), len(paper.cells())) == (1.0, 5, 15)
    assert paper.training("cifar10", "vgg19") == presets.PROTOCOL_TRAINING["as_stated"]
    assert presets.get("paper", "as_run").training("tiny_imagenet", "vgg19").train_share == 0.95
    assert presets.get("study").training("cifar10", "vgg19").epochs == 30
    assert presets.get("study").training("cifar10_jpeg", "vgg19").epochs == 30
    assert presets.get("study").training("cifar10", "resnet50").epochs == 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": [0]}, "one of levels is 0; expected a whole number of at least 1"),
        ({"levels": []}, r"levels is \[\]"),
        ({"levels": [1, 1]}, r"levels is \[1, 1\]; expected at least one value, each only once"),
        ({"level": 3}, "unknown parameter 'level'; did you mean 'levels'"),
        ({"seeds": -1}, "one of seeds is -1"),
        ({"rates": [90]}, "rates holds 90"),
        ({"epochs": 0}, "epochs is 0"),
        ({"width": "wide"}, "width is 'wide'"),
        ({"datasets": "cifar"}, "unknown data set 'cifar'; did you mean 'cifar10'"),
        ({"architectures": ["vgg16"]}, "unknown architecture 'vgg16'; did you mean 'vgg19'"),
        ({"seeds": [[1]]}, r"one of seeds is \[1\]"),
        ({"architectures": 3}, "architectures holds 3; expected names"),
        ({"datasets": 3}, "datasets holds 3; expected names"),
        ({"rates": []}, r"rates is \[\]; expected at least one"),
        ({"rates": [0.5, 0.5]}, "each only once"),
        ({"width": float("inf")}, "width is inf"),
        ({"precision": "float16"}, "unknown precision 'float16'.*float32, bfloat16"),
        ({"protocol": "carefull"}, "unknown protocol 'carefull'; did you mean 'careful'"),
    ],
)
def test_select_checks(changes, message):
    with pytest.raises(ConfigError, match=message):
        presets.get("demo").select(**changes)


def test_a_choice_of_nothing_but_what_is_left_out_is_refused():
    with pytest.raises(ConfigError, match="nothing is left to run.*tiny_imagenet, resnet50, level 1"):
        presets.get("study").select(datasets="tiny_imagenet", architectures="resnet50", levels=1)


def test_select_accepts_single_values_and_lists():
    chosen = presets.get("demo").select(levels=3, seeds=[0, 1], epochs=2, rates=None)
    assert (chosen.levels, chosen.seeds, chosen.epochs) == ((3,), (0, 1), 2)
    assert chosen.rates == presets.CURVE_RATES and set(presets.PAPER_RATES) < set(presets.CURVE_RATES)
    assert chosen.headline_rate == 0.9 and chosen.select(rates=[0.1, 0.3]).headline_rate == 0.3


def test_select_reads_texts_as_the_command_line_does():
    chosen = presets.get("demo").select(levels="1,3", seeds="2", rates="0.5, 0.9", architectures="vgg19,resnet50")
    assert (chosen.levels, chosen.seeds, chosen.rates) == ((1, 3), (2,), (0.5, 0.9))
    assert chosen.architectures == ("vgg19", "resnet50")
    with pytest.raises(ConfigError, match="one of levels is 'one'"):
        presets.get("demo").select(levels="one,2")


def test_one_choice_is_one_run_however_it_is_written():
    demo = presets.get("demo")
    assert demo.select(width=1).width.hex() == (1.0).hex() and isinstance(demo.select(width=1).width, float)
    assert replace(RUN, width=1).hash10 == replace(RUN, width=1.0).hash10
    assert demo.select(rates=[0.9, 0.5]) == demo.select(rates=[0.5, 0.9])
    assert literal("folder:photos [2024]") == "folder:photos [2024]" and literal("[a]") == ["a"]


def test_a_folder_is_not_trained_as_what_its_name_reminds_of(tmp_path):
    from conftest import class_files, write_tree

    study = presets.get("study")
    chosen = study.select(datasets="cifar10", architectures="vgg19", levels=1, seeds=0)
    (real,) = chosen.cells()
    assert experiments.unit_of(chosen, *real, 0).config.train.epochs == 30
    names = {"cifar100": "cifar100", "digits": "folder_digits", "cifar10_jpeg": "folder_cifar10_jpeg"}
    for stem, name in (names | {"cifar10": "folder_cifar10"}).items():
        folder = write_tree(tmp_path / stem, class_files(count=6, size=32))
        (unit,) = experiments.units(chosen.select(datasets=f"folder:{folder}"))
        assert unit.config.dataset == name  # nor found where the published one is asked for
        assert (unit.config.train.epochs, unit.config.train.batch_size) == (10, 128)
        assert unit.asked["fine_tune"]["train"]["lr"] == presets.PROTOCOL_FINE_TUNING["short"].lr


def test_chosen_levels_and_seeds_have_spectra_and_pairs():
    demo = presets.get("demo")
    assert demo.spectrum.levels == demo.select(levels=[1, 2]).pairs.levels == (1, 4)
    assert demo.select(levels=[2, 3]).spectrum.levels is demo.select(levels=[2, 3]).pairs.levels is None
    assert demo.seed_pairs == ((0, 1),) and demo.select(seeds=[5, 6, 7, 8]).seed_pairs == ((5, 6), (7, 8))
    assert presets.get("study").seed_pairs == ((0, 1), (2, 3), (4, 5)) and demo.select(seeds=3).seed_pairs == ()


def test_unknown_preset():
    with pytest.raises(ConfigError, match="unknown preset 'dmeo'; did you mean 'demo'.*smoke, demo, study, paper"):
        presets.get("dmeo")


def test_units_come_one_seed_of_every_cell_first():
    units = experiments.units(presets.get("demo").select(architectures="vgg19", levels=[1, 2]))
    assert [(u.config.seed, u.config.level) for u in units] == [(s, lv) for s in (0, 1, 2) for lv in (1, 2)]


def test_own_network_is_named_by_its_source(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "mynet_a.py"
    source.write_text("tiny = None\n")
    preset = presets.get("smoke").select(architectures="mynet_a:tiny", levels=1)
    (before,) = experiments.units(preset)
    source.write_text("tiny = 1\n")
    (after,) = experiments.units(preset)
    assert before.config.hash10 != after.config.hash10
    with pytest.raises(ConfigError, match="cannot find the module of architecture 'gone:net'"):
        experiments.units(presets.get("smoke").select(architectures="gone:net"))
    for name in ("gone.nets:net", "sys:exit", "os:getcwd"):
        with pytest.raises(ConfigError, match=f"cannot find the module of architecture '{name}'"):
            experiments.units(presets.get("smoke").select(architectures=name))


def test_choices_from_numpy_and_from_sums():
    plain = replace(RUN, level=np.int64(2), seed=np.int64(3), train=replace(RUN.train, epochs=np.int64(2)))
    assert plain.folder == RUN.folder and type(plain.seed) is int
    chosen = presets.get("demo").select(epochs=np.int64(3), levels=np.arange(1, 3), rates=np.arange(0.1, 0.95, 0.1))
    assert (
        chosen.epochs == 3 and chosen.levels == (1, 2) and chosen.rates == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    )


def test_a_bracket_in_a_folders_name():
    assert presets.dataset_names("folder:/tmp/set[1]") == ["folder:/tmp/set[1]"]
    assert presets.dataset_names("[digits, folder:/tmp/a,b]") == ["digits", "folder:/tmp/a,b"]
