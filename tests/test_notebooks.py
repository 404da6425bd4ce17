"""Notebooks stay thin: the story is here, the logic is in rfkit."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from rfkit import book

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_no_outputs(notebook):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))


def test_thin_cells(notebook):
    for cell in code(notebook):
        assert len(cell.source.splitlines()) <= 18 or "parameters" in cell.metadata.get("tags", [])
        assert not any(isinstance(n, ast.FunctionDef | ast.ClassDef) for n in ast.walk(ast.parse(cell.source)))


def test_layout(notebook):
    title, parameters = notebook.cells[:2]
    assert title.cell_type == "markdown" and title.source.startswith("(") and "\n# " in title.source
    assert parameters.metadata.tags[0] == "parameters" and parameters.source.startswith('preset = "demo"')
    assert "provenance" in notebook.cells[-1].source


def test_figures_have_captions_and_alternative_text(notebook):
    before = None
    for cell in notebook.cells:
        if cell.cell_type == "code" and re.search(r"report\.(plot_\w+|by_network)\(", cell.source):
            mystnb = cell.metadata.mystnb
            assert len(mystnb.image.alt) > 20
            # the book's own figures are numbered; the paper's carry a literal caption above them
            paper = before.cell_type == "markdown" and "**Paper Figure" in before.source
            assert paper or (mystnb.figure.name.startswith("fig-") and mystnb.figure.caption)
        before = cell


def test_results_open_with_the_finding():
    """In a sentence or two an outsider understands, then the evidence, then the doubt."""
    opened = 0
    for path in NOTEBOOKS:
        text = nbformat.read(path, as_version=4).cells[0].source
        found = re.search(r"\*\*What was found:\*\* (.*?)\n\n", text, re.DOTALL)
        if found is None:
            assert "**What you will learn:**" in text, path.stem
            continue
        assert len(found[1].split()) <= 70, f"{path.stem}: {len(found[1].split())} words"
        opened += "**The evidence:**" in text and "**The doubt:**" in text
    assert opened >= 9


def test_every_page_is_in_the_table_of_contents():
    import yaml

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    pages = {toc["root"]} | {chapter["file"] for part in toc["parts"] for chapter in part["chapters"]}
    sources = {f"notebooks/{path.stem}" for path in NOTEBOOKS}
    sources |= {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    assert pages == sources


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_defaults_are_valid(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert book.check_parameters(path.stem, {}).name == "demo"
