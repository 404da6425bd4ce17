"""Executing the notebooks and building the book; sources are never changed by a build."""

import ast
import re
import shutil
import subprocess
import sysconfig
import tempfile
import time
import warnings
from pathlib import Path

import nbformat
import yaml

from rfkit import claims, experiments, presets, report
from rfkit.book import forked
from rfkit.book.printing import to_one_pdf
from rfkit.config import ConfigError, literal, one_of, whole
from rfkit.experiments import pool, store
from rfkit.homework import editions, kernel

STAGE, BESIDE = Path("_build/stage"), Path("_build/new")


class NotebookError(RuntimeError):
    """A cell of a notebook failed; the message is the cell's own error."""


def notebook_names():
    """Names of the notebooks in ``notebooks/``."""
    found = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
    if not found:
        raise ConfigError(f"no notebooks/ in {Path.cwd()}; run rfkit from the top folder of the project")
    return found


def defaults(name):
    """Parameters of a notebook and their default values."""
    one_of("notebook", name, notebook_names())
    import papermill

    found = papermill.inspect_notebook(f"notebooks/{name}.ipynb")
    return {key: ast.literal_eval(each["default"]) for key, each in found.items()}


def parse(pairs):
    """Parameters given on a command line."""
    parameters = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ConfigError(f"parameter {pair!r} has no value; expected key=value, such as levels=1,3")
        key = key.strip()
        parameters[key] = value if key in ("datasets", "images") else literal(value)  # a path may have commas
    return parameters


def check_parameters(name, parameters):
    """Check parameters before a kernel is started."""
    known = defaults(name)
    for key in parameters:
        one_of(f"parameter of {name}", key, known)
    values = known | parameters
    chosen = {field: values[field] for field in presets.CHOICES if field in values}
    return presets.get(values.get("preset", "demo"), values.get("protocol")).select(**chosen)


def execute(name, output, parameters):
    """Execute a notebook with papermill, after every cell written to `output` if that is not None; returns it.

    Raises:
        NotebookError: If a cell fails.
    """
    check_parameters(name, parameters)
    output = None if output is None else Path(output)
    if output is not None and output.resolve().parent == Path("notebooks").resolve():
        raise ConfigError(f"{output} is among the sources, which are never written; name a file elsewhere")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), pool.few_threads(), tempfile.TemporaryDirectory(prefix="rfkit-") as folder:
        warnings.filterwarnings("ignore", module="zmq|jupyter_client|papermill|nbformat|traitlets")
        import papermill

        config = kernel.private_sockets(folder)
        # a kernel is interrupted before it is ended, and would call that an error; those of cells come here
        config.NotebookClient.extra_arguments = ["--log-level=50"]
        config.NotebookClient.kernel_manager_class = forked.KernelManager
        options = {"kernel_name": "python3", "progress_bar": False, "config": config}
        try:
            return papermill.execute_notebook(Path("notebooks") / f"{name}.ipynb", output, parameters, **options)
        except papermill.PapermillExecutionError as error:
            raise NotebookError(f"{name}, cell {error.exec_count}: {error.ename}: {error.evalue}") from None


def _execute_staged(name, parameters):
    """For the pool: execute into the stage, then say in the parameter cell, not in one added, what it was run with."""
    start = time.perf_counter()
    notebook = execute(name, None, parameters)
    notebook.cells = [cell for cell in notebook.cells if not editions.has(cell, "injected-parameters")]
    for cell in notebook.cells:
        if editions.has(cell, "parameters"):
            for key, value in parameters.items():
                said = f"{key} = {value!r}".replace("\\", r"\\")
                cell.source = re.sub(rf"^{key} = .*$", said, cell.source, flags=re.MULTILINE)
    output = STAGE / "notebooks" / f"{name}.ipynb"
    output.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, output)
    return name, time.perf_counter() - start


