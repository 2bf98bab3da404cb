"""How tests start the real command line: as it is typed, or forked from a process that has imported the libraries.

Importing torch, lightning, anomalib and MLflow takes a command longer than its work in most tests. So each test process
has one server (fork_server.py) that has imported them, and nothing of the harness, and that forks a child for every
command. The child runs `runpy.run_module(module, run_name="__main__", alter_sys=True)`, which is what `python -m` does,
with the working directory, environment, arguments, standard streams and session that were asked for. It ends as any
interpreter does: exit codes, tracebacks, `atexit` and death by signals are real, and so are the command's files, locks,
stores, and worker processes (spawned from a fresh interpreter). test_commands.py compares the two.

What a forked command does not show: how long imports take and which libraries a command imports, what libraries print
or warn of while they are imported, another interpreter's hash seed. For these, and where a variable that libraries
read at import is set, a command is `fresh`: `python -m` in a new process. Some tests of every command are fresh, so
that what users type is what is tested; `TEST_COMMANDS=fresh` makes them all so.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]

_READ_AT_IMPORT = ("PYTHON", "OMP_", "OPENBLAS_", "MKL_", "TORCH", "HF_", "MPL", "TQDM_", "LC_", "LANG", "LD_", "CUDA_")
_SERVER_SECONDS = 180.0  # that the libraries may take to import on a busy machine


def command(arguments: Sequence[str], module: str = "harness") -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "MLFLOW_DISABLE_TELEMETRY": "true"} | more


def run_command(
    arguments: Sequence[str],
    module: str = "harness",
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    fresh: bool = False,
    timeout: float = 600,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments` to its end, as `subprocess.run` with both streams captured."""
    process = start_command(arguments, module, cwd=cwd, env=env, fresh=fresh)
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return subprocess.CompletedProcess(command(arguments, module), process.returncode, output, errors)


def start_command(
    arguments: Sequence[str],
    module: str = "harness",
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    fresh: bool = False,
    merged: bool = False,
    start_new_session: bool = False,
) -> Process:
    """Start `python -m module arguments`, its streams captured.

    Args:
        env: the whole environment; `environment()` without it.
        fresh: in a new interpreter, whatever that costs.
        merged: standard error goes where standard output goes.
        start_new_session: as a process group of its own, as a shell does.
    """
    env = environment() if env is None else dict(env)
    if not fresh and _can_fork(env):
        return Forked(arguments, module, cwd, env, merged, start_new_session)
    return subprocess.Popen(
        command(arguments, module), cwd=cwd, env=env, start_new_session=start_new_session, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT if merged else subprocess.PIPE,
    )  # fmt: skip


def _can_fork(env: Mapping[str, str]) -> bool:
    """Tell whether a forked child would see what a fresh process does."""
    usual = environment()
    read = {name for name in {*usual, *env} if name.startswith(_READ_AT_IMPORT) and name != "PYTHONPATH"}
    possible = hasattr(os, "pidfd_open") and os.environ.get("TEST_COMMANDS") != "fresh"
    return possible and all(usual.get(name) == env.get(name) for name in read)


class Forked:
    """A command in a forked child; what the tests use of `subprocess.Popen`, with the same meaning."""

    def __init__(
        self, arguments: Sequence[str], module: str, cwd: Path, env: Mapping[str, str], merged: bool, session: bool
    ) -> None:
        self.args = command(arguments, module)
        self.returncode: int | None = None
        self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output, errors = os.pipe(), os.pipe()
        request = {
            "module": module, "arguments": list(arguments), "cwd": str(cwd), "environment": dict(env),
            "session": session,
        }  # fmt: skip
        with open(os.devnull) as nothing, theirs:
            streams = [nothing.fileno(), output[1], output[1] if merged else errors[1]]
            _server().send(json.dumps(request).encode(), [*streams, theirs.fileno()])
        self._output, self._errors = _Stream(*output), _Stream(*errors)
        self.pid = self._next(_SERVER_SECONDS)

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                self.returncode = self._next(timeout)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._answers.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        try:
            return self._output.text(timeout), self._errors.text(timeout)
        except TimeoutError:
            raise subprocess.TimeoutExpired(self.args, timeout or 0) from None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _next(self, timeout: float | None) -> int:
        """Return the server's next word of this child: first its process id, then its exit code."""
        self._answers.settimeout(timeout)
        answer = self._answers.recv(32)
        if not answer:
            raise RuntimeError(f"The fork server of the tests has died:\n{_server().errors()}")
        return int(answer)


Process = subprocess.Popen[str] | Forked


class _Stream:
    """Everything that comes out of a pipe, read as it comes so that nobody who writes has to wait."""

    def __init__(self, reading: int, writing: int) -> None:
        os.close(writing)
        self._text = ""
        self._thread = threading.Thread(target=self._read, args=[reading], daemon=True)
        self._thread.start()

    def _read(self, reading: int) -> None:
        with open(reading, encoding="utf-8", errors="replace") as pipe:
            self._text = pipe.read()

    def text(self, timeout: float | None) -> str:
        """Wait until all who could write have ended, as `subprocess` does, and return what they wrote."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError
        return self._text


class _Server:
    """The process that forks, seen from the tests."""

    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  as long as the server
        script = Path(__file__).with_name("fork_server.py")
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, str(script), str(theirs.fileno())],
                env=environment(OMP_WAIT_POLICY="PASSIVE", TQDM_DISABLE="1"),  # as harness.__main__ sets them first
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            )  # fmt: skip
        atexit.register(self._stop)

    def send(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Ask for a child with these streams, and a socket to tell its process id and exit code to."""
        socket.send_fds(self._requests, [request], descriptors)

    def errors(self) -> str:
        """Return the last that the server wrote."""
        self._log.seek(0)
        return self._log.read()[-3000:]

    def _stop(self) -> None:
        self._requests.close()
        self._process.wait()


_SERVERS: list[_Server] = []
_START = threading.Lock()


def _server() -> _Server:
    """Return the one server of this test process, started when first asked for."""
    with _START:
        if not _SERVERS:
            _SERVERS.append(_Server())
        return _SERVERS[0]
