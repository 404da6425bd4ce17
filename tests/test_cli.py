import json
import re
import shlex
from pathlib import Path

import pytest

from rfkit import book, cli, experiments, presets, tables, training
from rfkit.cli import main
from rfkit.config import ConfigError, literal
from rfkit.presets import dataset_names

ROOT = Path(__file__).parents[1]
SMOKE = ["smoke", "--architectures", "vgg19", "--levels", "3"]


@pytest.fixture(autouse=True)
def top_folder(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "level=3"], "unknown parameter of s33_accuracy_and_pruning 'level'; did you mean 'levels'?"),
        (["-p", "preset=dmeo"], "unknown preset 'dmeo'; did you mean 'demo'? Valid: smoke, demo, study, paper"),
        (["-p", "levels=[0]"], "one of levels is 0; expected a whole number of at least 1"),
        (["-p", "levels"], "parameter 'levels' has no value; expected key=value"),
        (["-p", "protocol=as_ran"], "unknown protocol 'as_ran'; did you mean 'as_run'?"),
        (["-p", "datasets=cifar"], "unknown data set 'cifar'"),
    ],
)
def test_bad_notebook_parameters_are_one_clear_line(words, message, capsys):
    assert main(["notebook", "s33_accuracy_and_pruning", *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["notebook", "s33_acuracy"], "unknown notebook 's33_acuracy'; did you mean 's33_accuracy_and_pruning'?"),
        (["table", "15"], "unknown table 15"),
        (["study", "dmeo"], "did you mean 'demo'?"),
        (["study", "smoke", "--levels", "one"], "one of levels is 'one'"),
        (["study", "smoke", "--datasets", "folder:/no/such/place"], "/no/such/place does not exist"),
        (["show", "nothing"], "unknown run 'nothing'"),
        (["book", "dmeo"], "did you mean 'demo'?"),
        (["plan", "smoke", "--device", "gpu"], "device 'gpu' cannot be used"),
        (["study", "smoke", "--levels", "True"], "one of levels is True"),
        (["record", "smoke", "--weights", "all"], "unknown seed of --weights 'all'. Valid: 0"),
        (["book", "smoke", "-j", "-1"], "jobs is -1"),
    ],
)
def test_bad_requests_are_one_clear_line(words, message, capsys):
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,3", [1, 3]), ("[1,3]", [1, 3]), ("3", 3), ("0.5", 0.5), ("None", None), ("vgg19", "vgg19"),
        ("vgg19,resnet50", ["vgg19", "resnet50"]), ("[vgg19]", ["vgg19"]), ("'a'", "a"),
        ("folder:x.zip", "folder:x.zip"), ("True", True), ("", ""), ("1/8", 0.125), ("1/16,1/4", [0.0625, 0.25]),
        ("1/0", "1/0"), ("photos/3", "photos/3"),
    ],
)  # fmt: skip
def test_literals(text, value):
    assert literal(text) == value