def build(preset, *, jobs=None, device=None, edition="full"):
    """Train what is missing, up to an hour, execute every notebook and build the book; the path of its first page.

    Raises:
        NotebookError: If a notebook fails.
        rfkit.experiments.BusyError: If another process builds in this folder.
        RuntimeError: If Sphinx reports an error or a warning.
    """
    one_of("edition", edition, editions.EDITIONS)
    # the largest first: they take longest, and none is left to one process at the end
    names = sorted(notebook_names(), key=lambda name: -Path(f"notebooks/{name}.ipynb").stat().st_size)
    if jobs is not None:
        whole("jobs", jobs, 1)
    busy = f"another rfkit book is building in {Path.cwd()}; wait until it has ended"
    with store.locked(Path("_build"), busy=busy):
        start = time.perf_counter()
        runs = experiments.ensure(preset, max_minutes=60, jobs=jobs, device=device)
        trained = time.perf_counter()
        print(f"{len(runs)} runs ready ({trained - start:.0f} s)", flush=True)
        stage(preset, runs, edition)
        given = {"preset": preset.name, "device": device} | presets.changes(preset, presets.get(preset.name))
        given = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items() if v is not None}
        tasks = [(_execute_staged, (name, {k: v for k, v in given.items() if k in defaults(name)})) for name in names]
        tasks = [(_stage_first_page, (preset, runs)), *tasks]
        for _, result in pool.run(tasks, min(jobs or pool.cores(), len(names))):
            if isinstance(result, Exception):
                raise result
            print("made {} ({:.0f} s)".format(*result), flush=True)
        if edition == "student":
            for path in (STAGE / "notebooks").glob("*.ipynb"):
                nbformat.write(editions.without_solutions(nbformat.read(path, as_version=4)), path)
        executed = time.perf_counter()
        page = render()
        print(f"{page}: notebooks {executed - trained:.0f} s, pages {time.perf_counter() - executed:.0f} s", flush=True)
        return page


def stage(preset, runs, edition="full"):
    """Lay out the sources of a build under ``_build/stage``."""
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    shutil.copytree("book", STAGE / "book")
    shutil.copy("_toc.yml", STAGE)
    config = yaml.safe_load(Path("_config.yml").read_text(encoding="utf-8"))
    labels = sorted({run.provenance["data"]["label"] for run in runs})
    theme = config["sphinx"]["config"]["html_theme_options"]
    own = "Numbers here" if preset == presets.get("study") else "This build's own numbers"
    theme["announcement"] = f"{own}: preset <b>{preset.name}</b>, {_scale(runs)}, on {' and '.join(labels)}."
    url = repository_url()
    # launch buttons need a public copy of the project, and lead to the solutions
    if url is None or edition == "student":
        config.pop("launch_buttons", None)
        config["html"] |= dict.fromkeys(("use_repository_button", "use_issues_button", "use_edit_page_button"), False)
    else:
        config["repository"] = {"url": url, "branch": "main", "path_to_book": ""}
        owner, name = url.split("/")[-2:]
        config["sphinx"]["config"]["ogp_site_url"] = f"https://{owner}.github.io/{name}/"  # cards need absolute links
    (STAGE / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _scale(runs):
    """How wide the networks are and how long they were trained, in a few words."""
    widths = " and ".join(sorted({f"{run.config.width:g}" for run in runs}))
    epochs = sorted({run.config.train.epochs for run in runs})
    ends = dict.fromkeys((epochs[0], epochs[-1]))
    return f"{widths} of the paper's width, {' to '.join(map(str, ends))} epochs"


def _stage_first_page(preset, runs):
    """For the pool: the figures and the answer of the first page."""
    start = time.perf_counter()
    frame, study = experiments.frame("pruning", runs), experiments.recorded(presets.get("study"))
    report.use_style()
    axes = report.by_network(frame, report.plot_accuracy_by_rate)
    axes.flat[0].figure.savefig(STAGE / "book" / "_static" / "key_figure.png")
    (STAGE / "book" / "_glance.md").write_text(_glance(frame, runs, study, preset), encoding="utf-8")
    live = f"````{{raw}} html\n{report.knob(study or runs)._repr_html_()}\n````\n"
    (STAGE / "book" / "_knob.md").write_text(live, encoding="utf-8")
    return "the first page", time.perf_counter() - start


def _glance(frame, runs, study, preset):
    """The first page's answer from the recorded study, and what this build adds to it."""
    sources = {"Paper's numbers": claims.judge_printed(), "Author's files": claims.judge(claims.evidence_of_author())}
    if study:
        sources["Our study"] = claims.judge(claims.evidence_of_study())
    # no caption: numbered, it would be "Table 1", and so is the paper's
    answer = report.Table(report.answer_table(sources), "", "tab-answers", words_from=1)
    parts = [answer._repr_markdown_()]
    if study:
        parts.append(f"{{.provenance}}\nOur study is of narrow networks: {report.provenance_line(study)}")
    if preset != presets.get("study"):
        parts.append(f"This build is preset `{preset.name}`. Its own numbers:\n\n{report.glance(frame, runs, preset)}")
    return "\n\n".join(parts) + "\n"


def repository_url():
    """Public address of this copy of the project."""
    try:
        command = ["git", "remote", "get-url", "origin"]
        remote = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"github\.com[:/](.+?)/(.+?)(?:\.git)?$", remote)
    return f"https://github.com/{match[1]}/{match[2]}" if match else None


