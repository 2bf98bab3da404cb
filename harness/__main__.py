"""`python -m harness`: one run, or with -m a grid of runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# Before torch is imported: idle OpenMP threads must not spin on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")  # the harness has one line of its own a run

from harness.entry import call
from harness.usage import usage


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit code: 0 when everything asked for is finished, 1 when not."""
    if {"-h", "--help"} & set(arguments):
        print(usage(arguments))
        return 0
    from harness.command import run  # Hydra takes half a second to import

    return run(arguments)


if __name__ == "__main__":
    sys.exit(call(main, "harness"))
