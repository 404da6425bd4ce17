"""Executing the notebooks and building the book; sources are never changed by a build."""

import ast
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
import yaml

from rfkit import editions, kernel, outcomes, plots, presets, study, views
from rfkit.config import ConfigError, check_keys, literal, one_of

STAGE = Path("_build/stage")


class NotebookError(RuntimeError):
    """A cell of a notebook failed; the message is the cell's own error."""


def notebook_names():
    """Names of the notebooks in ``notebooks/``.

    Returns:
        Sorted list without suffix.

    Raises:
        ConfigError: If the current folder is not the project's.
    """
    found = sorted(path.stem for path in Path("notebooks").glob("*.ipynb"))
    if not found:
        raise ConfigError(f"no notebooks/ in {Path.cwd()}; run rfkit from the top folder of the project")
    return found


def defaults(name):
    """Parameters of a notebook and their default values.

    Args:
        name: Name of the notebook.

    Returns:
        Mapping, in the order of its cell tagged ``parameters``.
    """
    one_of("notebook", name, notebook_names())
    notebook = nbformat.read(Path("notebooks") / f"{name}.ipynb", as_version=4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}


def parse(pairs):
    """Parameters given on a command line.

    Args:
        pairs: Texts ``key=value``; a value is a Python literal, a list ``1,3``, or else a text.

    Returns:
        Mapping.

    Raises:
        ConfigError: If a text has no ``=``.
    """
    parameters = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise ConfigError(f"parameter {pair!r} has no value; expected key=value, such as levels=1,3")
        parameters[key.strip()] = literal(value)
    return parameters


def check_parameters(name, parameters):
    """Check parameters before a kernel is started.

    Args:
        name: Name of the notebook.
        parameters: Mapping.

    Returns:
        The `rfkit.presets.Preset` they describe.

    Raises:
        ConfigError: If a parameter or a value is not valid; the message lists the valid ones.
    """
    known = defaults(name)
    check_keys(f"parameter of {name}", parameters, known)
    values = known | parameters
    chosen = {field: values[field] for field in presets.CHOICES if field in values}
    return presets.get(values.get("preset", "demo"), values.get("protocol")).select(**chosen)


def execute(name, output, parameters):
    """Execute a notebook with papermill.

    Args:
        name: Name of the notebook.
        output: File to write, after every cell; ``None`` for none, which is faster.
        parameters: Mapping; checked first.

    Returns:
        The executed notebook.

    Raises:
        NotebookError: If a cell fails.
    """
    check_parameters(name, parameters)
    warnings.filterwarnings("ignore", module="zmq|jupyter_client|papermill|nbformat|traitlets")
    import papermill
    from papermill.exceptions import PapermillExecutionError

    # one thread for the kernel: small networks are faster so, on a busy machine by far
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output = str(output)
    source = str(Path("notebooks") / f"{name}.ipynb")
    try:
        with tempfile.TemporaryDirectory(prefix="rfkit-") as folder:
            config = kernel.private_sockets(folder)
            # a kernel is interrupted before it is ended, and would call that an error; those of cells come here
            config.NotebookClient.extra_arguments = ["--log-level=50"]
            options = {"kernel_name": "python3", "progress_bar": False, "config": config}
            return papermill.execute_notebook(source, output, parameters, **options)
    except PapermillExecutionError as error:
        raise NotebookError(f"{name}, cell {error.exec_count}: {error.ename}: {error.evalue}") from None


def _execute_staged(name, parameters):
    """For the pool: execute into the stage, then say in the parameter cell, not in one added, what it was run with."""
    os.environ["OMP_NUM_THREADS"] = "1"
    start = time.perf_counter()
    notebook = execute(name, None, parameters)
    notebook.cells = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for key, value in parameters.items():
                cell.source = re.sub(rf"^{key} = .*$", f"{key} = {value!r}", cell.source, flags=re.MULTILINE)
    output = STAGE / "notebooks" / f"{name}.ipynb"
    output.parent.mkdir(exist_ok=True)
    nbformat.write(notebook, output)
    return name, time.perf_counter() - start


