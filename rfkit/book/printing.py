"""The built book as one PDF, by a browser that is there already."""

import os
import re
import shutil
import subprocess
import tempfile
from html import unescape
from pathlib import Path

import yaml

from rfkit.config import ConfigError
from rfkit.files import replacing

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def browser():
    """A Chromium or Chrome of this computer."""
    found = os.environ.get("RFKIT_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise ConfigError(f"no browser to print with ({', '.join(BROWSERS)}); install Chromium or set RFKIT_BROWSER")
    return found


def _print(page, output):
    with tempfile.TemporaryDirectory(prefix="rfkit-print-", ignore_cleanup_errors=True) as profile:
        command = [
            browser(), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
            "--no-pdf-header-footer", "--virtual-time-budget=30000", f"--print-to-pdf={output}",
            page.resolve().as_uri(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if not output.is_file():
        raise RuntimeError(f"the browser made no PDF of {page}: {done.stderr.strip()[-400:]}")
    return output


def to_one_pdf(root, output):
    """Print a built book, page after page in the order of its table of contents, into one PDF."""
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
            writer.append(_print(page, Path(folder) / f"{i}.pdf"), outline_item=unescape(title))
        with replacing(output) as file:
            writer.write(file)
    return output
