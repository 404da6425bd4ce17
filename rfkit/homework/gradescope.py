"""The grader as an autograder of Gradescope: one zip to upload, and what runs in its container.

Source:
    Gradescope's specification of autograders: ``setup.sh`` builds the container, ``run_autograder`` grades what is in
    ``/autograder/submission`` and writes ``/autograder/results/results.json``.
"""

import json
import subprocess
import sys
import zipfile
from contextlib import suppress
from importlib.metadata import requires
from pathlib import Path

from rfkit.config import one_of
from rfkit.files import replacing, write_json
from rfkit.homework import grading, kernel
from rfkit.homework.editions import HIDDEN_TESTS, PACKAGE

VISIBILITIES = ("hidden", "after_due_date", "after_published", "visible")
SETUP = """#!/usr/bin/env bash
# Python 3.11 or newer, and the few packages that grading needs, in an environment of their own.
set -euo pipefail
apt-get update
apt-get install -y python3 python3-venv
python=python3
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  apt-get install -y python3.11 python3.11-venv
  python=python3.11
fi
$python -m venv /autograder/venv
/autograder/venv/bin/pip install --no-cache-dir {packages}
"""
RUN = """#!/usr/bin/env bash
set -euo pipefail
root="${AUTOGRADER_ROOT:-/autograder}"
cd "$root/source"
"$root/venv/bin/python" -m rfkit.homework.gradescope "$root/submission" "$root/results/results.json"
"""


def build(path, tests=None, *, visibility="after_published", seconds=60, memory_gib=8.0):
    """Write the zip of an autograder; a `ConfigError` if the tests are not there."""
    tests, path = Path(tests or HIDDEN_TESTS), Path(path)
    one_of("visibility", visibility, VISIBILITIES)
    grading.check_limits(seconds, memory_gib)
    grading.suites(tests)
    options = {"visibility": visibility, "seconds": seconds, "memory_gib": memory_gib}
    # what the homework needs: PyTorch is not among it
    setup = SETUP.format(packages=" ".join(f"'{each}'" for each in requires("rfkit") if "extra ==" not in each))
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, script in (("setup.sh", setup), ("run_autograder", RUN)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o755 << 16  # executable
            archive.writestr(entry, script)
        archive.writestr("options.json", json.dumps(options))
        for test in sorted(tests.glob("*.py")):
            archive.write(test, f"tests/{test.name}")
        for part in sorted(PACKAGE.rglob("*")):
            inside = part.relative_to(PACKAGE)
            if part.is_file() and "__pycache__" not in inside.parts and "hidden_tests" not in inside.parts:
                archive.write(part, Path("rfkit") / inside)
    return path


def results(graded, visibility="after_published"):
    """A graded submission as Gradescope reads it."""
    found = []
    for question in graded["questions"]:
        for i, test in enumerate(question["tests"], start=1):
            notes = question["problems"] if i == 1 else []
            found.append({
                "name": f"{question['notebook']}: {test['name']}",
                "number": f"{question['question']}.{i}",
                "score": test["points"],
                "max_score": test["of"],
                "output": "\n".join([test["message"] or "right", *(f"note: {note}" for note in notes)]),
                "visibility": visibility,
            })  # fmt: skip
    said = f"{graded['total']} of {graded['of']} points. Left to the teacher: {graded['to_read']}."
    return {"output": said, "visibility": visibility, "stdout_visibility": "hidden", "tests": found}


def _account():
    """Whose rights a submission gets, so that it can neither read tests nor write results; None for the grader's."""
    with suppress(ImportError, KeyError, OSError):  # Windows; no such account; not root, or it cannot run this Python
        rights = kernel.rights_of("nobody")
        Path("tests").chmod(0o700)
        if subprocess.run([sys.executable, "-c", "import rfkit"], capture_output=True, **rights).returncode == 0:
            return "nobody"
    print("submissions have the rights of the grader: it is not root, or nobody else can run its Python")


def main():
    """Grade in the container: python -m rfkit.homework.gradescope SUBMISSION RESULTS."""
    submission, written = map(Path, sys.argv[1:])
    chosen = json.loads(Path("options.json").read_text(encoding="utf-8"))
    visibility = chosen.pop("visibility")
    graded = grading.grade(submission, "tests", account=_account(), **chosen)
    write_json(written, results(graded, visibility))
    print(grading.table(graded))


if __name__ == "__main__":
    main()
