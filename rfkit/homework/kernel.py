"""One notebook of a student in a kernel of its own, with limits on time and memory, and questions put to it."""

import base64
import io
import itertools
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import namedtuple
from contextlib import suppress
from pathlib import Path
from queue import Empty

import nbformat
import numpy as np
from jupyter_client.manager import KernelManager
from traitlets.config import Config

from rfkit.data import default_root
from rfkit.homework.editions import BLANK

_REACHING = (
    r"__(?:file|path|loader|spec|globals)__|\b(?:importlib|meta_path|hidden_tests|HIDDEN_TESTS|__import__|getsource|"
    r"getfile|get_data|pkgutil|linecache|site-packages|runpy|subprocess|AUTOGRADER_ROOT)\b"
)


class SetupError(RuntimeError):
    """A kernel cannot be prepared on this computer: nothing of the submission has run."""


class StudentError(Exception):
    """The student's code failed, hung or was killed; the message says how."""


def private_sockets(folder):
    """Sockets in a folder of its own instead of TCP ports: no other user, and no other notebook, can reach a kernel."""
    if os.name != "posix" or len(str(folder)) > 80:  # a socket's address has room for about a hundred characters
        return Config()
    return Config({"KernelManager": {"transport": "ipc", "connection_file": f"{folder}/kernel.json"}})


def rights_of(account):
    """Options of a process that has the rights of another account; a `KeyError` where there is no such account."""
    import pwd  # not on Windows

    return dict(zip(("user", "group"), pwd.getpwnam(account)[2:4], strict=True), extra_groups=())


class Submission:
    """A notebook whose code runs in a fresh kernel; a cell that fails, hangs or kills the kernel is left out.

    Not a prison: it limits time and memory and keeps our answers out of the kernel, but code of a student has the
    rights of the account that grades, or of another one that root names.
    """

    def __init__(self, path, *, blocked=(), seconds=60, memory_gib=8.0, account=None):
        self.seconds, self._patience, self._account = seconds, seconds, account
        self._setup = _SETUP.format(blocked=tuple(blocked), limit=int((memory_gib or 0) * 2**30))
        self._manager = self._client = None
        self._failed = {}
        self._notes = []
        self._cells = _code_cells(Path(path), self._notes)
        self._folder = tempfile.mkdtemp(prefix="rfkit-grade-")

    @property
    def problems(self):
        """What went wrong with cells, for people; a cell that only lacks what another one defines counts with that."""
        found = list(self._notes)
        for name, failed in self._failed.items():
            later = sum(other.because == name for other in self._failed.values())
            needing = f" (later cells that need it: {later})" if later else ""
            if failed.because is None:
                found.append(f"{name}: {failed.error}; left out{needing}")
        for name, source in self._cells:
            if match := re.search(_REACHING, source):  # what a solution has no use for
                found.append(f"{name} mentions {match[0]}: read it, it may look for the answers")
        return found

    def close(self):
        """Stop the kernel and delete its folder."""
        self._kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __call__(self, code, give, **arrays):
        """Run code with the student's names and get arrays back; nothing of it stays in the kernel."""
        if not self._cells:
            raise StudentError("nothing to run")
        self._ready()
        packed = io.BytesIO()
        np.savez(packed, **arrays)
        sent = base64.b64encode(packed.getvalue()).decode()
        request = _CALL.format(code=code, give=tuple(give), arrays=sent)
        reply = self._execute(request, expressions={"result": "_rfkit_result"})
        try:
            text = reply["user_expressions"]["result"]["data"]["text/plain"].strip("'\"")
            with np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) as found:
                return [found[name] for name in give]
        except (KeyError, ValueError, OSError) as error:
            raise StudentError(f"results are no numbers or arrays ({error})") from None

    def _ready(self):
        """Have a kernel in which every good cell has run; every kernel that is lost costs one cell, so it ends."""
        while self._manager is None:
            self._prepare()
            with suppress(_KernelLost):
                self._run_cells()

    def _prepare(self):
        for tries_left in (2, 1, 0):
            try:
                self._start()
                self._execute(self._setup)
                return
            except Exception as error:  # sockets, processes, memory: none of it is the student's
                self._kill()
                if not tries_left:
                    raise SetupError(f"no kernel can be prepared to grade in: {error}") from error

    def _run_cells(self):
        for name, source in self._cells:
            if name in self._failed:
                continue
            try:
                self._execute(source)
            except StudentError as error:
                self._failed[name] = _FailedCell(source, error, self._cause(error))
                if isinstance(error, _KernelLost):
                    raise

    def _cause(self, error):
        """The first failed cell that should have defined a name which is lacking now, if that is all that is wrong."""
        lacking = re.match(r"NameError: name '(\w+)' is not defined", str(error))
        for name, cell in self._failed.items():
            if lacking and re.search(rf"^\S.*\b{lacking[1]}\b", cell.source, re.MULTILINE):
                return cell.because or name
        return None

    def _start(self):
        self._manager = KernelManager(kernel_name="python3", config=private_sockets(self._folder))
        # one thread: arithmetic libraries reserve memory by the thread
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        # it runs in a folder of its own
        environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "RFKIT_DATA": str(default_root().resolve())}
        # what it writes to its own output goes nowhere: ours is the report, which nobody else may write into
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        if self._account is not None:
            options |= (rights := rights_of(self._account))
            self._manager.write_connection_file()
            for path in (self._folder, self._manager.connection_file):
                os.chown(path, rights["user"], rights["group"])
            environment["HOME"] = self._folder
        self._manager.start_kernel(cwd=self._folder, env=environment, **options)
        self._client = self._manager.blocking_client()
        # without a listener, whatever is printed goes nowhere: a flood of it costs nothing
        self._client.start_channels(shell=True, iopub=False, stdin=False, hb=False, control=False)

    def _kill(self):
        if self._manager is None:
            return
        if self._client is not None:
            self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager = self._client = None

    def _execute(self, code, expressions=None):
        """Run code; its reply. Raises `StudentError`, or `_KernelLost` after the kernel had to go."""
        waited_for = self._client.execute(code, user_expressions=expressions, allow_stdin=False, stop_on_error=False)
        seconds = self.seconds if expressions is None else self._patience
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                reply = self._client.get_shell_msg(timeout=0.5)
            except Empty:
                if not self._manager.is_alive():
                    self._kill()
                    raise _KernelLost("the kernel died") from None
                continue
            if reply["parent_header"].get("msg_id") == waited_for:
                break
        else:
            self._kill()
            self._patience = self.seconds / 3  # one endless loop makes many tests hang
            raise _KernelLost(f"not finished after {seconds:.0f} s")
        content = reply["content"]
        if content["status"] != "ok":
            raise StudentError(in_one_line(f"{content.get('ename', 'stopped')}: {content.get('evalue', '')}"))
        if any(each.get("source") == "ask_exit" for each in content.get("payload", ())):
            self._kill()  # it replies first and dies later
            raise _KernelLost("it stops the kernel with exit() or quit()")
        return content


