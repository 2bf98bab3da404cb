"""Be a command of the harness, and write down what it does that data could have made it do.

    python -m audited_child LOG MODULE ARGUMENTS…

Each line of LOG is an event of Python's own audit: a socket bound or connected, a process started, a name that a pickle
looks up. The first is BEGUN with the module, through the same hook: a log without it has seen nothing.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from typing import Any

BEGUN = "audited_child.begun"
WATCHED = (BEGUN, "socket.bind", "socket.connect", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class")


def watch(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED:
            os.write(log, f"{json.dumps([event, *map(str, arguments)])}\n".encode())

    sys.addaudithook(note)


if __name__ == "__main__":
    watch(sys.argv[1])
    sys.argv = sys.argv[2:]
    sys.audit(BEGUN, sys.argv[0])
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