def test_study_ls_show_table(capsys):
    assert main(["study", *SMOKE, "-j", "1"]) == 0
    assert "1 of 1 runs of preset smoke are finished" in capsys.readouterr().out
    assert main(["ls"]) == 0
    assert "digits-vgg19-level3-short-" in capsys.readouterr().out
    assert main(["show", "level3"]) == 0
    shown = capsys.readouterr().out
    assert "shrink_factor: 0." in shown and "label': 'scikit-learn digits'" in shown and "analysis pruning-" in shown
    assert main(["table", "1", "--preset", "smoke", "--csv"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header == ",".join(tables.COLUMNS) and len(rows) == 8 and "nan" not in " ".join(rows).lower()
    by_key = {tuple(row.split(",")[1:3]): row.split(",") for row in rows}
    seeds = header.split(",").index("ours_seeds")
    assert by_key["vgg19", "3"][seeds] == "1" and by_key["vgg19", "1"][seeds] == ""
    assert main(["table", "2", "--preset", "smoke"]) == 0
    assert "no finished run of preset smoke belongs in table 2" in capsys.readouterr().err
    for form in ("--latex", "--md"):
        assert main(["table", "2", form]) == 0
        assert "61.5" in capsys.readouterr().out


def test_a_comma_in_the_path_of_a_folder_is_part_of_it():
    for text, names in {
        "folder:/a,b": ["folder:/a,b"],
        "digits,folder:/a, b/c.zip,folder:d": ["digits", "folder:/a, b/c.zip", "folder:d"],
        "folder:/a,digits": ["folder:/a", "digits"],
        "['folder:/a,b', 'digits']": ["folder:/a,b", "digits"],
        "cifar10,tiny_imagenet": ["cifar10", "tiny_imagenet"],
    }.items():
        assert dataset_names(text) == names
    chosen = presets.get("demo").select(datasets="folder:/a,b")
    parsed = cli._parser().parse_args(["study", *shlex.split(experiments.command(chosen))])
    assert cli._preset(parsed) == chosen


def test_only_named_analyses_are_made(capsys):
    assert main(["study", *SMOKE, "-j", "1", "--analyses", "pruning"]) == 0
    (run,) = experiments.Store().runs()
    assert [path.name.split("-")[0] for path in run.path.glob("analysis/*")] == ["pruning"]
    assert main(["study", "smoke", "--analyses", "prunning"]) == 2
    assert "unknown analysis 'prunning'; did you mean 'pruning'?" in capsys.readouterr().err


def test_field_of_any_network(capsys):
    assert main(["field", "resnet50", "--level", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split()[:4] == ["features.layer4.2.relu3", "8x8", "108x108", "8x8"]
    assert main(["field", "torchvision.models:efficientnet_b0", "--input", "3,224,224", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["size"] == [3, 3] and rows[-1]["size"] == [None, None] and rows[-1]["stride"] == [32, 32]
    assert main(["field", "torchvision.models:swin_t", "--input", "3,224,224"]) == 1
    assert "operation 'view' in module 'features.1.0.attn' splits an axis" in capsys.readouterr().err
    assert main(["field", "vgg19", "--input", "64"]) == 2
    assert "input_shape is" in capsys.readouterr().err


def test_plan_counts_the_whole_paper(monkeypatch, capsys):

    monkeypatch.setattr(training, "seconds_per_image", lambda *_: 0.01)
    assert main(["plan", "paper"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 15 + 1 + 1 and lines[-2].split()[:2] == ["all", "75"]


def test_plan_for_a_device_that_is_not_here(capsys):
    hours = {}
    for tflops in ("10", "20"):
        assert main(["plan", "paper", "--tflops", tflops]) == 0
        lines = capsys.readouterr().out.splitlines()
        hours[tflops] = [float(line.split()[-1]) for line in lines[2:-1]]
        assert f"{tflops} TFLOP/s" in lines[-1]
        petaflop, total = float(lines[-2].split()[-3]), hours[tflops][-1]
        assert total == pytest.approx(petaflop * 1000 / float(tflops) / 3600, rel=1e-2)
    assert hours["10"] == pytest.approx([2 * h for h in hours["20"]], rel=1e-2)
    assert main(["plan", "paper", "--tflops", "0"]) == 2
    assert "expected a positive throughput" in capsys.readouterr().err


def test_options_of_the_training_are_part_of_the_run(capsys):
    assert main(["units", "smoke", "--precision", "bfloat16", "--compiled"]) == 0
    commands = [job["command"] for job in json.loads(capsys.readouterr().out)]
    assert all("--precision bfloat16 --compiled" in command for command in commands)
    assert main(["units", "smoke", "--precision", "float8"]) == 2
    assert "unknown precision 'float8'" in capsys.readouterr().err


def test_measured_cost_is_positive_and_flops_scale_with_resolution():
    from rfkit import experiments

    one, four = (experiments.unit_of(presets.get("study"), "cifar10", "vgg19", level, 0).config for level in (1, 4))
    assert 5 < training.flops_per_image(one) / training.flops_per_image(four) < 10
    assert 0 < training.seconds_per_image(four) < training.seconds_per_image(one)


def test_vgg_flops_are_those_of_its_convolutions():
    from rfkit import experiments

    config = experiments.unit_of(presets.get("paper"), "cifar10", "vgg19", 1, 0).config
    sides = [32, 31, 15, 15, *[7] * 4, *[3] * 8]
    channels = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
    convs = sum(9 * a * b * s * s for a, b, s in zip(channels, channels[1:], sides, strict=False))
    assert training.flops_per_image(config) == pytest.approx(3 * 2 * (convs + 5120), rel=1e-6)


def test_command_names_what_differs_from_the_preset():
    from rfkit import experiments

    chosen = presets.get("demo", "careful").select(levels=[1, 3], width=0.25)
    assert experiments.command(chosen) == "demo --protocol careful --levels 1,3 --width 0.25"
    spaced = presets.get("demo").select(datasets="folder:my pictures@32")
    assert experiments.command(spaced) == "demo --datasets 'folder:my pictures@32'"
    with pytest.raises(ConfigError, match="max_minutes is 'soon'; expected a number of minutes"):
        experiments.ensure(chosen, max_minutes="soon")
    with pytest.raises(ConfigError, match="max_minutes is 'soon'; expected a number of minutes"):
        experiments.measure("dead_weights", chosen, max_minutes="soon")


def test_parameters_of_a_notebook():
    found = book.defaults("s33_accuracy_and_pruning")
    assert found["preset"] == "demo" and found["max_minutes"] == 10
    with pytest.raises(ConfigError, match="no notebooks/ in"):
        import os

        os.chdir(ROOT / "rfkit")
        book.notebook_names()


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 10},  # as the preset's own, but for the exceptions that go with it
        {"epochs": 3, "levels": [1, 4], "seeds": [2]},
        {"width": 1, "rates": [0.9, 0.5]},
        {"precision": "bfloat16", "compiled": True},
        {"architectures": "rfkit.contrast_nets:dilated", "levels": [1]},  # all of it, as no --contrasts would
    ],
)
def test_command_asks_for_what_it_was_made_from(changes):
    chosen = presets.get("study").select(**changes)
    parsed = cli._parser().parse_args(["study", *shlex.split(experiments.command(chosen))])
    assert cli._preset(parsed) == chosen


def test_units_are_commands_of_their_own(capsys):
    assert main(["units", "smoke", "--levels", "3"]) == 0
    units = json.loads(capsys.readouterr().out)
    assert len({unit["name"] for unit in units}) == 2
    for unit, architecture in zip(units, ("vgg19", "resnet50"), strict=True):
        words, _, analyses = unit["command"].partition(" --analyses ")
        assert words == f"smoke --architectures {architecture} --levels 3"
        of_one = {each.name for each in experiments.named() if each.needs == "run"}  # what a study makes of it alone
        assert set(analyses.split(",")) <= of_one and "pruning" in analyses
    assert all(unit["minutes"] >= 10 and unit["memory_mib"] >= 3000 for unit in units)


def test_summary_wants_every_run(capsys):
    assert main(["summary", *SMOKE]) == 1
    assert "1 of 1 runs of preset 'smoke' are missing" in capsys.readouterr().err
    assert main(["study", *SMOKE, "-j", "1", "--analyses", "pruning"]) == 0
    capsys.readouterr()
    assert main(["summary", *SMOKE]) == 0  # other analyses may come later
    assert capsys.readouterr().out.startswith("data_label,")


def test_assignment_from_the_command_line(tmp_path, capsys):
    assert main(["assignment", "build", str(tmp_path / "hand"), "--tests", str(tmp_path / "tests")]) == 0
    assert capsys.readouterr().out.count(".ipynb") == 4 and (tmp_path / "tests" / "q4.py").is_file()
    assert main(["assignment", "build", str(tmp_path / "hand")]) == 2
    assert "nothing was overwritten" in capsys.readouterr().err
    assert main(["assignment", "grade", str(tmp_path / "none")]) == 2
    (tmp_path / "empty").mkdir()
    report = tmp_path / "points.json"
    assert main(["assignment", "grade", str(tmp_path / "empty"), "--json", str(report)]) == 0
    assert "0 of 100 points" in capsys.readouterr().out and json.loads(report.read_text())[0]["total"] == 0


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("torch.nn:Conv2d", "needs in_channels, out_channels, kernel_size"),
        ("torchvision:models", "is a module; expected a callable"),
        ("torch.nn:Flatten", "makes no spatial feature map"),
        ("torchvision.models:vit_b_16", "Wrong image height.* give the input_shape"),
    ],
)
def test_networks_that_have_no_field(capsys, network, message):
    from rfkit.cli import main

    assert main(["field", network]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_book_shows_what_it_was_asked_to_train(monkeypatch, tmp_path):
    """Every choice reaches the notebooks, also one that equals the preset's number beside its exceptions."""
    from rfkit import book

    monkeypatch.chdir(ROOT)
    seen = []
    monkeypatch.setattr(book.experiments, "ensure", lambda *_, **__: [])
    monkeypatch.setattr(book, "stage", lambda *_: None)
    monkeypatch.setattr(book, "render", lambda: tmp_path)
    monkeypatch.setattr(book.pool, "run", lambda tasks, _: seen.extend(tasks) or [])
    words = {"--precision": "bfloat16", "--compiled": None, "--epochs": "10", "--datasets": "folder:a,b"}
    given = [word for pair in words.items() for word in pair if word]
    assert main(["book", "study", *given]) == 0
    (parameters,) = [made for _, (name, made) in seen if name == "supp_fine_tuning"]
    shown = {"preset": "study", "precision": "bfloat16", "compiled": True, "epochs": 10, "datasets": ["folder:a,b"]}
    assert parameters == shown
    assert main(["book", "smoke", "--contrasts"]) == 2
    given = ["datasets=folder:a,b", "images=my, pictures", "levels=1,3"]
    assert book.parse(given) == {"datasets": "folder:a,b", "images": "my, pictures", "levels": [1, 3]}


def test_a_job_has_the_same_name_before_and_after_a_download_and_another_for_other_rates(monkeypatch):
    from dataclasses import replace

    from rfkit import experiments
    from rfkit.experiments import study

    (unit,) = experiments.units(presets.get("smoke").select(architectures="vgg19", levels=3))
    name = study._job_name(unit)
    assert study._job_name(replace(unit, config=replace(unit.config, data_sha256=""))) == name
    (other,) = experiments.units(presets.get("smoke").select(architectures="vgg19", levels=3, rates=[0.3]))
    assert other.config == unit.config and study._job_name(other) != name
    odd = replace(unit, config=replace(unit.config, dataset="pics(1)"))
    assert study._job_name(odd).startswith("pics_1_-vgg19-level3-short-")
