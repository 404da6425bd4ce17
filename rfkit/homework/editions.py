"""The student edition: chapters without their coding solutions, and the homework's hand-out made from them."""

import ast
import importlib
import inspect
import re
import secrets
import shutil
import sys
from pathlib import Path

import nbformat

from rfkit.config import ConfigError, one_of

HANDOUT = {
    "Receptive-Fields": "hw1_receptive_fields",
    "CNN-Layers": "hw2_cnn_layers",
    "CNN-BatchNorm": "hw3_spatial_batchnorm",
    "CNN": "hw4_cifar10_cnn",
}
"""Notebooks of the hand-out in its order, and the chapters they are made from; question 1 to 4."""
EDITIONS = ("full", "student")
HIDDEN_TESTS = Path(__file__).parent / "hidden_tests"
PACKAGE = Path(__file__).parents[1]
REFERENCES = PACKAGE.parent / "book" / "references.bib"
SUPPORT = (
    *("__init__.py", "config.py", "files.py", "data/__init__.py", "data/image_files.py", "data/published.py"),
    *("homework/__init__.py", "homework/checks.py", "homework/descent.py", "reference/digits.npz"),
)
LAYERS = "numpy_layers.py"
"""The parts of this package that the hand-out's notebooks import: all of them, and question 4 our layers."""
YOUR_CODE = 'raise NotImplementedError("your code here")'
_METHOD = re.compile(r", method='fast'|\n +method: .*")
"""What a stub does not have: how a layer is computed is the student's choice."""
_RAISES = re.compile(r"\n *Raises:\n(?: {8,}.*\n)+")
_BODY = r"\n(?::\w+:[^\n]*\n)*((?:.|\n)*?)"
"""Options of a directive, and its content as a group."""
_SOLUTION = re.compile(r"^(`{3,})\{solution\}.*?^\1\s*$\n?", re.MULTILINE | re.DOTALL)
BLANK = re.compile(r"^\*Your (?:derivation|answer):\*$", re.MULTILINE)
"""Where a student writes, and the book has the derivation."""
_ROLES = {"numref": "The figure below", "ref": "the book", "eq": "the formula above"}


def has(cell, tag):
    """Whether a cell has a tag."""
    return tag in cell.metadata.get("tags", [])


def stubs(source):
    """What a student finds in place of a solution, a cell for each function: an error costs the one it is in."""
    objects, others = _imported(source)
    if others:
        comments = [line for line in source.splitlines() if line.startswith("#")]
        return ["\n".join([*comments[:1], "# Your code here."])]
    return [_empty(each) for each in objects]


def solved(source):
    """A solution that needs no import from `rfkit`: the source of the modules themselves stands in its place."""
    objects, others = _imported(source)
    sources = map(inspect.getsource, dict.fromkeys(map(inspect.getmodule, objects)))
    return "\n\n\n".join(filter(None, [*sources, others])) if objects else source


def _imported(source):
    """All that a cell imports from rfkit's modules, in the order of its definition; and the cell's rest."""
    nodes = ast.parse(source).body
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rfkit.")]
    found = [getattr(importlib.import_module(node.module), alias.name) for node in imports for alias in node.names]
    others = "\n".join(ast.get_source_segment(source, node) for node in nodes if node not in imports)
    return sorted(found, key=lambda each: (each.__module__, inspect.getsourcelines(each)[1])), others


def _empty(ours):
    """A function or class of ours without what it does."""
    (node,) = ast.parse(inspect.getsource(ours)).body
    methods = [node]
    if isinstance(node, ast.ClassDef):
        defined = (part for part in node.body if isinstance(part, ast.FunctionDef))
        methods = [part for part in defined if part.name == "__init__" or not part.name.startswith("_")]
        node.body = [*node.body[:1], *methods]
    for function in methods:
        documented = ast.get_docstring(function) is not None
        function.body = [*function.body[: int(documented)], *ast.parse(YOUR_CODE).body]
        if documented:  # which errors ours raise is not asked for
            function.body[0].value.value = _RAISES.sub("", function.body[0].value.value)
    return _METHOD.sub("", ast.unparse(node))


def without_solutions(notebook):
    """A chapter for the student edition of the book, in place; what other cells put out stays."""
    notebook.cells = [cell for cell in notebook.cells if not has(cell, "shows-solution")]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = _SOLUTION.sub("", cell.source)
        elif has(cell, "solution"):
            cell.source, cell.outputs = "\n\n\n".join(stubs(cell.source)), []
    return notebook


