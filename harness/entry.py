"""What the commands of the harness share: `--debug`, and one sentence for whatever goes wrong."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from harness import interruption
from harness.errors import HarnessError
from harness.terminal import prepare_streams
from harness.uri import scrubbed

DEBUG = "HARNESS_DEBUG"  # in the environment, so that worker processes know of it too
_HYDRA_DEBUG = "HYDRA_FULL_ERROR"


def call(main: Callable[[list[str]], int], name: str, arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; an error is a sentence, with `--debug` a traceback.

    Args:
        main: the command, which takes its arguments and returns its exit code.
        name: of the module, such as `harness.report`.
        arguments: of the command line (default: this process's).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--debug" in given or os.environ.get(_HYDRA_DEBUG) == "1":
        os.environ[DEBUG] = "1"
    os.environ[_HYDRA_DEBUG] = "1"  # Hydra prints tracebacks of its own else, and leaves
    prepare_streams()
    interruption.outlive_readers()
    interruption.catch_stops()
    try:
        return main([argument for argument in given if argument != "--debug"])
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return interruption.exit_code()
    except Exception as error:
        print(f"{name}: {sentence(error)}", file=sys.stderr)
        return 1


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get(DEBUG) == "1"


def sentence(error: BaseException) -> str:
    """Return what a user gets to read of an error: ours as it is, the system's with a remedy, the rest with its place.

    With `--debug` the traceback is printed too.
    """
    from hydra.errors import HydraException  # a third of a second: not for --help
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from harness.hydra_errors import explain
    from harness.schema import one_line

    if debugging():
        print(scrubbed("".join(traceback.format_exception(error))), file=sys.stderr)
    if isinstance(error, HarnessError):
        return str(error)
    if isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
        return explain(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, MemoryError) or re.search("out of memory|can't allocate memory", str(error), re.IGNORECASE):
        return "Out of memory: lower method.batch_size, trainer.eval_batch_size or preprocess.size."
    if isinstance(error, OSError) and (text := _system_sentence(error)):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{type(error).__name__}: {scrubbed(one_line(error))[:500]} ({place}; --debug shows more)"


def _system_sentence(error: OSError) -> str | None:
    """Return what is to be done about what the operating system refuses, where that is known."""
    place = error.filename or "A file or folder"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full: free some space, then run the same command again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{place} may not be used ({error.strerror}): change its permissions or choose another."
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP):
        return f"{place} cannot be used ({error.strerror}): check the path."
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "Too many files are open: raise the limit (ulimit -n 4096), then run the same command again."
    return None
