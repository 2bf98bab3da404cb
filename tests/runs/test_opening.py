"""A store that is made by a process which is killed, or has no room: whole, or not there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.runs.tracking import Store

MAKE_STORE = """
import sys
from pathlib import Path
from harness.runs.tracking import Store
print("go", flush=True)
Store(f"sqlite:///{sys.argv[1]}/mlflow.db", Path(sys.argv[1]))
"""


def test_killed_while_it_makes_a_store_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    """MLflow's first migration takes a second; killed in its middle, it leaves a database that never opens again."""
    moments = random.Random(5)
    for attempt in range(4):
        folder = tmp_path / str(attempt)
        process = subprocess.Popen([sys.executable, "-c", MAKE_STORE, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0.1, 1.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = Store(f"sqlite:///{folder}/mlflow.db", folder)
        assert store.finished("nothing") is None
        assert not list(folder.glob(".creating-*"))


NO_ROOM = """
import resource, sys
from pathlib import Path
from harness.errors import TrackingError
from harness.runs.tracking import Store
folder = Path(sys.argv[1])
for room in (64 * 1024, 100 * 1024, 64 * 1024, resource.RLIM_INFINITY):  # that a file may have
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    try:
        Store(f"sqlite:///{folder}/mlflow.db", folder)
        print("made")
    except TrackingError as error:
        print(error)
    assert not list(folder.glob(".creating-*"))
"""


def test_a_store_that_could_not_be_made_is_made_when_there_is_room(tmp_path: Path) -> None:
    """Every attempt of one process starts anew: MLflow would go on with a connection to what failed before."""
    done = subprocess.run([sys.executable, "-c", NO_ROOM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *failures, last = done.stdout.splitlines()
    assert last == "made" and len(failures) == 3, done.stdout
    assert not any("already exists" in failure for failure in failures), failures
