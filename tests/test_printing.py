"""Printing by a browser that is there."""

import shutil

import pytest

from rfkit.book import printing, to_one_pdf
from rfkit.config import ConfigError

needs_browser = pytest.mark.skipif(not any(map(shutil.which, printing.BROWSERS)), reason="no Chromium or Chrome")


def test_without_a_browser(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("RFKIT_BROWSER", raising=False)
    with pytest.raises(ConfigError, match="install Chromium or set RFKIT_BROWSER"):
        printing.browser()


@needs_browser
def test_book_becomes_one_pdf_in_reading_order(tmp_path, monkeypatch):
    from pypdf import PdfReader

    monkeypatch.chdir(tmp_path)
    (tmp_path / "_toc.yml").write_text("root: b\nparts:\n- chapters:\n  - file: a\n")
    for name in "ab":
        (tmp_path / f"{name}.html").write_text(f"<title>Page {name} &#8212; Book</title><h1>Page {name}</h1>")
    reader = PdfReader(to_one_pdf(tmp_path, tmp_path / "book.pdf"))
    assert ["Page b" in reader.pages[0].extract_text(), "Page a" in reader.pages[1].extract_text()] == [True, True]
    assert [item.title for item in reader.outline] == ["Page b", "Page a"]
    (tmp_path / "a.html").unlink()
    with pytest.raises(ConfigError, match=r"no .*a\.html; build the book first"):
        to_one_pdf(tmp_path, tmp_path / "other.pdf")
