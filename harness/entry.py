"""What the commands of the harness share: `--debug`, interrupts, and one sentence for whatever goes wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from harness import interruption
from harness.sentences import DEBUG, told
from harness.terminal import prepare_streams

HYDRA_DEBUG = "HYDRA_FULL_ERROR"


def call(main: Callable[[list[str]], int], name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; an error is a sentence, with `--debug` a traceback.

    Args:
        main: the command, which takes its arguments and returns its exit code.
        name: of the module, such as `harness.report`.
        arguments: of the command line (default: this process's).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in given or os.environ.get(HYDRA_DEBUG) == "1":
        os.environ[DEBUG] = "1"
    prepare_streams()
    interruption.outlive_readers()
    interruption.catch_stops()
    try:
        return main([argument for argument in given if argument != "--debug"])
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return interruption.exit_code()
    except Exception as error:
        print(f"{name}: {told(error)}", file=sys.stderr)
        return 1
