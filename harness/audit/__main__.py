"""The command line of the audit."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Before torch is imported: idle OpenMP threads must not spin on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TQDM_DISABLE", "1")

from harness.audit.options import USAGE, Options, parse
from harness.entry import call


def main(arguments: Sequence[str]) -> int:
    """Audit the cells of a command line; return the exit code, see the usage."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    return _audit(parse(arguments))


def _audit(options: Options) -> int:
    from harness.audit.page import show, write_csv, write_json, write_markdown
    from harness.audit.runs import Audit, tell
    from harness.grid import expand
    from harness.schema import compose
    from harness.terminal import console

    cells = expand(options.overrides, lambda overrides: compose([*overrides, *options.searchpath]))
    with tempfile.TemporaryDirectory(prefix="harness-audit-", ignore_cleanup_errors=True) as folder:
        audited = Audit(cells, options.searchpath, Path(folder), tell).run()
    show(audited, console())
    if options.json is not None:
        write_json(audited, options.json)
    if options.csv is not None:
        write_csv(audited, options.csv)
    if options.markdown is not None:
        write_markdown(audited, options.markdown)
    return 1 if any(one.faults for one in audited) else 0


if __name__ == "__main__":
    sys.exit(call(main, "harness.audit"))