def build(folder, tests=None, *, questions=(1, 2, 3, 4), solutions=False):
    """Write the notebooks of the hand-out, what they import, and how to work on them.

    Args:
        folder: Where to; made if it is not there.
        tests: Folder of the hidden tests: a template is written there, with seeds of its own, if it is empty.
        questions: Which to hand out. Question 4 comes with our layers, which solve questions 2 and 3.
        solutions: Write the solved notebooks instead, for the teacher.

    Returns:
        List of the files written.

    Raises:
        ConfigError: If there is no such question, `notebooks/` is not there, or the folder holds a notebook of that
            name or another `rfkit`; nothing is written then.
    """
    folder, written = Path(folder), []
    questions = [one_of("question", each, (1, 2, 3, 4)) for each in questions]
    chapters = {name: chapter for i, (name, chapter) in enumerate(HANDOUT.items(), 1) if i in questions}
    taken = [name for name in chapters if (folder / f"{name}.ipynb").exists()]
    if taken:
        raise ConfigError(f"{folder} holds {taken[0]}.ipynb already; name another folder, nothing was overwritten")
    modules = (path.relative_to(folder / "rfkit").as_posix() for path in (folder / "rfkit").rglob("*.py"))
    if not {*SUPPORT, LAYERS}.issuperset(modules):
        raise ConfigError(f"{folder} holds an rfkit of its own; name another folder, nothing was overwritten")
    sources = {name: Path("notebooks") / f"{chapter}.ipynb" for name, chapter in chapters.items()}
    for source in sources.values():
        if not source.is_file():
            raise ConfigError(f"no {source} in {Path.cwd()}; run rfkit assignment from the top folder of the project")
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in sources.items():
        path = folder / f"{name}.ipynb"
        nbformat.write(_handout(nbformat.read(source, as_version=4), solutions), path)
        written.append(path)
    if (folder / "README.md").exists():
        print(f"rfkit: kept {folder / 'README.md'} as it is", file=sys.stderr)
    elif not solutions:
        written.append(shutil.copy(Path(__file__).with_name("handout.md"), folder / "README.md"))
    if not solutions and 4 in questions and {2, 3} & set(questions):
        which = "--questions 1,2,3 leaves it and question 4 for later"
        print(f"rfkit: {folder / 'rfkit' / LAYERS} solves questions 2 and 3; {which}", file=sys.stderr)
    for part in (*SUPPORT, LAYERS) if 4 in questions else SUPPORT:
        place = folder / "rfkit" / part
        place.parent.mkdir(parents=True, exist_ok=True)
        written.append(shutil.copy(PACKAGE / part, place))
    if tests is not None:
        written += _template(Path(tests))
    return written


def _handout(notebook, solutions):
    cells = []
    for cell in notebook.cells:
        sources = [cell.source]
        if "handout" in cell.metadata:  # what stands there instead, often nothing
            sources = [cell.metadata["handout"]] if cell.metadata["handout"] else []
            if solutions and cell.cell_type == "markdown" and sources and BLANK.search(sources[0]):
                sources.append(plain(cell.source))
        elif has(cell, "answer") or (cell.cell_type == "code" and has(cell, "remove-input")):
            continue
        elif cell.cell_type == "markdown":
            sources = [plain(cell.source)]
        elif has(cell, "solution"):
            sources = [solved(cell.source)] if solutions else stubs(cell.source)
        new = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
        tags = [tag for tag in ("parameters", "solution", "test") if has(cell, tag)]
        cells += [new(source, metadata={"tags": tags}) for source in sources]
    cells[0].source += "\n\nName:"
    notebook.cells = cells
    return notebook


def plain(text):
    """Markdown of the book as a notebook outside the book shows it."""
    text = _SOLUTION.sub("", text)
    text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
    text = re.sub(rf"^(`{{3,}})\{{exercise\}}{_BODY}^\1", r"**Exercise.** \2", text, flags=re.MULTILINE)
    as_details = r"<details><summary>\2</summary>\n\n\3\n</details>"
    text = re.sub(rf"^(:{{3,}})\{{admonition\}} ([^\n]*){_BODY}^\1", as_details, text, flags=re.MULTILINE)
    text = re.sub(r"\{cite:t\}`(\w+)`", lambda m: "{} ({})".format(*_cited(m[1])), text)
    text = re.sub(r"\{cite:p\}`(\w+)`", lambda m: "({}, {})".format(*_cited(m[1])), text)
    text = re.sub(r"\{term\}`([^`<]*?)(?: <[^`]*>)?`", r"\1", text)
    text = re.sub(r"\{math\}`([^`]*)`", r"$\1$", text)
    text = re.sub(r"\$\$ \([\w-]+\)", "$$", text)
    return re.sub(r"\{(numref|ref|eq)\}`[^`]*`", lambda m: _ROLES[m[1]], text)


def _cited(key):
    """Authors and year of an entry in the book's list of references."""
    from pybtex.database import parse_file

    entry = parse_file(REFERENCES).entries[key]
    names = [" ".join(person.last_names) for person in entry.persons["author"]]
    return " and ".join(names) if len(names) < 3 else f"{names[0]} et al.", entry.fields["year"]


def _template(folder):
    """Copies of our hidden tests, with other seeds; nothing of the teacher's is touched."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"rfkit: kept {folder} as it is; it is not empty", file=sys.stderr)
        return []
    for path in sorted(HIDDEN_TESTS.glob("q*.py")):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^SEED = \d+", f"SEED = {secrets.randbelow(10**6)}", text, flags=re.MULTILINE)
        (folder / path.name).write_text(text, encoding="utf-8")
    return sorted(folder.glob("q*.py"))
