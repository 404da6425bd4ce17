"""Submissions, good and broken: each loses what it got wrong, and nothing else."""

import ast
import codecs
import contextlib
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest

from rfkit import data, files
from rfkit.cli import main
from rfkit.config import ConfigError
from rfkit.homework import descent, editions, gradescope, grading, kernel, nets
from rfkit.homework.hidden_tests import q1 as hidden_q1
from rfkit.homework.hidden_tests import q4 as hidden_q4

ROOT = Path(__file__).parents[1]
FULL_2 = {name for _, name, _ in grading.suites(editions.HIDDEN_TESTS)[2]}


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        folder = tmp_path_factory.mktemp("solved")
        editions.build(folder, solutions=True)
    return folder


@pytest.fixture
def layers(solved, tmp_path):
    """A submission of question 2 alone, to be broken."""
    path = tmp_path / "CNN-Layers.ipynb"
    shutil.copy(solved / path.name, path)
    return path


def edit(path, change):
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def replace(path, old, new):
    def change(notebook):
        (cell,) = (cell for cell in notebook.cells if editions.has(cell, "solution"))
        assert old in cell.source
        cell.source = cell.source.replace(old, new)

    edit(path, change)


def add_cell(path, source, place=None):
    def change(notebook):
        notebook.cells.insert(len(notebook.cells) if place is None else place, nbformat.v4.new_code_cell(source))

    edit(path, change)


def network_question(solved, folder, source):
    """What the last test of question 4 says of a network made by this cell, in place of the trained one."""
    path = Path(shutil.copy(solved / "CNN.ipynb", folder))

    def change(notebook):
        notebook.cells = [cell for cell in notebook.cells if "best_network = " not in cell.source]

    edit(path, change)
    add_cell(path, source)
    *_, test = grading.grade(folder)["questions"][3]["tests"]
    return test


def question_2(path, **limits):
    question = grading.grade(path.parent, **({"seconds": 20} | limits))["questions"][1]
    lost = {test["name"] for test in question["tests"] if test["points"] < test["of"]}
    return question, lost


def test_solutions_get_full_marks(solved):
    graded = grading.grade(solved)
    assert (graded["total"], graded["of"]) == (100, 100)
    assert [question["of"] for question in graded["questions"]] == [10, 40, 20, 30]
    assert not any(question["problems"] for question in graded["questions"])
    assert "solved" in graded["submission"] and "100 of 100" in grading.table(graded)


def test_wrong_padding_loses_what_pads(layers):
    replace(layers, "(padding[0],) * 2,", "(0, 2 * padding[0]),")
    question, lost = question_2(layers)
    # the gradient of the input is that of the right place, by luck: it is shifted back
    assert lost == {name for name in FULL_2 if ("padding" in name and "input" not in name) or "dilation" in name}
    assert question["points"] == 32
    (told,) = (
        test["message"] for test in question["tests"] if test["name"] == "convolution forwards: stride and padding"
    )
    assert told.startswith("with stride=2, padding=1: ")


def test_one_option_that_is_left_out_loses_its_own_points(layers):
    add_cell(layers, "full = conv_forward\ndef conv_forward(*a, dilation=1, **k):\n    return full(*a, **k)")
    question, lost = question_2(layers)
    assert lost == {"convolution: dilation, forwards and backwards"} and question["points"] == 38


def test_a_gradient_without_dilation_is_wrong(layers):
    add_cell(layers, (
        "right = conv_forward\n"
        "def conv_forward(x, w, b, *, dilation=1, **options):\n"
        "    plain = right(x, w, b, **options)[1] if dilation != 1 else None\n"
        "    out, cache = right(x, w, b, dilation=dilation, **options)\n"
        "    return out, plain or cache"
    ))  # fmt: skip
    question, lost = question_2(layers)
    assert lost == {"convolution: dilation, forwards and backwards"} and question["points"] == 38


