"""Grading a submission of the homework with hidden tests, question by question."""

import importlib.util
import re
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

from rfkit.config import ConfigError, one_of, whole
from rfkit.files import first_line
from rfkit.homework import kernel
from rfkit.homework.editions import HANDOUT, HIDDEN_TESTS

_GRADER = ("rfkit.cli", *(f"rfkit.homework.{n}" for n in "hidden_tests grading gradescope editions kernel".split()))
BLOCKED = {
    1: ("rfkit.homework.answers", "rfkit.receptive_field", *_GRADER),
    2: ("rfkit.numpy_layers", "rfkit.homework.nets", "torch", "scipy", *_GRADER),
    3: ("rfkit.numpy_layers", "rfkit.homework.nets", "torch", "scipy", *_GRADER),
    4: ("rfkit.homework.nets", *_GRADER),
}
"""Modules that a question's code cannot import: the grader, our answers, and others' where layers are to be written."""

TO_READ = "the derivations of question 1 (a) to (e); their points above are for the functions alone"
"""What no test can grade."""


def check_limits(seconds, memory_gib):
    """Refuse limits that nothing can keep."""
    if not seconds > 0:
        raise ConfigError(f"seconds is {seconds:g}; expected a positive number")
    if memory_gib and not memory_gib > 0:
        raise ConfigError(f"memory is {memory_gib:g} GiB; expected a positive number, or 0 for no limit")


def grade(folder, tests=None, *, questions=tuple(BLOCKED), seconds=60, memory_gib=8.0, account=None):
    """Grade a submission.

    Args:
        folder: Folder with the four notebooks of the hand-out.
        tests: Folder with ``q1.py`` to ``q4.py``, each with a list ``TESTS`` of (points, name, function); ours by
            default.
        questions: Those that are due; points are counted of these only.
        seconds: Longest a cell or a test's request may take.
        memory_gib: Address space of a kernel.
        account: Account of the system whose rights a submission gets; only root can give them.

    Returns:
        JSON-able mapping: ``total``, ``of``, ``memory_limited``, ``to_read`` and ``questions``, each with ``points``,
        ``of``, ``problems`` and ``tests`` (name, points, of, message).

    Raises:
        ConfigError: If a folder or a test file is not there, there is no such question, or a limit is negative.
        SetupError: If this computer cannot start a kernel to grade in.
    """
    folder, tests_of = Path(folder), suites(tests or HIDDEN_TESTS)
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder}; expected one with {', '.join(f'{name}.ipynb' for name in HANDOUT)}")
    check_limits(seconds, memory_gib)
    due = [one_of("question", each, tuple(BLOCKED)) for each in questions]
    limits, questions = {"seconds": seconds, "memory_gib": memory_gib, "account": account}, []
    for number, name in enumerate(HANDOUT, start=1):
        if number not in due:
            continue
        path = _notebook(folder, name)
        tried = _question(path, tests_of[number], BLOCKED[number], limits)
        tried["problems"] += [f"it was handed in as {path.name}"] * (path.stem != name)
        questions.append({"question": number, "notebook": name} | tried)
    return {
        "submission": folder.resolve().name,
        "total": sum(question["points"] for question in questions),
        "of": sum(question["of"] for question in questions),
        "memory_limited": bool(memory_gib) and sys.platform.startswith("linux"),  # else the system enforces no limit
        "to_read": TO_READ if 1 in due else "",
        "questions": questions,
    }


def grade_all(folders, tests=None, *, jobs=1, known=(), **limits):
    """Grade submissions side by side; yields (folder, what `grade` returns, or None for no submission) as they end.

    Submissions are named by their folders, and by the folders above where several are named alike. One that was named
    so before, with others (`known`), gets that name again.
    """
    whole("jobs", jobs, 1)
    suites(tests or HIDDEN_TESTS)  # a missing test is everybody's
    places = {Path(folder): Path(folder).resolve() for folder in folders}
    aside = (".", "__MACOSX")
    found = [folder for folder, place in places.items() if place.is_dir() and not place.name.startswith(aside)]
    names = _names({folder: places[folder].parts for folder in found}, known)
    with ThreadPoolExecutor(jobs) as pool:  # the work is in the kernels
        running = {pool.submit(grade, folder, tests, **limits): folder for folder in found}
        yield from ((folder, None) for folder in places if folder not in found)
        try:
            for future in as_completed(running):
                folder = running[future]
                yield folder, future.result() | {"submission": names[folder]}
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C, the others are not begun


