"""Work on all cores: one place where processes are started, watched and ended."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from unittest import mock


def cores():
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads():
    """Threads of each process: ``OMP_NUM_THREADS``, or one, which is faster for small networks."""
    return int((os.environ.get("OMP_NUM_THREADS") or "1").partition(",")[0])  # a list is of nested levels


def few_threads():
    """Processes started in the block use as many threads as `threads` says."""
    return mock.patch.dict(os.environ, OMP_NUM_THREADS=str(threads()))


def run(tasks, jobs):
    """Run tasks, each in a process of its own that is kept for the next one."""
    waiting, running = enumerate(tasks), {}
    workers = [None] * jobs

    def start_next(place):
        index, task = next(waiting, (None, None))
        if task is not None:
            workers[place] = workers[place] or _worker()
            try:
                future = workers[place].submit(task[0], *task[1])
            except BrokenProcessPool:  # killed while it had nothing to do
                workers[place] = _worker()
                future = workers[place].submit(task[0], *task[1])
            running[future] = place, index

    with few_threads():
        try:
            for place in range(jobs):
                start_next(place)
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    place, index = running.pop(future)
                    try:
                        result = future.result()
                    except BrokenProcessPool:
                        result = RuntimeError("a worker was killed; run it again (in a script: is there a main guard?)")
                        workers[place] = None
                    except Exception as error:  # one bad task must not stop the others
                        result = error
                    start_next(place)
                    yield index, result
        except (KeyboardInterrupt, GeneratorExit):
            for worker in filter(None, workers):
                for process in list((worker._processes or {}).values()):
                    process.terminate()
            raise
        finally:
            for worker in filter(None, workers):
                worker.shutdown(cancel_futures=True)


def _worker():
    """A pool of one process: a pool of several is lost as a whole when one of them is killed."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_start_worker)


def _start_worker():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's, which ends this one without a word
    end_with_parent()


def end_with_parent():
    """A worker whose main process was killed would hold its run for good, and wait for work that never comes."""

    def wait_for_it():
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=wait_for_it, daemon=True).start()