@pytest.mark.parametrize("code", ["quit()", "exit()", "dict = {'a': 1}\nexec = hasattr = float = [1]"])
def test_what_costs_nothing(layers, code):
    """Leaving the kernel, at either end of the notebook; a variable by the name of a builtin, at its end."""
    for place in (None, 1) if "(" in code else (None,):
        add_cell(layers, code, place=place)
    question, lost = question_2(layers)
    assert not lost and all("stops the kernel" in problem for problem in question["problems"])


def test_equal_values(layers):
    replace(layers, "windows.argmax(-1)", "windows.shape[-1] - 1 - windows[..., ::-1].argmax(-1)")
    question, lost = question_2(layers)
    assert lost == {"max-pool backwards"} and question["points"] == 35


def test_infinite_loop_in_a_function(layers):
    add_cell(layers, "def max_pool_backward(dout, cache):\n    while True:\n        pass")
    question, lost = question_2(layers, seconds=5)
    assert lost == {"max-pool backwards", "convolution, ReLU and max-pool together"} and question["points"] == 31
    first, second = (t["message"] for t in question["tests"] if t["name"] in lost)
    assert "not finished after 5 s" in first and "not finished after 2 s" in second  # one loop makes many tests hang


def test_an_endless_loop_costs_no_other_function(layers):
    """However often the notebook itself and the tests run into it."""

    def change(notebook):
        (cell,) = (cell for cell in notebook.cells if editions.has(cell, "solution"))
        cell.source += "\n\ndef conv_forward(*a, **k):\n    while True:\n        pass\n"

    edit(layers, change)
    question, lost = question_2(layers, seconds=3)
    assert lost == {name for name in FULL_2 if "convolution" in name} and question["points"] == 10


def test_infinite_loop_in_a_cell(layers):
    add_cell(layers, "while True:\n    pass", place=2)
    question, lost = question_2(layers, seconds=5)
    assert not lost and "not finished" in question["problems"][0]


def test_import_error_and_deleted_tests(layers):
    def change(notebook):
        notebook.cells = [cell for cell in notebook.cells if not editions.has(cell, "test")]
        notebook.cells.insert(0, nbformat.v4.new_code_cell("import not_there"))

    edit(layers, change)
    question, lost = question_2(layers)
    assert not lost and "not_there" in question["problems"][0]


def test_our_layers_cannot_be_imported(layers):
    replace(layers, "import numpy as np", "from rfkit.numpy_layers import *\nimport numpy as np")
    question, lost = question_2(layers)
    assert lost == FULL_2 and "write your own" in question["problems"][0]
    assert question["points"] == 0


@pytest.mark.parametrize(
    "module", ["rfkit.receptive_field", "rfkit.homework.hidden_tests.q1", "rfkit.homework.answers"]
)
def test_answers_to_question_1_cannot_be_imported(solved, tmp_path, module):
    shutil.copy(solved / "Receptive-Fields.ipynb", tmp_path)
    add_cell(tmp_path / "Receptive-Fields.ipynb", f"import {module} as ours\ndel first_field", place=8)
    question = grading.grade(tmp_path)["questions"][0]
    assert any("write your own" in problem for problem in question["problems"])
    assert question["points"] == question["of"]  # del was left out


def test_an_import_that_nothing_uses_costs_nothing(layers):
    replace(layers, "import numpy as np", "import scipy.signal\nimport torch\nimport numpy as np")
    question, lost = question_2(layers)
    assert not lost and not question["problems"]
    add_cell(layers, "def conv_backward(dout, cache):\n    return torch.zeros(3)")
    question, lost = question_2(layers)
    (told,) = {t["message"] for t in question["tests"] if t["name"] == "convolution backwards: input"}
    assert "torch (not available here: write your own)" in told
    add_cell(layers, "from scipy.signal import correlate", place=1)
    assert "'scipy.signal (not available here: write your own)'" in question_2(layers)[0]["problems"][0]


def test_a_kernel_that_cannot_be_prepared_is_no_fault_of_the_student(layers, monkeypatch):
    monkeypatch.setattr(kernel, "_SETUP", "raise OSError('no such limit')  # {blocked} {limit}")
    with pytest.raises(kernel.SetupError, match=r"no kernel can be prepared.*no such limit"):
        grading.grade(layers.parent)


