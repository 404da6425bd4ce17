"""Printing by a browser that is there."""

import shutil

import nbformat
import pytest

from rfkit.config import ConfigError
from rfkit.homework import printing

needs_browser = pytest.mark.skipif(not any(map(shutil.which, printing.BROWSERS)), reason="no Chromium or Chrome")


def test_without_a_browser(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("RFKIT_BROWSER", raising=False)
    with pytest.raises(ConfigError, match="install Chromium or set RFKIT_BROWSER"):
        printing.browser()


@needs_browser
def test_notebooks_become_one_pdf(tmp_path):
    from pypdf import PdfReader

    paths = []
    for name in ("First", "Second"):
        cells = [nbformat.v4.new_markdown_cell("A formula $a_1$"), nbformat.v4.new_code_cell(f"print('{name}')")]
        paths.append(tmp_path / f"{name}.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=cells), paths[-1])
    pdf = printing.notebooks(paths, tmp_path / "out" / "both.pdf")
    pages = [page.extract_text() for page in PdfReader(pdf).pages]
    assert len(pages) == 2 and "First" in pages[0] and "Second" in pages[1]
    assert "$" not in "".join(pages)


@needs_browser
def test_book_becomes_one_pdf_in_reading_order(tmp_path, monkeypatch):
    from pypdf import PdfReader

    monkeypatch.chdir(tmp_path)
    (tmp_path / "_toc.yml").write_text("root: b\nparts:\n- chapters:\n  - file: a\n")
    for name in "ab":
        (tmp_path / f"{name}.html").write_text(f"<title>Page {name} &#8212; Book</title><h1>Page {name}</h1>")
    reader = PdfReader(printing.book(tmp_path, tmp_path / "book.pdf"))
    assert ["Page b" in reader.pages[0].extract_text(), "Page a" in reader.pages[1].extract_text()] == [True, True]
    assert [item.title for item in reader.outline] == ["Page b", "Page a"]
    (tmp_path / "a.html").unlink()
    with pytest.raises(ConfigError, match=r"no .*a\.html; build the book first"):
        printing.book(tmp_path, tmp_path / "other.pdf")