def build(preset_name, *, jobs=None, device=None, max_minutes=60, edition="full"):
    """Train what is missing, execute every notebook and build the book into ``_build/html``.

    Args:
        preset_name: Preset whose numbers the book shows.
        jobs: Number of processes.
        device: As in `rfkit.training.pick_device`.
        max_minutes: Longest training to start, by an estimate for this machine.
        edition: ``full``, or ``student``: without coding solutions and without solutions of exercises.

    Returns:
        Path of the book's first page.

    Raises:
        NotebookError: If a notebook fails.
        RuntimeError: If Sphinx reports an error or a warning.
    """
    preset = presets.get(preset_name)
    one_of("edition", edition, editions.EDITIONS)
    names = notebook_names()
    start = time.perf_counter()
    runs = study.ensure(preset, max_minutes=max_minutes, jobs=jobs, device=device)
    trained = time.perf_counter()
    print(f"{len(runs)} runs ready ({trained - start:.0f} s)", flush=True)
    stage(preset, runs)
    with ProcessPoolExecutor(min(jobs or os.cpu_count() or 1, len(names)), get_context("spawn")) as pool:
        given = {"preset": preset_name, "device": device}
        # the largest first: they take longest, and none is left to one process at the end
        names = sorted(names, key=lambda name: -Path(f"notebooks/{name}.ipynb").stat().st_size)
        given_to = {name: {key: value for key, value in given.items() if key in defaults(name)} for name in names}
        for future in [pool.submit(_execute_staged, name, parameters) for name, parameters in given_to.items()]:
            name, seconds = future.result()
            print(f"executed {name} ({seconds:.0f} s)", flush=True)
    if edition == "student":
        for path in (STAGE / "notebooks").glob("*.ipynb"):
            nbformat.write(editions.without_solutions(nbformat.read(path, as_version=4)), path)
    executed = time.perf_counter()
    page = render()
    print(
        f"{page}: training {trained - start:.0f} s, notebooks {executed - trained:.0f} s, "
        f"pages {time.perf_counter() - executed:.0f} s",
        flush=True,
    )
    return page


def stage(preset, runs):
    """Lay out the sources of a build under ``_build/stage``.

    Args:
        preset: `rfkit.presets.Preset`, named in the banner.
        runs: Its runs; their data sets are named in the banner.
    """
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    shutil.copytree("book", STAGE / "book")
    shutil.copy("_toc.yml", STAGE)
    config = yaml.safe_load(Path("_config.yml").read_text(encoding="utf-8"))
    labels = sorted({run.provenance["data"]["label"] for run in runs})
    frame = outcomes.accuracies(runs)
    plots.use_style()
    axes = plots.by_network(frame, plots.plot_accuracy_by_rate)
    axes.flat[0].figure.savefig(STAGE / "book" / "_static" / "key_figure.png")
    (STAGE / "book" / "_glance.md").write_text(views.glance(frame, runs, preset), encoding="utf-8")
    theme = config["sphinx"]["config"]["html_theme_options"]
    theme["announcement"] = f"This build shows preset <b>{preset.name}</b>: {', '.join(labels)}; {preset.purpose}."
    url = repository_url()
    if url is None:  # launch buttons need a public copy of the project
        config.pop("launch_buttons", None)
        config["html"] |= dict.fromkeys(("use_repository_button", "use_issues_button", "use_edit_page_button"), False)
    else:
        config["repository"] = {"url": url, "branch": "main", "path_to_book": ""}
        owner, name = url.split("/")[-2:]
        config["sphinx"]["config"]["ogp_site_url"] = f"https://{owner}.github.io/{name}/"  # cards need absolute links
    (STAGE / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def repository_url():
    """Public address of this copy of the project.

    Returns:
        The address of git's remote ``origin`` if it is on GitHub, without ``.git``; else None.
    """
    try:
        remote = subprocess.run(
            ["git", "remote", "get-url", "origin"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"github\.com[:/](.+?)/(.+?)(?:\.git)?$", remote)
    return f"https://github.com/{match[1]}/{match[2]}" if match else None


def render():
    """Build the staged book; every warning is an error.

    Returns:
        Path of the first page.

    Raises:
        RuntimeError: If the build fails; the message is Sphinx's last lines.
    """
    shutil.rmtree("_build/html", ignore_errors=True)
    program = shutil.which("jupyter-book", path=sysconfig.get_path("scripts"))
    if program is None:
        raise RuntimeError("jupyter-book is not installed beside this Python; run pip install -r requirements.txt")
    options = ["--path-output", ".", "--all", "-n", "-W", "--keep-going", "--quiet"]
    done = subprocess.run(
        [program, "build", str(STAGE), *options], capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    output = done.stdout + done.stderr
    Path("_build/sphinx.log").write_text(output, encoding="utf-8")
    if done.returncode:
        problems = [line for line in output.splitlines() if re.search(r"WARNING|ERROR|Error:", line)]
        raise RuntimeError("building the pages failed (_build/sphinx.log):\n" + "\n".join(problems[-25:]))
    _polish(Path("_build/html"))
    return Path("_build/html/index.html")


def _polish(root):
    """Mend what the theme leaves on every page."""
    for path in root.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        html = re.sub(r"\s*<script>const THEBE_JS_URL.*?</script>", "", html)  # twice on every page, and never used
        html = re.sub(r"<script [^>]*fontawesome\.js[^>]*></script>", "", html)  # 1.5 MB; the icons come as a font too
        html = html.replace('role="doc-biblioentry"', 'role="listitem"')  # what a list may hold
        path.write_text(html, encoding="utf-8")