def render():
    """Build the staged book; every warning is an error."""
    program = shutil.which("jupyter-book", path=sysconfig.get_path("scripts"))
    if program is None:
        raise RuntimeError("jupyter-book is not installed beside this Python; run pip install -r requirements.txt")
    shutil.rmtree(BESIDE, ignore_errors=True)  # beside the old book, which stays until the new one is whole
    command = [program, "build", STAGE, "--path-output", BESIDE, "--all", "-n", "-W", "--keep-going", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace")
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)  # colours, which a file cannot show
    Path("_build/sphinx.log").write_text(output, encoding="utf-8")
    if done.returncode:
        problems = [line for line in output.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
        raise RuntimeError("building the pages failed (_build/sphinx.log):\n" + "\n".join(problems[-25:]))
    new, book, old = BESIDE / "_build" / "html", Path("_build/html"), Path("_build/html.old")
    _polish(new)
    shutil.rmtree(old, ignore_errors=True)
    if book.exists():
        book.rename(old)
    new.rename(book)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(BESIDE, ignore_errors=True)
    return book / "index.html"


def _polish(root):
    """Mend what the theme leaves on every page, and let figures follow its dark mode."""
    # Matplotlib's SVG on a page of the theme's colour: an image follows the colour scheme of the page it is in
    panels, style = {}, (Path(report.__file__).parent / "web" / "figure.css").read_text(encoding="utf-8")
    for path in (root / "_images").glob("*.svg"):
        drawn = path.read_text(encoding="utf-8")
        if found := re.search(r'data-panels="[^"]*"', drawn):
            panels[path.name] = found[0]
        path.write_text(drawn.replace('<style type="text/css">', f'<style type="text/css">{style}', 1), "utf-8")
    for path in root.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        unused = r' [^>]*(?:fontawesome|"\.\./[^"]*(?:searchtools|language_data|searchindex))\.js[^>]*>'
        html = re.sub(rf"\s*<script(?:>const THEBE_JS_URL.*?|{unused})</script>", "", html)  # 1.7 MB that no page needs
        toggle = '<summary><span class="toctree-toggle"'
        html = html.replace(toggle, toggle.replace("<summary", '<summary aria-label="Show or hide its pages"'))
        html = html.replace('role="doc-biblioentry"', 'role="listitem"')  # what a list may hold
        html = re.sub(r"(?<=\d) %", "\u00a0%", html)  # a number keeps its unit on a line
        image = r'<img (?=[^>]*src="[^"]*_images/([^"/]+)")'
        html = re.sub(image, lambda at: f"<img {panels[at[1]]} " if at[1] in panels else at[0], html)
        path.write_text(html, encoding="utf-8")