def _names(parts, known=()):
    """A name for each folder that no other has: as many of its last parts as that takes, and as it took before."""
    lengths = range(1, max(map(len, parts.values()), default=1) + 1)
    every = ({folder: "-".join(each[-n:]).strip("/\\") for folder, each in parts.items()} for n in lengths)
    unique = [names for names in every if len(set(names.values())) == len(set(parts.values()))]
    longer = {row[at + 1 :] for row in known for at, letter in enumerate(row) if letter == "-"} - set(known)
    return {
        folder: next((names[folder] for names in unique if names[folder] not in longer), name)
        for folder, name in unique[0].items()
    }


def gradebook(graded, before=()):
    """Rows for a gradebook, by submission: points, first notes, what is left to the teacher; earlier rows are kept."""
    columns = ["submission", *(f"question {number}" for number in BLOCKED), "total", "of", "notes", "to be read by you"]
    wrong = next((row for row in before if list(row) != columns), None)
    if wrong:
        raise ConfigError(f"the CSV has columns {', '.join(map(str, wrong))}, not a gradebook's; name another file")
    rows = []
    for each in graded:
        found = {question["question"]: question["points"] for question in each["questions"]}
        points = (found.get(number, "") for number in BLOCKED)
        notes = "; ".join(note for question in each["questions"] for note in question["problems"][:1])
        row = (each["submission"], *points, each["total"], each["of"], notes, each["to_read"])
        rows.append(dict(zip(columns, row, strict=True)))
    return [row for _, row in sorted({row["submission"]: row for row in [*before, *rows]}.items())]


def suites(folder):
    """The hidden tests in a folder, by question; a `ConfigError` if one is not there or cannot be used."""
    found = {}
    for number in BLOCKED:
        path = Path(folder) / f"q{number}.py"
        if not path.is_file():
            raise ConfigError(f"no {path}; rfkit assignment build DIR --tests {folder} makes a template")
        spec = importlib.util.spec_from_file_location(f"hidden_q{number}", path)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            found[number] = [(points, name, test) for points, name, test in module.TESTS]
        except Exception as error:  # a teacher's own code
            wrong = f"{type(error).__name__}: {first_line(error)}; it needs a list TESTS of (points, name, function)"
            raise ConfigError(f"{path} cannot be used: {wrong}") from error
    return found


def _notebook(folder, name):
    """A notebook of a submission, also where it lies in a folder below, as unpacked zips do."""
    renamed = re.compile(rf"(.*[\W_])?{name}[\W_]*\d*[\W_]*", re.IGNORECASE)  # by a browser or a platform: name (1)
    aside = (".ipynb_checkpoints", "__MACOSX")  # what Jupyter and macOS leave
    below = [path for path in folder.rglob("*.ipynb") if not set(aside) & set(path.parts) and path.name[:2] != "._"]
    found = [p for p in below if p.stem == name] or [p for p in below if renamed.fullmatch(p.stem)]
    return found[0] if len(found) == 1 else folder / f"{name}.ipynb"


def _question(path, suite, blocked, limits):
    results = []
    with closing(kernel.Submission(path, blocked=blocked, **limits)) as student:
        for points, name, test in suite:
            message = _message(test, student)
            results.append({"name": name, "points": 0 if message else points, "of": points, "message": message})
    earned, possible = (sum(result[key] for result in results) for key in ("points", "of"))
    return {"points": earned, "of": possible, "problems": student.problems, "tests": results}


def _message(test, student):
    """What is wrong, empty if nothing is; whatever a submission gives back, the next test still runs."""
    try:
        test(student)
    except (AssertionError, kernel.StudentError) as error:
        return kernel.in_one_line(error) or "wrong"
    except kernel.SetupError:  # no fault of the student
        raise
    except Exception as error:
        return kernel.in_one_line(f"{type(error).__name__}: {error}")
    return ""


def table(graded):
    """A graded submission as text."""
    lines = [f"{graded['submission']}: {graded['total']} of {graded['of']} points"]
    for question in graded["questions"]:
        lines.append("  question {question}, {notebook}: {points} of {of}".format(**question))
        for test in question["tests"]:
            message = f": {test['message']}" if test["message"] else ""
            lines.append("    {points:>3} of {of:>2}  {name}".format(**test) + message)
        lines += [f"    note: {problem}" for problem in question["problems"]]
    if not graded["memory_limited"]:
        lines.append("  memory was not limited: this system cannot enforce it")
    if graded["to_read"]:
        lines.append(f"  left to the teacher: {graded['to_read']}")
    return "\n".join(lines)