def test_a_kernel_that_cannot_be_started_is_no_fault_of_the_student(layers, monkeypatch):
    def refused(*_, **__):
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(kernel.KernelManager, "start_kernel", refused)
    with pytest.raises(kernel.SetupError, match=r"no kernel can be prepared.*no more processes"):
        grading.grade(layers.parent)


def test_a_long_name_of_the_temporary_folder(tmp_path):
    assert "KernelManager" in kernel.private_sockets("/tmp/rfkit-1") or os.name != "posix"
    assert not kernel.private_sockets(tmp_path / ("y" * 90))


def test_submissions_of_one_name_are_told_apart(tmp_path, monkeypatch):
    for student in ("alice", "bob"):
        (tmp_path / student / "hw").mkdir(parents=True)
    monkeypatch.setattr(grading, "grade", lambda folder, tests, **_: {"submission": folder.resolve().name})
    both = [tmp_path / student / "hw" for student in ("alice", "bob")]
    assert {each["submission"] for _, each in grading.grade_all(both)} == {"alice-hw", "bob-hw"}
    assert len(set(grading._names({0: ("/", "x", "a-b"), 1: ("/", "x-a", "b")}).values())) == 2
    monkeypatch.chdir(both[0])
    assert [each["submission"] for _, each in grading.grade_all(["."])] == ["hw"]
    # late and alone, by the name of before
    late = dict(grading.grade_all(both[:1], known={"alice-hw", "bob-hw"}))
    assert late[both[0]]["submission"] == "alice-hw"
    assert grading._names({0: ("/", "carol", "hw")}, {"alice-hw", "bob-hw"}) == {0: "carol-hw"}
    assert grading._names({0: ("/", "maria")}, {"anna-maria", "maria"}) == {0: "maria"}
    three = {name: ("/", "all", name) for name in ("anna-maria", "bob", "maria")}  # the last is new
    assert list(grading._names(three, {"anna-maria", "bob"}).values()) == ["anna-maria", "bob", "all-maria"]
    (tmp_path / "__MACOSX").mkdir()
    assert [each for _, each in grading.grade_all([tmp_path / "__MACOSX"])] == [None]
    with pytest.raises(ConfigError, match="jobs is 0"):
        list(grading.grade_all(both, jobs=0))


def test_a_lower_limit_of_the_system_is_kept(layers):
    limited = f"ulimit -v 7000000; exec {sys.executable} -m rfkit assignment grade {layers.parent} --seconds 20"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, cwd=ROOT)
    assert "question 2, CNN-Layers: 40 of 40" in done.stdout, done.stderr


def test_crash_of_the_kernel(layers):
    add_cell(layers, "import os\nos._exit(3)")
    question, lost = question_2(layers)
    assert not lost and "died" in question["problems"][0]


def test_garbage_and_tampering(layers):
    add_cell(
        layers,
        "import numpy as np, builtins, sys\nprint('100 of 100 points\\n' * 100_000)\n"
        "np.testing.assert_allclose = lambda *a, **k: None\nprint(open('/dev/urandom', 'rb').read(10**6))\n"
        "def conv_backward(dout, cache):\n    return 'full', 'marks', object()",
    )
    question, lost = question_2(layers)
    assert lost == {name for name in FULL_2 if ("backwards" in name and "conv" in name) or "together" in name}
    assert question["points"] == 20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux only")
def test_memory(layers):
    add_cell(layers, "import numpy\nhog = numpy.ones((20, 2**30))")
    question, lost = question_2(layers, memory_gib=6)
    assert not lost and "MemoryError" in question["problems"][0]


def test_broken_and_missing_files(solved, tmp_path):
    shutil.copy(solved / "CNN-BatchNorm.ipynb", tmp_path)
    (tmp_path / "CNN.ipynb").write_text("{not json")
    graded = grading.grade(tmp_path)
    assert [question["points"] for question in graded["questions"]] == [0, 0, 20, 0]
    said = graded["questions"][0]["problems"][0]
    assert "not handed in under this name" in said and "CNN-BatchNorm.ipynb" in said
    assert "cannot be read" in graded["questions"][3]["problems"][0]


