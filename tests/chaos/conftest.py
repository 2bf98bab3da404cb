"""Fixtures of the fault tests, and the report that they write."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from chaos_report import write
from chaos_store import Row
from chaos_tools import Ledger, Place, closing

SECONDS = 600  # that a test may take; each waits for everything with limits of its own
REPORTS = Path(__file__).parents[2] / "reports" / "chaos"
_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS

_entries: dict[str, dict[str, Any]] = {}


@pytest.fixture(autouse=True)
def limited() -> Iterator[None]:
    """End a test that hangs."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not over after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """What the test finds, under the first line of its docstring."""
    fault = (request.function.__doc__ or request.node.name).strip().splitlines()[0].rstrip(".")
    if hasattr(request.node, "callspec"):
        fault += f" [{request.node.callspec.id}]"
    kept = Ledger(fault)
    _entries[request.node.nodeid] = kept.entry
    kept.entry["fault"] = fault
    return kept


@pytest.fixture
def place(tmp_path: Path, toy_root: Path) -> Place:
    return Place(tmp_path, toy_root)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, toy_root: Path) -> dict[str, Row]:
    """The grid as nobody disturbed it."""
    place = Place(tmp_path_factory.mktemp("undisturbed"), toy_root)
    with closing(place.start()) as command:
        code, output, errors = command.end(300)
    assert code == 0, output + errors
    return place.finished()


@pytest.fixture(scope="session", autouse=True)
def own_mounts() -> bool:
    """Let what this process mounts be seen by itself and its children alone, and vanish with them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() or libc.unshare(_NEW_MOUNTS):
        return False
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    return True


@pytest.fixture
def mount(own_mounts: bool) -> Iterator[Callable[..., None]]:
    """Mount a file system of so many bytes in memory, or change one: `mount(folder, size=…, options="ro")`."""
    if not own_mounts:
        pytest.skip("file systems may be mounted by root alone")
    mounted: list[Path] = []

    def call(folder: Path, size: int, options: str = "rw") -> None:
        again = ["-o", "remount"] if folder in mounted else []
        subprocess.run(["mount", "-t", "tmpfs", *again, "-o", f"size={size},{options}", "chaos", folder], check=True)
        if not again:
            mounted.append(folder)

    yield call
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call" or report.skipped:
        entry = _entries.setdefault(item.nodeid, {"fault": item.name})
        entry |= {"outcome": report.outcome, "seconds": round(report.duration, 1)}
        if report.skipped:
            entry["why"] = str(call.excinfo.value) if call.excinfo else ""


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report when it is asked for: `HARNESS_CHAOS_REPORT=1`."""
    done = [entry for entry in _entries.values() if "outcome" in entry]  # not what an interrupt ended
    if not os.environ.get("HARNESS_CHAOS_REPORT") or not done:
        return
    libraries = {name: metadata.version(name) for name in ("torch", "anomalib", "mlflow", "hydra-core")}
    write(
        REPORTS,
        {
            "date": time.strftime("%Y-%m-%d"),
            "machine": {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()},
            "libraries": libraries,
            "tests": [json.loads(json.dumps(entry)) for entry in done],
        },
    )
