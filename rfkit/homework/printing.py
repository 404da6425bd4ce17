"""Web pages into PDF, by a browser that is there already."""

import os
import re
import shutil
import subprocess
import tempfile
from html import unescape
from importlib.util import find_spec
from pathlib import Path

import nbformat

from rfkit.config import ConfigError
from rfkit.files import first_line, replacing
from rfkit.homework.editions import HANDOUT

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")

_HEAD = """<script>window.MathJax = {tex: {inlineMath: [['$', '$']], processEscapes: true}}</script>
<style>pre { white-space: pre-wrap !important; overflow-wrap: anywhere } h1.notebook { break-before: page }</style>
"""
"""MathJax 3 takes single dollars for text unless told; paper cannot be scrolled."""


def browser():
    """A Chromium or Chrome of this computer."""
    found = os.environ.get("RFKIT_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise ConfigError(f"no browser to print with ({', '.join(BROWSERS)}); install Chromium or set RFKIT_BROWSER")
    return found


def to_pdf(page, output):
    """Print a web page."""
    page, output = Path(page), Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rfkit-print-", ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "page.pdf"
        command = [
            browser(), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile",
            "--no-pdf-header-footer", "--virtual-time-budget=30000", f"--print-to-pdf={made}",
            page.resolve().as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if not made.is_file():
            raise RuntimeError(f"the browser made no PDF of {page}: {done.stderr.strip()[-400:]}")
        shutil.move(made, output)
    return output


def homework(folder, output=None):
    """Print a submission of the homework into one PDF."""
    remarks, paths = [], [Path(folder) / f"{name}.ipynb" for name in HANDOUT]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise ConfigError(f"no notebook of the homework in {folder}; expected {', '.join(HANDOUT)}")
    if missing := [path.name for path in paths if path not in found]:
        remarks.append(f"{len(missing)} of {len(paths)} notebooks are not there: {', '.join(missing)}")
    for path in found:
        cells = [cell for cell in _read(path).cells if cell.cell_type == "code" and cell.source.strip()]
        if left := sum(cell.execution_count is None for cell in cells):
            remarks.append(f"{left} of {len(cells)} cells of {path.name} were not run; run them, save, print again")
    if find_spec("sphinx-mathjax-offline") is None:
        remarks.append("formulas are set by MathJax from the network; where it was out of reach they are left as TeX")
    return notebooks(found, output or Path(folder) / "homework.pdf"), remarks


def _read(path):
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # whatever a broken file makes the reader raise
        raise ConfigError(f"{path} cannot be read as a notebook: {first_line(error)}") from error


def notebooks(paths, output):
    """Print notebooks, one after the other, into one PDF."""
    from nbconvert import HTMLExporter

    joined = nbformat.v4.new_notebook()
    for path in paths:
        read = _read(path)
        joined.metadata = read.metadata
        joined.cells += [nbformat.v4.new_markdown_cell(f'<h1 class="notebook">{path.stem}</h1>'), *read.cells]
    for i, cell in enumerate(joined.cells):
        cell["id"] = f"cell-{i}"
    options, offline = {}, find_spec("sphinx-mathjax-offline")
    if offline is not None:  # part of what builds the book; without it formulas are drawn by help of the network
        options["mathjax_url"] = (Path(offline.origin).parent / "static" / "mathjax" / "tex-chtml.js").as_uri()
    html, _ = HTMLExporter(**options).from_notebook_node(joined)
    with tempfile.TemporaryDirectory(prefix="rfkit-print-") as folder:
        page = Path(folder) / "notebooks.html"
        page.write_text(html.replace("<head>", f"<head>{_HEAD}", 1), encoding="utf-8")
        return to_pdf(page, output)


def book(root, output):
    """Print a built book, page after page in the order of its table of contents, into one PDF."""
    import yaml
    from pypdf import PdfWriter

    toc = yaml.safe_load(Path("_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    files = [toc["root"], *(page["file"] for chapter in chapters for page in (chapter, *chapter.get("sections", ())))]
    pages = [Path(root) / f"{name}.html" for name in files]
    if missing := [page for page in pages if not page.is_file()]:
        raise ConfigError(f"no {missing[0]}; build the book first: make book")
    with tempfile.TemporaryDirectory(prefix="rfkit-print-") as folder, PdfWriter() as writer:
        for i, page in enumerate(pages):
            title = re.search(r"<title>(.*?)(?: &#8212;|</title>)", page.read_text(encoding="utf-8"))[1]
            writer.append(to_pdf(page, Path(folder) / f"{i}.pdf"), outline_item=unescape(title))
        with replacing(output) as file:
            writer.write(file)
    return output