def test_a_syntax_error_costs_one_function(tmp_path, monkeypatch):
    """Every function of the hand-out has a cell of its own; what only lacks a name is counted with the first error."""
    monkeypatch.chdir(ROOT)
    editions.build(tmp_path)
    path = tmp_path / "Receptive-Fields.ipynb"
    right = {
        "first_field": "m1", "second_field": "m1 + m2 - 1", "fields_with_strides": "m1, m1 + (m2 - 1) * s1",
        "field_of_layer": "1 +* 2", "two_ways": "([*kernels, 3], [*strides, 1]), ([*kernels, 2], [*strides, 2])",
    }  # fmt: skip

    def solve(notebook):
        cells = [cell for cell in notebook.cells if editions.has(cell, "solution")]
        assert len(cells) == len(right)
        for cell in cells:
            name = next(name for name in right if f"def {name}" in cell.source)
            cell.source = re.sub("raise NotImplementedError.*", f"return {right[name]}", cell.source)
        notebook.cells += [nbformat.v4.new_code_cell("field_of_layer(1, [3], [1])"), nbformat.v4.new_code_cell("1 / 0")]

    edit(path, solve)
    question = grading.grade(tmp_path)["questions"][0]
    assert {test["name"]: test["points"] for test in question["tests"]} == {
        "(a) first layer": 1, "(b) second layer": 2, "(c) strides": 3, "(d) any layer": 0, "(e) two ways": 2,
    }  # fmt: skip
    first, last = (problem for problem in question["problems"] if "nothing is written" not in problem)
    assert "SyntaxError" in first and "later cells that need it: 2" in first and "ZeroDivisionError" in last


def test_two_ways_are_any_two(solved, tmp_path):
    ways = {"longer": "k + [3], s + [1]", "pool": "k + [3], s + [2]", "stride": "k, [2 * n for n in s]",
            "kernels": "[n + 2 for n in k], s"}  # fmt: skip
    path = shutil.copy(solved / "Receptive-Fields.ipynb", tmp_path)
    for first in ways:
        for second in ways:
            add_cell(Path(path), f"def two_ways(k, s):\n    return ({ways[first]}), ({ways[second]})\n")
            *_, test = grading.grade(tmp_path)["questions"][0]["tests"]
            assert test["points"] == 2 * (first != second), (first, second, test["message"])
    add_cell(Path(path), "def two_ways(k, s):\n    return (k + [3], s), (k, s)\n")
    *_, test = grading.grade(tmp_path)["questions"][0]["tests"]
    assert "kernels and" in test["message"] and "expected one of each per layer" in test["message"]


@pytest.mark.parametrize("seed", range(60))
def test_every_draw_of_question_1_can_be_answered_in_any_two_ways(seed, monkeypatch):
    """Kernels of 1 among those drawn would make a larger stride, or a dilated kernel, see no more."""
    monkeypatch.setattr(hidden_q1, "random", np.random.default_rng(seed))
    for other in ("(k, [*s[:-2], 2 * s[-2], s[-1]])", "(k, [2 * n for n in s])", "([*k[:-1], 2 * k[-1] - 1], s)"):

        def student(code, names, other=other):
            answer = f"def two_ways(k, s):\n    return (k + [3], s + [1]), {other}\n"
            exec(answer + code, space := {})
            return [np.array(space[name]) for name in names]

        hidden_q1.two_ways(student)


def test_the_given_class_is_no_design_of_ones_own(solved, tmp_path):
    scaled = "(lambda found: (1.5 * found[0], found[1]))(super().scores(x, **more))"
    for scores, points in (
        ("super().scores(x, **more)", 0),
        (scaled, 0),
        ("super().scores(np.tanh(2 * x), **more)", 8),
    ):
        test = network_question(solved, tmp_path, (
            f"class Mine(ThreeLayerConvNet):\n    def scores(self, x, **more):\n        return {scores}\n\n"
            "best_network = Mine(filters=8, kernel=5)\n"
            "descent.train(best_network, x, labels, descent.Adam(5e-3), epochs=4, batch_size=25)\n"
            "best_network.parameters['unused'] = np.zeros(1)"
        ))  # fmt: skip
        assert test["points"] == points and (points or "is a ThreeLayerConvNet" in test["message"]), test["message"]


