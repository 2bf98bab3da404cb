"""Runs the code blocks of a page in a folder, as a reader would, with stand-ins for what is not here."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from blocks import NEVER_RUN, SHELLS, Block, blocks, tokens

SECONDS = 1500  # that a command may take
SMALLEST = ("quick=true", "weights=random", "backbone.weights=random")
HARNESS = re.compile(r"^(?:\w+=\S+ )*python -m harness(?:\.(?:audit|doctor|report))?(?= |$)")


def run_page(page: str, folder: Path) -> Iterator[tuple[Block, subprocess.CompletedProcess[str] | None]]:
    """Write the files of a page and run its blocks in order; yield each block, with what came of it if it was run.

    Args:
        page: its text.
        folder: to run in, with `photos`, `AutoVI` or `weights.safetensors` in it where the page needs them.

    Raises:
        AssertionError: when a command fails, with what it said.
    """
    for block in blocks(page):
        if block.title is not None:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        no_tex = "pdflatex" in block.words and not shutil.which("pdflatex")
        if not block.runs or block.words & NEVER_RUN or no_tex:
            yield block, None
        elif "serve" in block.words:
            for command in block.commands():
                serve(command, folder)
            yield block, None
        else:
            yield block, run_block(block, folder)


def run_block(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a block of shell commands, or a Python program; return its process, with the output of all commands."""
    if block.language not in SHELLS:
        return checked([sys.executable, "-c", block.text], folder)
    done = [checked(["bash", "-c", with_stand_ins(command, block)], folder) for command in block.commands()]
    return subprocess.CompletedProcess("", 0, "".join(one.stdout for one in done), "".join(one.stderr for one in done))


def with_stand_ins(command: str, block: Block) -> str:
    """Return a command as it is run: what its block says is not here is replaced."""
    more: list[str] = []
    if HARNESS.match(command) and not {"--help", "--cfg"} & set(tokens(command)):
        own = {token.partition("=")[0] for token in tokens(command)}
        if "hub" in block.words:
            more += ["backbone.weights=weights.safetensors"]
        if "data" in block.words:
            more += SMALLEST
        if "long" in block.words:
            more += ["quick=true"]
        if "harness.report" in command and "experiment" not in own:
            more = []  # a report of everything takes no settings
    return " ".join([command, *more])


def serve(command: str, folder: Path, port: int | None = None) -> None:
    """Start a server, wait until it answers on its port, and stop it.

    Raises:
        AssertionError: when it ends or does not answer in time.
    """
    port = port or _port_of(command)
    free = _free_port()
    given = re.sub(rf"(--port[ =]){port}\b", rf"\g<1>{free}", command)
    given = given if given != command else f"{command} --port {free}"
    process = subprocess.Popen(
        ["bash", "-c", f"exec {given}"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not _answers(free):
            assert process.poll() is None, f"{given} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{given} does not answer"
            time.sleep(0.5)
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def environment() -> dict[str, str]:
    """Return the environment of the commands: `python` is this one, tables have one width, one thread."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    fixed = {"OMP_NUM_THREADS": "1", "COLUMNS": "100", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return os.environ | fixed | {"PATH": path}


def checked(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder.

    Raises:
        AssertionError: when its exit code is not 0, with what it said.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command[-1]}\nexit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def _port_of(command: str) -> int:
    found = re.search(r"--port[ =](\d+)", command)
    return int(found[1]) if found else 5000


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
