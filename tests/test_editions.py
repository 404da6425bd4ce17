"""The student edition holds no solution, and its notebooks are whole."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest

from rfkit import cli, numpy_layers
from rfkit.config import ConfigError
from rfkit.homework import answers, editions, nets

ROOT = Path(__file__).parents[1]
SOLUTIONS = (answers, numpy_layers, nets)


@pytest.fixture(autouse=True)
def top_folder(monkeypatch):
    monkeypatch.chdir(ROOT)


def lines_of_solutions():
    """Lines that do something, of every function behind a solution cell; not signatures or documentation."""
    for module in SOLUTIONS:
        tree = ast.parse(inspect.getsource(module))
        text = inspect.getsource(module).splitlines()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                documented = ast.get_docstring(node) is not None
                for statement in node.body[int(documented) :]:
                    yield from (line.strip() for line in text[statement.lineno - 1 : statement.end_lineno])


def tell_tale():
    return {line for line in lines_of_solutions() if len(line) > 25}


def code_of(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_something_to_hide():
    assert len(tell_tale()) > 100


def test_hand_out_holds_no_solution(tmp_path):
    editions.build(tmp_path)
    assert all(name in (tmp_path / "README.md").read_text() for name in editions.HANDOUT)
    for path in (tmp_path / f"{name}.ipynb" for name in editions.HANDOUT):
        text = path.read_text(encoding="utf-8")
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert not {line for line in tell_tale() if line in "\n".join(code_of(notebook))}
        assert "your code here" in text
        assert "{solution}" not in text and "{exercise}" not in text and "{admonition}" not in text
        assert not re.search(r"\{(ref|numref|eq|cite:[tp]|term|math)\}", text) and "Raises" not in text
        assert any(editions.has(cell, "test") for cell in notebook.cells)
        for source in code_of(notebook):
            ast.parse(source)


def test_what_comes_with_the_hand_out_holds_no_answer(tmp_path, capsys):
    written = editions.build(tmp_path, questions=[1, 2, 3])
    assert not (tmp_path / "CNN.ipynb").exists() and not capsys.readouterr().err
    modules = [path.read_text(encoding="utf-8") for path in written if path.suffix == ".py"]
    assert modules and not {line for line in tell_tale() for text in modules if line in text}
    (tmp_path / "README.md").write_text("mine")
    editions.build(tmp_path, questions=[4])
    assert (tmp_path / "CNN.ipynb").exists() and (tmp_path / "rfkit" / "numpy_layers.py").is_file()
    assert (tmp_path / "README.md").read_text() == "mine" and "kept" in capsys.readouterr().err
    editions.build(tmp_path / "all")
    assert "numpy_layers.py solves questions 2 and 3" in capsys.readouterr().err


def test_another_package_of_the_name_is_not_overwritten(tmp_path):
    (tmp_path / "rfkit").mkdir()
    (tmp_path / "rfkit" / "cka.py").write_text("mine")
    with pytest.raises(ConfigError, match="rfkit of its own.*nothing was overwritten"):
        editions.build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rfkit"]


def test_the_hand_out_needs_nothing_else_of_ours(tmp_path):
    editions.build(tmp_path, solutions=True)
    imports = []
    for path in tmp_path.glob("*.ipynb"):
        for source in code_of(nbformat.read(path, as_version=4)):
            nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))
            imports += map(ast.unparse, nodes)
    loads = "import sys; assert len(data.load('digits').train_images) == 1438\n"
    loads += "print(*(each.__file__ for name, each in sys.modules.items() if name.partition('.')[0] == 'rfkit'))\n"
    loads += "print(*sys.modules)"
    run = [sys.executable, "-c", "\n".join([*dict.fromkeys(imports), loads])]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    ours, loaded = map(str.split, done.stdout.splitlines())
    assert len(ours) > 5 and all(Path(place).is_relative_to(tmp_path) for place in ours)  # none of the project's
    assert {"numpy", "matplotlib"} <= set(loaded) and not {"torch", "pandas", "filelock", "nbformat"} & set(loaded)


@pytest.mark.parametrize("wrong", ["5", "1,x", ""])
def test_a_question_that_is_none(wrong, tmp_path, capsys):
    assert cli.main(["assignment", "build", str(tmp_path / "out"), "--questions", wrong]) == 2
    assert "Valid: 1, 2, 3, 4" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_question_1_is_asked_and_not_answered(tmp_path):
    editions.build(tmp_path)
    text = (tmp_path / "Receptive-Fields.ipynb").read_text(encoding="utf-8")
    for letter, points in zip("abcde", ("1 point", "2 points", "3 points", "2 points", "2 points"), strict=True):
        assert f"**({letter}) ({points})**" in text
    assert "prod_" not in text and "closed_form" not in text and "Five" not in text and "receptive_field as" not in text
    assert text.index("CL_3") < text.index("**(a)")  # what is asked about stands before the questions
    names = re.findall(r"def (\w+)", text)
    assert names == ["first_field", "second_field", "fields_with_strides", "field_of_layer", "two_ways"]


def test_the_solved_hand_out_has_the_derivations(tmp_path):
    editions.build(tmp_path, solutions=True)
    text = (tmp_path / "Receptive-Fields.ipynb").read_text(encoding="utf-8")
    places = [text.index(f"**({letter}) (") for letter in "abcde"]
    for here, then in zip(places, [*places[1:], len(text)], strict=True):
        answer = text[here:then].partition("*Your ")[2]
        assert "field" in answer and len(answer) > 150


def test_chapters_of_the_student_edition_hold_no_solution():
    for chapter in editions.HANDOUT.values():
        notebook = nbformat.read(ROOT / "notebooks" / f"{chapter}.ipynb", as_version=4)
        before = sum(not editions.has(cell, "shows-solution") for cell in notebook.cells)
        shown = [cell.source for cell in notebook.cells if "show_code" in cell.source]
        editions.without_solutions(notebook)
        text = "\n".join(cell.source for cell in notebook.cells)
        assert len(notebook.cells) == before and not any(source in text for source in shown)
        assert "{solution}" not in text and not {line for line in tell_tale() if line in text}
        solved = [cell.source for cell in notebook.cells if editions.has(cell, "solution")]
        before = text.partition(solved[0])[0]
        assert "np." not in solved[0] or "import numpy as np" in before
        assert solved and not any("from rfkit.numpy_layers import" in source for source in solved)


def test_output_of_other_cells_stays():
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("a = 1\n", metadata={"tags": ["solution"]}),
            nbformat.v4.new_code_cell("print(a)"),
        ]
    )
    for cell in notebook.cells:
        cell.outputs = [nbformat.v4.new_output("stream", text="1")]
    editions.without_solutions(notebook)
    assert notebook.cells[0].outputs == [] and notebook.cells[1].outputs[0].text == "1"


def test_stub_keeps_the_interface():
    (text,) = editions.stubs("from rfkit.numpy_layers import conv_forward")
    names = {}
    exec(text, names)
    expected = inspect.signature(numpy_layers.conv_forward).parameters
    assert [*inspect.signature(names["conv_forward"]).parameters] == [name for name in expected if name != "method"]
    assert "method" not in names["conv_forward"].__doc__
    with pytest.raises(NotImplementedError, match="your code here"):
        names["conv_forward"](1, 2, 3)
    assert editions.stubs("# Say how.\nsecret = 1") == ["# Say how.\n# Your code here."]
    assert editions.stubs("# How.\nfrom rfkit.homework.nets import DeepConvNet\nn = DeepConvNet()") == [
        "# How.\n# Your code here."
    ]


def test_stub_of_a_class_has_its_methods():
    names = {"np": np}
    exec(*editions.stubs("from rfkit.homework.nets import ThreeLayerConvNet"), names)
    assert {"scores", "loss"} <= set(vars(names["ThreeLayerConvNet"]))


def test_nothing_is_overwritten(tmp_path):
    editions.build(tmp_path)
    before = (tmp_path / "CNN.ipynb").read_bytes()
    with pytest.raises(ConfigError, match="nothing was overwritten"):
        editions.build(tmp_path)
    assert (tmp_path / "CNN.ipynb").read_bytes() == before


def test_template_of_hidden_tests_has_its_own_seeds(tmp_path, capsys):
    editions.build(tmp_path / "a", tmp_path / "tests")
    (tmp_path / "tests" / "q1.py").write_text("mine")
    editions.build(tmp_path / "b", tmp_path / "tests")
    assert (tmp_path / "tests" / "q1.py").read_text() == "mine" and "kept" in capsys.readouterr().err
    ours = (editions.HIDDEN_TESTS / "q2.py").read_text()
    theirs = (tmp_path / "tests" / "q2.py").read_text()
    assert re.sub(r"SEED = \d+", "", ours) == re.sub(r"SEED = \d+", "", theirs)


def test_wrong_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="top folder of the project"):
        editions.build(tmp_path / "out")


def test_plain_text():
    text = "(here)=\n# Title\n\n:::{admonition} Guess?\n:class: dropdown\nYes.\n:::\n\nSee {numref}`fig-a` and "
    text += "{cite:t}`luo2016understanding`.\n\n$$ a $$ (eq-a)\n\n````{exercise}\n:label: ex\nWhy?\n````\n\n"
    text += "````{solution} ex\n:class: dropdown\nSecret.\n````\n"
    found = editions.plain(text)
    assert found.startswith("# Title") and "<summary>Guess?</summary>" in found and "**Exercise.** Why?" in found
    roles = editions.plain("{term}`rate <pruning rate>`, {term}`field`, {math}`k` {cite:p}`ioffe2015batch`")
    assert roles == "rate, field, $k$ (Ioffe and Szegedy, 2015)"
    assert "Luo et al. (2016)" in found and "Secret" not in found and "(eq-a)" not in found and "{" not in found
