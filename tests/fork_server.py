"""A process that has imported the heavy libraries, and forks a child for every command: see commands.py.

Run as a script with the number of a socket: each request is a message of JSON with the command's standard streams
attached; the answers are the child's process id and, when it has ended, its exit code.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from multiprocessing import process as multiprocessing_process
from pathlib import Path
from typing import Any

# What a run imports besides the harness itself, which every child imports anew.
LIBRARIES = (
    *("torch", "torchvision", "torchmetrics", "lightning.pytorch", "timm", "kornia", "cv2", "safetensors.torch"),
    *("anomalib.data", "anomalib.engine", "anomalib.models", "anomalib.post_processing", "anomalib.visualization"),
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "sqlalchemy", "alembic.command", "optuna", "filelock"),
    *("numpy", "pandas", "pyarrow.parquet", "scipy.stats", "sklearn.metrics", "sklearn.linear_model", "skimage"),
    *("hydra", "omegaconf", "matplotlib.pyplot", "seaborn", "jinja2", "rich.console", "PIL.Image", "joblib"),
)
_KNOWS_FORKS = {"jemalloc_bg_thd"}  # pyarrow's allocator, which starts it again in a child
_LARGEST_REQUEST = 1 << 20  # bytes
_ON_CTRL_C = signal.getsignal(signal.SIGINT)  # not Python's own where the tests were started to ignore it


class _Served:
    """A child that has not ended: where to report its end."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid, self.connection = pid, connection
        self.ended = os.pidfd_open(pid)  # readable once it has

    def report(self) -> None:
        """Reap the child and tell its exit code: as subprocess has it, a signal's number negative."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.ended)
        with contextlib.suppress(OSError), self.connection:  # whoever asked may be gone
            self.connection.sendall(str(code).encode())


def serve(control: socket.socket) -> dict[str, Any] | None:
    """Answer requests until the other end of the socket is closed; returns a request in the child that is to run it."""
    served: dict[int, _Served] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd in served:
                    selector.unregister(key.fd)
                    served.pop(key.fd).report()
                    continue
                message, descriptors, _, _ = socket.recv_fds(control, _LARGEST_REQUEST, 4)
                if not message:
                    return None
                connection = socket.socket(fileno=descriptors[3])
                child = os.fork()
                if child == 0:
                    _close(control, connection, *(other.connection for other in served.values()))
                    for ended in served:
                        os.close(ended)
                    _take_streams(descriptors[:3])
                    return dict(json.loads(message))
                for descriptor in descriptors[:3]:
                    os.close(descriptor)
                connection.sendall(str(child).encode())
                entry = _Served(child, connection)
                served[entry.ended] = entry
                selector.register(entry.ended, selectors.EVENT_READ)


def _close(*sockets: socket.socket) -> None:
    for end in sockets:
        end.close()


def _take_streams(descriptors: Sequence[int]) -> None:
    """Make these standard input, output and error; Python's own objects stand on the same numbers as before."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)


def become(request: dict[str, Any], own_path: Sequence[str]) -> None:
    """Be, in a fresh child, what `python -m module arguments` is before its first line."""
    import numpy
    import torch

    if request["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, _ON_CTRL_C)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    given = [path for path in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [os.getcwd(), *given, *own_path]
    sys.argv = ["-m", *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", request["module"], *request["arguments"]]
    multiprocessing_process.ORIGINAL_DIR = os.getcwd()  # what a spawned process of the child starts from
    multiprocessing_process.current_process().authkey = os.urandom(32)
    numpy.random.seed()  # Python's own generator sees to itself
    torch.default_generator.seed()


def _import_libraries() -> None:
    """Import what takes long, and make sure that nothing of it hinders a fork."""
    for name in LIBRARIES:
        importlib.import_module(name)
    threads = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()} - _KNOWS_FORKS
    assert len(threads) == 1, f"a library has started threads, whose locks would be copied: {threads}"
    assert not any(name.partition(".")[0] == "harness" for name in sys.modules)
    gc.collect()
    gc.freeze()  # else every child's first collection copies these pages


class _Ending:
    """How a child leaves: as any interpreter does, but without taking its memory down object by object.

    That would copy most of what it shares with the server: seconds, where all else takes less than one.
    """

    def __init__(self) -> None:
        self.code: int | None = None

    def run(self, module: str) -> None:
        """Run a module as the main one; what it raises is the interpreter's to print."""
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            self.code = 0
        except KeyboardInterrupt:
            self.code = -signal.SIGINT
            raise
        except SystemExit as leaving:
            printed = leaving.code is not None and not isinstance(leaving.code, int)
            self.code = 1 if printed else (leaving.code or 0) & 0xFF
            raise
        except BaseException:
            self.code = 1
            raise

    def __call__(self) -> None:
        """Leave, when everything else that is done at exit is done."""
        if self.code is None:  # the server itself
            return
        sys.stdout.flush()
        sys.stderr.flush()
        if self.code < 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        os._exit(self.code)


if __name__ == "__main__":
    del sys.path[0]  # this folder: names of tests are names of libraries
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the commands
    ending = _Ending()
    atexit.register(ending)  # before those of the libraries: what is registered first is called last
    outer = {path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path}
    path = [place for place in sys.path if place not in outer]
    _import_libraries()
    if (asked := serve(socket.socket(fileno=int(sys.argv[1])))) is not None:
        become(asked, path)
        ending.run(asked["module"])