def test_the_given_class_is_known_in_any_order_and_with_a_gain():
    class Gained(nets.ThreeLayerConvNet):
        def scores(self, x, **more):
            found, cache = super().scores(x, **more)
            return found * self.parameters.get("gain", 1), cache

    x, labels = descent.arrays(data.load("digits"), 1438)
    plain, gained, by_class = (Gained(filters=8, kernel=5) for _ in range(3))
    descent.train(plain, x, labels, descent.Adam(5e-3), epochs=4, batch_size=25)
    gained.parameters = plain.parameters | {"gain": np.full(1, 2.0)}
    by_class.parameters = plain.parameters | {"gain": np.full(10, 2.0)}
    plain.parameters = dict(sorted(plain.parameters.items(), reverse=True))
    for network in (plain, gained, by_class):

        def student(code, names, network=network, **arrays):
            exec(code, space := {"best_network": network} | arrays)
            return [np.array(space[name]) for name in names]

        with pytest.raises(AssertionError, match="is a ThreeLayerConvNet"):
            hidden_q4.own_network(student)
    arrays = list(plain.parameters.values())
    assert len(list(hidden_q4._as_given(arrays))) == 1
    assert not list(hidden_q4._as_given([a if a.ndim != 4 else a[..., :4, :4] for a in arrays]))  # no even kernel


def test_nearest_neighbours_are_no_network(solved, tmp_path):
    test = network_question(solved, tmp_path, (
        "import numpy as np\n"
        "class Nearest:\n"
        "    parameters = {'w': np.ones(3)}\n"
        "    def scores(self, images):\n"
        "        flat, known = images.reshape(len(images), -1), x.reshape(len(x), -1)\n"
        "        far = (flat**2).sum(1)[:, None] - 2 * flat @ known.T + (known**2).sum(1)\n"
        "        return np.eye(10)[labels[far.argmin(1)]], None\n"
        "best_network = Nearest()"
    ))  # fmt: skip
    assert test["points"] == 0 and "with all parameters zero, 100 % of the answers are the same" in test["message"]


