"""A forked command is what `python -m` would be: the same program says and leaves the same in both."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Forked, environment, run_command, start_command

# Each is a module's text; what it prints and how it ends must not depend on how it was started.
PROGRAMS = {
    "place": "import os, sys; print(os.getcwd(), sys.path[0], sys.argv, sys.orig_argv, __name__, __spec__.name)",
    "interpreter": "import sys; print(sys.flags, sys.executable, sys.stdout.encoding, sys.stderr.errors, sys.prefix)",
    "environment": "import os; print(sorted(os.environ.items())); os.system('env | sort')",
    "streams": "import sys; print(sys.stdin.read() == '', [s.isatty() for s in (sys.stdin, sys.stdout, sys.stderr)])",
    "signals": "import signal; print([signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)])",
    "group": "import os; print(os.getpgrp() == os.getpid())",
    "threads": "import threading, multiprocessing as m; print(threading.enumerate()[1:], m.active_children())",
    "parent": "import multiprocessing as m; print(m.parent_process(), m.current_process().name)",
    "logging": "import logging; print(logging.root.level, logging.root.handlers); logging.warning('told')",
    "harness": "import sys; print([name for name in sys.modules if name.startswith('harness')])",
    "warning": "import warnings; warnings.warn('once'); warnings.warn('more')",
    "torch": "import torch; print(torch.get_num_threads(), torch.is_grad_enabled(), torch.get_default_dtype())",
    "carriage": "print('a\\rb\\r\\nc')",
    "exit": "import sys; sys.exit(3)",
    "exit none": "import sys; sys.exit()",
    "exit large": "import sys; sys.exit(259)",
    "exit text": "import sys; sys.exit('no such thing')",
    "at exit": "import atexit, sys; atexit.register(print, 'last'); print('first', end=''); sys.exit(2)",
    "error": "print('before'); raise ValueError('told')",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os, signal; print('lost', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "late thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    "_exit": "import os; os._exit(4)",
}
SPAWNS = """
import multiprocessing, os, sys

def tell(queue):
    queue.put((__name__, sys.argv[1:], os.getcwd(), 'torch' in sys.modules, os.environ.get('GIVEN')))

if __name__ == '__main__':
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    process = context.Process(target=tell, args=[queue])
    process.start()
    print(queue.get(), process.join(), process.exitcode)
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], None]:
    """Make the text of the module `program`."""
    return lambda text: (tmp_path / "program.py").write_text(text) and None


def summary(errors: str) -> list[str]:
    """Return what was written but for the frames of tracebacks, which name how it was started."""
    return [line for line in errors.splitlines() if not line.startswith("  ")]


def both(tmp_path: Path, *arguments: str, **more: str) -> list[tuple[str, list[str], int]]:
    """Run the module in both ways and return what each wrote and its exit code."""
    done = [
        run_command(arguments, "program", cwd=tmp_path, env=environment(**more), fresh=fresh, timeout=120)
        for fresh in (False, True)
    ]
    return [(one.stdout, summary(one.stderr), one.returncode) for one in done]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_says_and_leaves_the_same(name: str, write: Callable[[str], None], tmp_path: Path) -> None:
    write(PROGRAMS[name])
    forked, fresh = both(tmp_path, "seed=1", "--flag")
    assert forked == fresh


def test_its_worker_processes_are_fresh_ones(write: Callable[[str], None], tmp_path: Path) -> None:
    write(SPAWNS)
    forked, fresh = both(tmp_path, "seed=1", GIVEN="too")
    assert forked == fresh
    assert forked[0] == f"{('__mp_main__', ['seed=1'], str(tmp_path), False, 'too')} None 0\n"


def test_modules_are_found_where_pythonpath_says(write: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own_part.py").write_text("text = 'found'")
    write("import own_part, sys; print(own_part.text, sys.path)")
    forked, fresh = both(tmp_path, PYTHONPATH=str(tmp_path / "mine"))
    assert forked == fresh and "found" in forked[0]


def test_two_commands_share_no_random_numbers(write: Callable[[str], None], tmp_path: Path) -> None:
    write(
        "import random, uuid, numpy, torch; "
        "print(random.random(), numpy.random.rand(), uuid.uuid4(), torch.rand(1).item(), torch.initial_seed())"
    )
    first, second = (run_command([], "program", cwd=tmp_path).stdout.split() for _ in range(2))
    assert len(first) == 5 and not set(first) & set(second)


@pytest.mark.parametrize("fresh", [False, True])
def test_a_command_can_be_watched_and_stopped(fresh: bool, write: Callable[[str], None], tmp_path: Path) -> None:
    write("import time\ntry:\n    print('at work', flush=True)\n    time.sleep(60)\nfinally:\n    print('tidied')")
    process = start_command([], "program", cwd=tmp_path, fresh=fresh, start_new_session=True, merged=True)
    assert isinstance(process, Forked) != fresh
    assert os.getpgid(process.pid) in (process.pid, os.getpgrp())  # until it has made its session
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == process.poll() == -signal.SIGINT
    assert output.startswith("at work\ntidied\nTraceback") and output.endswith("KeyboardInterrupt\n")


def test_a_command_that_is_killed_says_by_what(write: Callable[[str], None], tmp_path: Path) -> None:
    write("import time; time.sleep(60)")
    process = start_command([], "program", cwd=tmp_path)
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL
    process.kill()  # of no consequence
    assert not Path(f"/proc/{process.pid}").exists()


def test_several_commands_run_at_once(write: Callable[[str], None], tmp_path: Path) -> None:
    write("import sys, time; time.sleep(1); print('x' * 300_000); sys.exit(int(sys.argv[1]))")
    began = time.monotonic()
    processes = [start_command([str(code)], "program", cwd=tmp_path) for code in range(8)]
    for code, process in enumerate(processes):
        assert process.communicate(timeout=60) == ("x" * 300_000 + "\n", "")
        assert process.returncode == code
    assert time.monotonic() - began < 8


def test_what_libraries_read_when_they_are_imported_makes_a_command_fresh(tmp_path: Path) -> None:
    changed = environment(OMP_NUM_THREADS="3")
    assert isinstance(start_command(["-h"], "harness.report", cwd=tmp_path, env=changed), subprocess.Popen)
