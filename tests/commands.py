"""How tests start the real command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

Run = Callable[..., subprocess.CompletedProcess[str]]


def command(arguments: Sequence[str], module: str = "harness") -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "MLFLOW_DISABLE_TELEMETRY": "true"}