def in_one_line(text, length=250):
    """A student's words as one line that a terminal can show: no line breaks, no control characters."""
    words = "".join(letter if letter.isprintable() else " " for letter in str(text)).split()
    return " ".join(words)[:length]


class _KernelLost(StudentError):
    """The kernel hung or died and was stopped."""


_FailedCell = namedtuple("_FailedCell", "source error because")


def _code_cells(path, problems):
    """(name, source) of the code cells; none, and a problem, where there is no notebook."""
    try:
        notebook = nbformat.read(path, as_version=4)
        sources = [str(cell.source).strip() for cell in notebook.cells if cell.cell_type == "code"]
        texts = [cell.source.rstrip() if cell.cell_type == "markdown" else "" for cell in notebook.cells]
        pairs = itertools.pairwise([*texts, ""])  # an answer may stand in a cell of its own
        asked = [below for text, below in pairs if BLANK.match(text.rpartition("\n")[2])]
        blank = [below for below in asked if re.match(r"\Z|\*\*\(|## Your", below)]
        if blank:
            problems.append(f"nothing is written below {len(blank)} of the questions that ask for words")
        first = [in_one_line(code.partition("\n")[0] or "empty", 40) for code in sources]
        return [(f"code cell {i} ({line})", code) for i, (line, code) in enumerate(zip(first, sources, strict=True), 1)]
    except FileNotFoundError:
        others = sorted(str(other.relative_to(path.parent)) for other in path.parent.rglob("[!.]*.ipynb"))
        found = f"; in the folder: {', '.join(others)}" if others else ""
        problems.append(f"{path.name} was not handed in under this name{found}")
    except Exception as error:  # whatever a broken file makes the reader raise
        problems.append(f"{path.name} cannot be read: {in_one_line(error)}")
    return []


_SETUP = """
import importlib.abc as _abc, importlib.machinery as _machinery, sys as _sys
class _Blocked(_abc.MetaPathFinder, _abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r} and name.startswith("rfkit"):
            raise ImportError(name + " is not available here: write your own")
        if name.partition(".")[0] in {blocked!r} and name.count(".") < 2:  # an import that nothing uses costs nothing
            return _machinery.ModuleSpec(name, self, is_package=True)
    def exec_module(self, module):
        module.__name__ += " (not available here: write your own)"
_sys.meta_path.insert(0, _Blocked())
if {limit} and _sys.platform.startswith("linux"):
    import resource as _resource
    _hard = _resource.getrlimit(_resource.RLIMIT_AS)[1]
    _limit = {limit} if _hard == _resource.RLIM_INFINITY else min({limit}, _hard)
    _resource.setrlimit(_resource.RLIMIT_AS, (_limit, _limit))
"""

_CALL = """
def _rfkit_call():
    import base64, builtins, io
    import numpy as np
    # a student's variable may be called dict or zip
    own = get_ipython().user_ns
    names = {{k: own[k] for k in own if k == "__builtins__" or not builtins.hasattr(builtins, k)}}
    with np.load(io.BytesIO(base64.b64decode({arrays!r})), allow_pickle=False) as sent:
        names |= {{k: v[()] if v.ndim == 0 else v for k, v in sent.items()}}
    builtins.exec({code!r}, names)
    packed = io.BytesIO()
    np.savez(packed, **{{name: np.asarray(names[name], dtype=builtins.float) for name in {give!r}}})
    return base64.b64encode(packed.getvalue()).decode()
_rfkit_result = _rfkit_call()
"""
