"""What a user gets to read of an error: one sentence, and the traceback where one is wanted."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from pathlib import Path

from harness.errors import HarnessError
from harness.uri import scrubbed

DEBUG = "HARNESS_DEBUG"  # in the environment, so that worker processes know of it too


def told(error: BaseException) -> str:
    """Return the sentence on an error, once what is known of its place has been printed for those who debug."""
    if debugging():
        print(scrubbed("".join(traceback.format_exception(error))), file=sys.stderr)
    return sentence(error)


def debugging() -> bool:
    """Whether the user wants tracebacks."""
    return os.environ.get(DEBUG) == "1"


def sentence(error: BaseException) -> str:
    """Return what a user gets to read of an error: ours as it is, the system's with a remedy, the rest with its place.

    Users and passwords in addresses are masked.
    """
    return scrubbed(_sentence(error))


def _sentence(error: BaseException) -> str:
    from hydra.errors import HydraException  # a third of a second: not for --help
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from harness.hydra_errors import explain
    from harness.schema import one_line

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
    return f"{type(error).__name__}: {one_line(error)[:500]} ({place}; --debug shows more)"


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