def test_notebooks_in_a_folder_below(solved, tmp_path):
    for folder in ("team 3/work", "old"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(solved / "Receptive-Fields.ipynb", tmp_path / "team 3/work")
    assert grading.grade(tmp_path)["questions"][0]["points"] == 10
    shutil.copy(solved / "Receptive-Fields.ipynb", tmp_path / "old")
    question = grading.grade(tmp_path)["questions"][0]
    assert question["points"] == 0 and "not handed in under this name" in question["problems"][0]


def test_names_that_platforms_change(solved, tmp_path):
    given = {"Receptive-Fields": "muller_12_34_Receptive-Fields-1", "CNN": "CNN (2)", "CNN-BatchNorm": "cnn-batchnorm"}
    for name, other in given.items():
        shutil.copy(solved / f"{name}.ipynb", tmp_path / f"{other}.ipynb")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX/._CNN (2).ipynb").write_bytes(b"resource fork")
    questions = grading.grade(tmp_path)["questions"]
    assert [question["points"] for question in questions] == [10, 0, 20, 30]
    assert questions[3]["problems"] == ["it was handed in as CNN (2).ipynb"]


def test_blank_derivations_are_named(solved, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    editions.build(tmp_path)
    path = tmp_path / "Receptive-Fields.ipynb"
    for other in tmp_path.glob("CNN*.ipynb"):
        other.unlink()

    def problems():
        return [p for p in grading.grade(tmp_path)["questions"][0]["problems"] if "nothing is written" in p]

    assert problems() == ["nothing is written below 5 of the questions that ask for words"]

    def answer(notebook):
        first, second, *_ = (i for i, cell in enumerate(notebook.cells) if "*Your derivation:*" in cell.source)
        notebook.cells[first].source += " a unit reads a patch."
        notebook.cells.insert(second + 1, nbformat.v4.new_markdown_cell("Patches overlap."))

    edit(path, answer)
    assert problems() == ["nothing is written below 3 of the questions that ask for words"]


def test_questions_that_are_not_due_cost_nothing(layers, capsys):
    folder = layers.parent
    graded = grading.grade(folder, questions=[2])
    said = grading.table(graded)
    assert f"{folder.name}: 40 of 40 points" in said and "question 4" not in said and "left to the teacher" not in said
    (row,) = grading.gradebook([graded])
    assert [row[f"question {number}"] for number in grading.BLOCKED] == ["", 40, "", ""]
    assert main(["assignment", "grade", str(folder), "--questions", "2,5"]) == 2
    assert "unknown question 5" in capsys.readouterr().err


def test_a_gradebook_keeps_who_is_not_graded_again(tmp_path, capsys):
    def graded(name, points, *problems):
        questions = [{"question": n, "points": points, "problems": list(problems)} for n in grading.BLOCKED]
        return {"submission": name, "questions": questions, "total": points, "of": 10, "to_read": "words"}

    made = grading.gradebook([graded("zoe", 3), graded("amy", 4, "late\nask her", "odd")])
    assert [row["submission"] for row in made] == ["amy", "zoe"] and made[0]["notes"].startswith("late\nask her")
    files.write_csv(path := tmp_path / "points.csv", made)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())  # as Excel saves it
    before = files.read_csv(path)
    assert before == [{key: str(value) for key, value in row.items()} for row in made]
    after = grading.gradebook([graded("zoe", 9), graded("bob", 1)], before)
    assert [(row["submission"], int(row["total"])) for row in after] == [("amy", 4), ("bob", 1), ("zoe", 9)]
    path.write_text(text := "name,mark\nzoe,2\n")
    with pytest.raises(ConfigError, match="has columns name, mark, not a gradebook's; name another file"):
        grading.gradebook([], files.read_csv(path))
    (tmp_path / "zoe").mkdir()
    assert main(["assignment", "grade", str(tmp_path / "zoe"), "--csv", str(path)]) == 2  # before anything is graded
    assert "zoe" not in capsys.readouterr().out and path.read_text() == text


@pytest.mark.parametrize(
    "code", ["import importlib", "rfkit.__file__", "sys.meta_path", "__import__('os')", "grading.__globals__"]
)
def test_cells_that_reach_for_the_answers_are_named(layers, code):
    add_cell(layers, f"import rfkit, sys\n{code}")
    question, lost = question_2(layers)
    mentioned = re.split(r"[ .]", code)[-1].split("(")[0]
    assert not lost and any(f"mentions {mentioned}:" in problem for problem in question["problems"])


def test_nothing_is_left_behind(layers, monkeypatch, tmp_path):
    monkeypatch.setattr(kernel.tempfile, "mkdtemp", lambda prefix: str(made))
    made = tmp_path / "kernel"
    made.mkdir()
    student = kernel.Submission(layers)
    with contextlib.closing(student):
        assert student("n = 2 + m", ["n"], m=3)[0] == 5
        with pytest.raises(kernel.StudentError, match="NameError"):
            student("n = m", ["n"])
    assert not made.exists()


def test_ctrl_c_begins_no_other_submission(tmp_path, monkeypatch):
    begun = []

    def slowly(folder, tests, **_):
        begun.append(folder)
        time.sleep(0.2)
        return {"submission": folder.name}

    monkeypatch.setattr(grading, "grade", slowly)
    for i in range(5):
        (tmp_path / str(i)).mkdir()
    graded = grading.grade_all(sorted(tmp_path.iterdir()))
    next(graded)
    graded.close()
    time.sleep(0.5)
    assert len(begun) <= 2


def test_wrong_folders(tmp_path):
    with pytest.raises(ConfigError, match=r"expected one with Receptive-Fields\.ipynb"):
        grading.grade(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"no .*q1\.py; rfkit assignment build"):
        grading.grade(tmp_path, tests=tmp_path)
    shutil.copytree(editions.HIDDEN_TESTS, tests := tmp_path / "tests")
    for text, wrong in {
        "CASES = []": "no attribute 'TESTS'",
        "TESTS = [": "SyntaxError",
        "TESTS = [1]": "TypeError",
    }.items():
        (tests / "q1.py").write_text(text)
        with pytest.raises(ConfigError, match=rf"q1\.py cannot be used: .*{wrong}.*points, name, function"):
            gradescope.build(tmp_path / "a.zip", tests)


def test_a_submission_cannot_write_into_the_report(solved, tmp_path):
    """Neither a flood of megabytes nor a report of its own making comes out of the grader."""
    for name in ("honest", "forger"):
        shutil.copytree(solved, tmp_path / name)
    forged = "forger: 100 of 100 points"
    add_cell(tmp_path / "forger" / "CNN-Layers.ipynb", (
        "import os, sys\n"
        f"for stream in (1, 2):\n    os.write(stream, b'{forged}\\n')\n"
        "    for _ in range(300):\n        os.write(stream, b'x' * 100_000)\n"
        f"print('{forged}', flush=True), sys.__stdout__.write('{forged}')\n"
        f"def conv_forward(*a, **k):\n    raise ValueError('bad\\n{forged}\\n\\x1b[2K')\n"
    ))  # fmt: skip
    (tmp_path / "stray.txt").write_text("not a submission")
    words = ["assignment", "grade", *(str(tmp_path / name) for name in ("forger", "stray.txt", "honest")), "-j", "2"]
    reports = {f"--{kind}": tmp_path / f"points.{kind}" for kind in ("json", "csv")} | {"--feedback": tmp_path / "back"}
    words += [str(word) for pair in reports.items() for word in pair]
    done = subprocess.run([sys.executable, "-m", "rfkit", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout) < 10_000 and "stray.txt is no folder" in done.stderr
    assert (
        not [line for line in done.stdout.splitlines() if line.strip().startswith(forged)] and "\x1b" not in done.stdout
    )
    assert "honest: 100 of 100" in done.stdout
    points = {row["submission"]: row["total"] for row in json.loads(reports["--json"].read_text())}
    rows = {row["submission"]: row for row in csv.DictReader(reports["--csv"].read_text().splitlines())}
    assert points["honest"] == 100 > points["forger"] and rows["forger"]["total"] == str(points["forger"])
    assert "derivations" in rows["honest"]["to be read by you"]
    assert "honest: 100 of 100 points" in (reports["--feedback"] / "honest.txt").read_text()


def test_gradescope_gives_the_same_points_without_torch(solved, tmp_path):
    """As its container runs it: the zip unpacked, a submission beside it, an interpreter without what is heavy."""
    root = tmp_path / "autograder"
    shutil.copytree(solved, root / "submission")
    replace(root / "submission" / "CNN-Layers.ipynb", "out += b[:, None]", "out += 2 * b[:, None]")
    (root / "submission" / "CNN.ipynb").unlink()
    archive = gradescope.build(tmp_path / "made" / "autograder.zip", visibility="visible", seconds=30)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(root / "source")
        assert {packed.getinfo(name).external_attr >> 16 for name in ("setup.sh", "run_autograder")} == {0o755}
    heavy = tmp_path / "heavy"
    heavy.mkdir()
    for name in ("torch", "pandas", "scipy", "sklearn"):
        (heavy / f"{name}.py").write_text("raise ImportError('a small environment')")
    python = root / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {"AUTOGRADER_ROOT": str(root), "PYTHONPATH": str(heavy)}
    done = subprocess.run(["bash", root / "source" / "run_autograder"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads((root / "results" / "results.json").read_text())
    graded = grading.grade(root / "submission", seconds=30)
    assert [test["score"] for test in result["tests"]] == [
        test["points"] for question in graded["questions"] for test in question["tests"]
    ]
    assert sum(test["max_score"] for test in result["tests"]) == 100 and 30 < graded["total"] < 70
    assert {test["visibility"] for test in result["tests"]} == {"visible"}
    assert "Left to the teacher" in result["output"]
    (forwards,) = (test for test in result["tests"] if test["name"] == "CNN-Layers: convolution forwards")
    assert forwards["score"] == 0 and forwards["output"] != "right"


def somebody_elses_python():
    """An interpreter like this one that an account without rights can run."""
    site = sysconfig.get_path("purelib")
    code = f"import sys; sys.path.append({site!r}); import ipykernel; print(sys.version_info[:2])"
    for python in (sys._base_executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            done = subprocess.run([python, "-c", code], user="nobody", cwd="/", capture_output=True, text=True)
            if done.stdout.strip() == str(sys.version_info[:2]):
                return python, site
    return None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give code another's rights")
def test_on_gradescope_a_submission_neither_reads_tests_nor_writes_results(solved):
    found = somebody_elses_python()
    if found is None:
        pytest.skip("no Python here that nobody can run")
    with tempfile.TemporaryDirectory(prefix="rfkit-test-") as name:  # pytest's folders are closed to other accounts
        root = Path(name)
        root.chmod(0o755)
        for folder in ("submission", "results", "loot"):
            (root / folder).mkdir()
        (root / "loot").chmod(0o777)
        shutil.copy(solved / "Receptive-Fields.ipynb", root / "submission")
        with zipfile.ZipFile(gradescope.build(root / "autograder.zip")) as packed:
            packed.extractall(root / "source")
        subprocess.run([found[0], "-m", "venv", "--without-pip", root / "venv"], check=True)
        (site,) = (root / "venv" / "lib").glob("python*/site-packages")
        (site / "these.pth").write_text(found[1])
        wanted = [str(root / "source" / "tests" / "q1.py"), str(root / "results" / "results.json")]
        add_cell(
            root / "submission" / "Receptive-Fields.ipynb",
            f"""
said = []
for path in {wanted}:
    try:
        said.append(open(path, "a").name)
    except OSError as error:
        said.append(type(error).__name__)
open({str(root / "loot" / "said")!r}, "w").write(" ".join(said))
""",
        )
        environment = os.environ | {"AUTOGRADER_ROOT": str(root)}
        command = ["bash", root / "source" / "run_autograder"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (root / "loot" / "said").read_text() == "PermissionError PermissionError"
        result = json.loads((root / "results" / "results.json").read_text())
        assert sum(test["score"] for test in result["tests"]) == 10  # all of question 1, the only one handed in


def test_gradescope_refuses_what_it_cannot_pack(tmp_path):
    with pytest.raises(ConfigError, match="visibility.*after_published"):
        gradescope.build(tmp_path / "a.zip", visibility="public")
    with pytest.raises(ConfigError, match=r"q1\.py"):
        gradescope.build(tmp_path / "a.zip", tmp_path)
    for limit, value in {"seconds": 0, "memory_gib": -1}.items():
        with pytest.raises(ConfigError, match=f"is {value}.*expected a positive number"):
            gradescope.build(tmp_path / "a.zip", **{limit: value})
    assert not list(tmp_path.iterdir())


def test_the_handout_needs_little(solved):
    """The notebooks ask for numpy, matplotlib and few modules of ours."""
    names = set()
    for path in solved.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                for node in ast.walk(ast.parse(cell.source)):
                    if isinstance(node, ast.ImportFrom):
                        names |= {f"{node.module}.{alias.name}" for alias in node.names}
                    elif isinstance(node, ast.Import):
                        names |= {alias.name for alias in node.names}
    ours = {name for name in names if name.startswith("rfkit")}
    assert ours <= {"rfkit.data", "rfkit.numpy_layers", "rfkit.homework.checks", "rfkit.homework.descent"}
    assert {name.partition(".")[0] for name in names - ours} <= {
        "numpy",
        "matplotlib",
        "math",
        "dataclasses",
        "functools",
    }
