"""One run of a grid goes wrong: for want of memory, of a finite loss or score, under a clock that is set back."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from chaos_store import Row
from chaos_tools import HERE, Ledger, Place, closing, counts, wait_for

pytestmark = pytest.mark.chaos

OWN = f"--config-dir={HERE}/own"
GIB = 2**30
HOUR = 3600_000  # ms
_GROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def memory_group() -> Iterator[str]:
    """A control group of this machine that may use 2 GiB."""
    old = _GROUPS / "memory"
    group = (old if old.is_dir() else _GROUPS) / f"chaos-{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(2 * GIB))
    except OSError as error:
        pytest.skip(f"no control groups to be made here ({error.strerror})")
    with suppress(OSError):  # where there is no swap to be limited
        (group / ("memory.memsw.limit_in_bytes" if old.is_dir() else "memory.swap.max")).write_text(
            str(2 * GIB if old.is_dir() else 0)
        )
    yield str(group)
    wait_for(lambda: not (group / "cgroup.procs").read_text())
    group.rmdir()


def failed_row(place: Place, name: str) -> Row:
    """Return the last MLflow run of a name."""
    return [row for row in place.rows() if row.name == name][-1]


def test_killed_for_want_of_memory(place: Place, memory_group: str, ledger: Ledger) -> None:
    """A run takes all memory and the kernel kills its process: the others go on"""
    grid = [OWN, "method=padim,hungry", "seed=0"]
    with closing(place.start(*grid, groups=[memory_group])) as command:
        code, output, errors = command.end()
    assert code == 1, output + errors
    assert counts(output) == {"runs": 4, "computed now": 2, "failed": 2}
    told = [line for line in errors.splitlines() if "hungry" in line]
    assert len(told) == 2, errors
    assert all("memory" in line and "method.batch_size" in line and "launcher.jobs" in line for line in told)
    assert "SIGKILL" in told[0]
    ledger.checked({}, place)
    ledger.set(said=told[0].partition("failed: ")[2], before=len(place.finished()), kills=4)
    ledger.completes(place, lambda: place.start("method=padim", "seed=0"), 2)


def test_refused_memory(place: Place, ledger: Ledger) -> None:
    """A run asks for more memory than it may have: it says so, the others go on"""
    grid = [OWN, "method=padim,hungry", "seed=0", "category=bolted_plate"]
    with closing(place.start(*grid, limits={"RLIMIT_AS": f"+{4 * GIB}"})) as command:
        code, output, errors = command.end()
    assert code == 1, output + errors
    assert counts(output) == {"runs": 2, "computed now": 1, "failed": 1}
    row = failed_row(place, "hungry/bolted_plate/0")
    assert row.status == "FAILED"
    reason = row.tags["harness.failure"]
    assert "Out of memory" in reason, reason
    assert "method.batch_size" in reason
    assert reason in errors
    ledger.checked({}, place)
    ledger.set(said=reason, before=len(place.finished()))
    ledger.completes(place, lambda: place.start("method=padim", "seed=0", "category=bolted_plate"), 1)


def test_a_loss_that_is_not_finite(place: Place, ledger: Ledger) -> None:
    """A loss that is not a number: the run fails with the reason, the others go on"""
    grid = ["method=radl", "method.learning_rate=2.0e-4,1e30", "seed=0"]
    with closing(place.start(*grid)) as command:
        code, output, errors = command.end()
    assert code == 1, output + errors
    assert counts(output) == {"runs": 4, "computed now": 2, "failed": 2}
    failed = [row for row in place.rows() if row.status == "FAILED"]
    assert len(failed) == 2
    for row in failed:
        assert "diverged" in row.tags["harness.failure"]
        assert "learning rate" in row.tags["harness.failure"]
        assert row.tags["harness.failure"] in errors
    ledger.checked({}, place)
    ledger.set(said=failed[0].tags["harness.failure"], before=len(place.finished()))
    ledger.completes(place, lambda: place.start("method=radl", "method.learning_rate=2.0e-4", "seed=0"), 2)


def test_scores_that_are_not_finite(place: Place, ledger: Ledger) -> None:
    """Scores that are not numbers: the run fails with the reason, the others go on"""
    with closing(place.start(OWN, "method=padim,undecided", "seed=0", "category=bolted_plate")) as command:
        code, output, errors = command.end()
    assert code == 1, output + errors
    row = failed_row(place, "undecided/bolted_plate/0")
    assert row.status == "FAILED"
    assert "image scores are not finite" in row.tags["harness.failure"]
    assert row.tags["harness.failure"] in errors
    ledger.checked({}, place)
    ledger.set(said=row.tags["harness.failure"], before=len(place.finished()))
    ledger.completes(place, lambda: place.start("method=padim", "seed=0", "category=bolted_plate"), 1)


CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long offset(void) {  /* seconds, in a file that the test changes */
    long seconds = 0;
    FILE *file = fopen(getenv("CHAOS_CLOCK"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (!result && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += offset();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (!result) now->tv_sec += offset();
    return result;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"""


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A library that puts the wall clock wrong by the seconds in a file, and the file."""
    if not (compiler := shutil.which("cc")):
        pytest.skip("no C compiler (cc) to make a wrong clock with")
    folder = tmp_path_factory.mktemp("clock")
    source, library, offset = folder / "clock.c", folder / "clock.so", folder / "offset"
    source.write_text(textwrap.dedent(CLOCK))
    offset.write_text("0")
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    return library, offset


def test_a_clock_that_is_set_back(
    place: Place, clock: tuple[Path, Path], ledger: Ledger, reference: dict[str, Row]
) -> None:
    """The clock is set back by three hours in the middle of runs, as by ntpd or a virtual machine that wakes up"""
    library, offset = clock
    grid = ["method=radl,padim", "seed=0"]
    place.environment |= {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(offset)}
    with closing(place.start(*grid, fresh=True)) as command:
        wait_for(lambda: any(row.history for row in place.rows()) or command.poll() is not None, 180, every=0.005)
        at_work = sum(row.status == "RUNNING" for row in place.rows())
        offset.write_text("-10800")
        code, output, errors = command.end(300)
    assert code == 0, output + errors
    assert at_work, "no run was at work when the clock was set back"
    place.environment.clear()
    rows = place.rows()
    ledger.checked({}, place, reference)
    assert min(row.start for row in rows) < max(row.start for row in rows) - HOUR, "no run began after it was set back"
    ledger.set(moments=1, before=len(place.finished()))
    with closing(place.start(*grid, "seed=0,1", "dry=true")) as command:  # what is left costs, by what was measured
        code, output, errors = command.end()
    assert code == 0, output + errors
    assert not re.search(r"-\d", output), output
    ledger.completes(place, lambda: place.start(*grid), 4, reference)
