"""Builds the smoke book for real and reads the HTML."""

import gzip
import os
import posixpath
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from rfkit import book, experiments, presets

ROOT = Path(__file__).parents[1]


def copy_of_the_sources(target, only=None):
    """The project's book, or one with a single notebook, which builds faster."""
    shutil.copytree(ROOT / "book", target / "book")
    shutil.copytree(ROOT / "notebooks", target / "notebooks", ignore=only and (lambda _, names: set(names) - {only}))
    shutil.copy(ROOT / "_config.yml", target)
    (target / "results").symlink_to(ROOT / "results")
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    for part in toc["parts"]:
        part["chapters"] = [c for c in part["chapters"] if (target / f"{c['file']}.md").exists() or
                            (target / f"{c['file']}.ipynb").exists()]  # fmt: skip
    toc["parts"] = [part for part in toc["parts"] if part["chapters"]]
    (target / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    return target


def rfkit(folder, *words):
    environment = os.environ | {"RFKIT_RUNS": str(folder / "runs"), "RFKIT_DATA": str(folder / "data")}
    return subprocess.run(
        [sys.executable, "-m", "rfkit", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = copy_of_the_sources(tmp_path_factory.mktemp("book"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = rfkit(folder, "book", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(path.read_bytes() == content for path, content in before.items()), "a build changed its sources"
    return folder


def pages(folder):
    toc = yaml.safe_load((folder / "_toc.yml").read_text())
    names = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    return {name: (folder / "_build/html" / f"{name}.html").read_text() for name in names}


def article(html):
    return re.search(r'<article class="bd-article".*?</article>', html, re.DOTALL)[0]


def test_every_page_is_clean(built):
    for name, html in pages(built).items():
        body = article(html)
        assert "Traceback" not in body and not re.search(r">\s*(nan|NaN)\s*<", body), name
        assert not re.search(r"\{(glue|numref|ref|cite|doc|term)[:}]", body), name
        assert len(re.findall("<h1", body)) == 1, name
        assert all(re.search(r'alt="[^"]{20,}"', tag) for tag in re.findall("<img [^>]*>", body)), name


def test_the_papers_items_have_their_fixed_labels(built):
    every = "".join(map(article, pages(built).values()))
    for kind, count in (("table", 14), ("figure", 5)):
        for n in range(1, count + 1):
            assert every.count(f'id="paper-{kind}-{n}"') == 1, f"Paper {kind} {n}"


def test_links_lead_somewhere(built):
    root = built / "_build/html"
    found = {
        path.relative_to(root).as_posix(): path.read_text()
        for path in root.rglob("*.html")
        if "_static" not in path.parts
    }
    anchors = {name: set(re.findall(r'\bid="([^"]+)"', html)) for name, html in found.items()}
    for name, html in found.items():
        for target in re.findall(r'(?:href|src)="([^"]+)"', re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)):
            if re.match(r"(https?|data|mailto|javascript):", target) or target in ("#", "./"):
                continue
            place, _, anchor = unquote(target).partition("#")
            place = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), place.partition("?")[0])) if place else name
            )
            assert (root / place).exists(), f"{name} links to {target}"
            assert not anchor or place not in anchors or anchor in anchors[place], f"{name} links to {target}"


def test_no_output_is_empty(built):
    for name, html in pages(built).items():
        for output in re.findall(r'<div class="cell_output[^>]*>(.*?)</div>\s*</div>', html, re.DOTALL):
            assert re.search(r"<img|<table|<svg|<section|<pre|<p|<ul", output), f"{name}: {output[:200]}"


def test_every_page_in_the_browser(built, browser):
    """Each page wide and light, then narrow and dark: what colours and widths do is the same in the other two ways."""
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(
        viewport={"width": 1280, "height": 844}, has_touch=True, offline=True, reduced_motion="reduce"
    )
    page, problems, asked = context.new_page(), [], set()
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
    page.on("request", lambda request: asked.add(request.url))
    page.on(
        "request", lambda r: problems.append(f"foreign: {r.url}") if not r.url.startswith(("file:", "data:")) else 0
    )
    # styles are on the page already; asking for them again is refused from a file
    options = {"resultTypes": ["violations"], "preload": False}
    for name in pages(built):
        # code is half of a chapter and looks the same in all: it is looked at in one, and on every other page
        elsewhere = name.startswith("notebooks/") and not name.startswith("notebooks/hw2")
        code = {"exclude": [[".highlight"]]} if elsewhere else None
        for width, scheme in ((1280, "light"), (390, "dark")):
            asked.clear()
            page.set_viewport_size({"width": width, "height": 844})
            page.emulate_media(color_scheme=scheme)
            page.goto((built / "_build/html" / f"{name}.html").as_uri())
            page.wait_for_timeout(50)
            page.wait_for_function(
                "document.getAnimations().every(each => each.playState !== 'running')"
            )  # colours fade
            assert problems == [], name
            if width == 1280:
                assert_light(name, asked)
            wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            assert not wide, f"{name} is too wide at {width}"
            for found in Axe().run(page, context=code, options=options).response["violations"]:
                where = f"{name}, {width}, {scheme}: {found['id']} {found['nodes'][0]['html']}"
                assert found["impact"] not in ("serious", "critical"), where
            page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
            cells = "[...document.querySelectorAll('article pre')].filter(e => e.scrollWidth > e.clientWidth + 1)"
            cut = page.evaluate(f"{cells}.map(e => e.textContent)")
            assert not cut or width < 1280, f"{name} cuts code off: {cut[0]}"
    context.close()


def assert_light(name, asked):
    """A page has at most 1 MB, text compressed as web servers send it; patterns of pixels do not compress."""
    sizes = {}
    for url in asked:
        if url.startswith("file:"):
            path = Path(unquote(url.removeprefix("file://").partition("?")[0].partition("#")[0]))
            text = path.suffix in (".html", ".css", ".js", ".svg", ".json")
            sizes[path.name] = len(gzip.compress(path.read_bytes())) if text else path.stat().st_size
    heaviest = sorted(sizes.items(), key=lambda item: -item[1])[:4]
    limit = {"book/index": 0.65e6, "notebooks/s34_pixel_importance": 1.3e6}.get(name, 1e6)
    assert sum(sizes.values()) <= limit, f"{name}: {sum(sizes.values()) / 1e6:.2f} MB, {heaviest}"


def test_panels_stand_one_below_the_other_on_a_phone(built, browser):
    place = "[...document.querySelectorAll('.panel')].map(e => e.getBoundingClientRect())"
    for width in (390, 1280):
        context = browser.new_context(viewport={"width": width, "height": 844}, offline=True)
        page = context.new_page()
        page.goto((built / "_build/html/notebooks/supp_pruning_rates.html").as_uri(), wait_until="load")
        panels = page.evaluate(f"{place}.map(r => [r.left, r.right, r.top])")
        assert (len(panels) >= 4) == (width == 390)
        assert all(0 <= left < right <= width for left, right, _ in panels)
        assert [top for *_, top in panels] == sorted(top for *_, top in panels)
        context.close()


def test_landing_page(built):
    body = article(pages(built)["book/index"])
    assert 'class="knx"' in body and 'href="../notebooks/s33_accuracy_and_pruning.html#paper-table-1"' in body
    assert [card in body for card in ("Read", "Re-run", "Teach", "How to cite")] == [True] * 4
    assert "Preset smoke: data scikit-learn digits; protocol short; width 0.0625; epochs 1; seeds 0" in body


def test_tables_have_their_fixed_labels_and_our_numbers(built):
    html = pages(built)["notebooks/s33_accuracy_and_pruning"]
    body = article(html)
    for n in (1, 2):
        assert f'id="paper-table-{n}"' in body and f"Paper Table {n}." in body
    table = body[body.index('id="paper-table-1"') :]
    rows = re.findall(r"<tr.*?</tr>", table[: table.index("</table>")], re.DOTALL)
    cells = [re.findall(r"<t[dh].*?>(?:<p>)?(.*?)(?:</p>)?</t[dh]>", row, re.DOTALL) for row in rows]
    assert cells[0][:3] == ["Network", "Field (px)", "Dense, paper"]
    ours = cells[0].index("Dense, this build")
    assert [row[1] for row in cells[1:]] == ["181", "359", "537", "715", "108", "213", "318", "423"]
    assert cells[1][2] == "93.5 ± 0.11" and cells[2][ours] == "–"
    assert re.fullmatch(r"\d+\.\d\d \(one seed\)", cells[1][ours])
    assert "(preset smoke) has nothing beside Tiny ImageNet: it is not part of this preset" in body
    assert len(re.findall(r'<figure.*?id="fig-accuracy-by-', body)) == 2
    importance = article(pages(built)["notebooks/s34_pixel_importance"])
    assert all(f'id="{label}"' in importance for label in ("paper-table-3", "paper-table-4"))
    assert all(f'id="{label}"' in importance for label in ("paper-figure-4", "paper-figure-5"))
    assert "1.24·10⁻⁵" in importance and "0.322 ± 0.12" in importance
    assert "injected-parameters" not in html and "preset <b>smoke</b>" in html


def test_the_student_edition_has_no_buttons_to_the_solutions(tmp_path, monkeypatch):
    monkeypatch.chdir(copy_of_the_sources(tmp_path))
    monkeypatch.setattr(book, "repository_url", lambda: "https://github.com/somebody/rfkit")
    for edition, buttons in (("full", True), ("student", False)):
        book.stage(presets.get("smoke"), experiments.recorded(presets.get("study"))[:1], edition)
        config = yaml.safe_load(Path("_build/stage/_config.yml").read_text())
        assert ("launch_buttons" in config) == buttons == config["html"]["use_edit_page_button"]


def test_a_failing_notebook_fails_the_build(built, tmp_path):
    folder = copy_of_the_sources(tmp_path, only="s33_accuracy_and_pruning.ipynb")
    shutil.copytree(built / "runs", folder / "runs")
    notebook = folder / "notebooks" / "s33_accuracy_and_pruning.ipynb"
    notebook.write_text(notebook.read_text().replace("report.use_style()", "raise RuntimeError('on purpose')"))
    done = rfkit(folder, "book", "smoke")
    assert done.returncode == 1 and "RuntimeError: on purpose" in done.stderr
    assert not (folder / "_build" / "html").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux")
def test_a_kernel_ends_with_the_process_that_wanted_it():
    started = (
        "import sys; from rfkit.book.forked import KernelManager\n"
        "if __name__ == '__main__':\n"
        "    manager = KernelManager(kernel_name='python3')\n"
        "    import asyncio; asyncio.run(manager.start_kernel())\n"
        "    print(manager.provisioner.process.pid, flush=True); sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen([sys.executable, "-c", started], **pipes) as process:
        kernel = int(process.stdout.readline())
        time.sleep(3)  # until it watches
        os.kill(kernel, 0)
        process.kill()
    end = time.monotonic() + 60
    while (Path("/proc") / str(kernel)).exists() and time.monotonic() < end:
        time.sleep(0.2)
    assert not (Path("/proc") / str(kernel)).exists()


def test_a_long_name_of_the_temporary_folder(monkeypatch, tmp_path):
    long = tmp_path / ("y" * 90)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    done = rfkit(ROOT, "notebook", "errata", "-o", str(tmp_path / "done.ipynb"))
    assert done.returncode == 0, done.stderr


def test_a_broken_reference_fails_the_build(built, tmp_path):
    folder = copy_of_the_sources(tmp_path, only="s33_accuracy_and_pruning.ipynb")
    shutil.copytree(built / "runs", folder / "runs")
    page, before = folder / "book" / "rerun.md", folder / "_build" / "html" / "index.html"
    page.write_text(page.read_text() + "\nSee {ref}`nowhere`.\n")
    before.parent.mkdir(parents=True)
    before.write_text("the book as it was")
    done = rfkit(folder, "book", "smoke")
    assert done.returncode == 1 and "nowhere" in done.stderr and "\x1b" not in done.stderr
    assert before.read_text() == "the book as it was"


def test_a_notebook_with_other_parameters(built):
    done = rfkit(built, "notebook", "s33_accuracy_and_pruning", "-p", "preset=smoke", "-p", "levels=1,3")
    assert done.returncode == 0, done.stderr
    assert (built / "_build/notebooks/s33_accuracy_and_pruning.ipynb").is_file()


def test_own_network_on_own_data(built):
    from conftest import class_files, write_zip

    write_zip(built / "mine.zip", class_files(classes=("a", "b", "c"), count=8, size=16))
    (built / "mynet.py").write_text(
        "from torch import nn\n\n\ndef tiny(level, num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(level + 1), nn.Conv2d(4, 8, 3),\n"
        "                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))\n"
    )
    words = ["preset=smoke", "datasets=folder:mine.zip", "architectures=mynet:tiny", "epochs=2"]
    done = rfkit(built, "notebook", "s33_accuracy_and_pruning", *(w for word in words for w in ("-p", word)))
    assert done.returncode == 0, done.stderr
    assert "mynet:tiny" in (built / "_build/notebooks/s33_accuracy_and_pruning.ipynb").read_text()
