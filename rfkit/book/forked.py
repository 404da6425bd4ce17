"""Kernels forked from one process that has imported everything: the pages of a book wait for the imports once."""

import multiprocessing
import os
import sys
import tempfile

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from rfkit.experiments import pool

PRELOADED = ("torch", "torchvision", "sympy", "ipykernel.kernelapp", "rfkit.book")
"""What a kernel has imported when it starts; ``sympy`` is of torch's meta device."""


class KernelManager(AsyncKernelManager):
    """Manager of a kernel that is forked where that is safe (Linux), else started like any other."""

    def __init__(self, **options):
        super().__init__(**options)
        # the address of a socket there has room for about a hundred characters
        if sys.platform == "linux" and len(tempfile.gettempdir()) < 70:
            self.provisioner = _Forking(parent=self, kernel_id=self.kernel_id, kernel_spec=self.kernel_spec)


class _Forking(LocalProvisioner):
    async def launch_kernel(self, cmd, **_):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.process = _Kernel(context.Process(target=_serve, args=(cmd[cmd.index("-f") :],)))
        return self.connection_info


class _Kernel:
    """A process of `multiprocessing` with the face of `subprocess.Popen`, which Jupyter expects."""

    stdin = stdout = stderr = None

    def __init__(self, process):
        process.start()
        self.pid, self.kill, self.terminate, self._process = process.pid, process.kill, process.terminate, process

    def poll(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number):
        os.kill(self.pid, number)


def _serve(arguments):
    import matplotlib
    from ipykernel.kernelapp import launch_new_instance

    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"  # a kernel says so before the import
    os.setsid()  # Ctrl-C is not for it
    pool.end_with_parent()
    launch_new_instance(argv=arguments)
