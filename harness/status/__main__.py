"""The command line of the status."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from harness.entry import call
from harness.errors import ConfigError, TrackingError
from harness.status.options import USAGE, Options, parse
from harness.terminal import is_terminal

if TYPE_CHECKING:
    from harness.status.state import Standing

SETTLE_SECONDS = 120.0
_NOT_PLAIN = re.compile(r"""["'\\]|\$\{""")  # quoted, escaped or looked up: what Hydra's grammar makes another value


def main(arguments: Sequence[str]) -> int:
    """Show how things stand, once or again and again; return the exit code, see the usage."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    options = parse(arguments)
    look = _looker(options)
    if options.watch is None:
        return _code(look())
    standing, changed = None, time.monotonic()
    with suppress(KeyboardInterrupt):
        while True:
            _begin(options)
            try:
                before, standing = standing, look()
                if before is None or before.counts != standing.counts:
                    changed = time.monotonic()
                if _is_over(standing, time.monotonic() - changed):
                    break
            except TrackingError as error:  # a server that is started again, for example
                print(error, file=sys.stderr)
            time.sleep(options.watch)
    return 0 if standing is None else _code(standing)


def _code(standing: Standing) -> int:
    return 2 if standing.wrong else 0


def _is_over(standing: Standing, unchanged: float) -> bool:
    """Tell whether nothing more will happen, from how things stand and since how many seconds they have stood so.

    What has died or failed may be run again: by a sweep that has just been started and takes a while to begin.
    """
    return standing.over and (unchanged >= SETTLE_SECONDS or not standing.retried)


def _begin(options: Options) -> None:
    """Begin another look: on a terminal in the place of the last one, else below it."""
    if not options.json:
        print("\x1b[2J\x1b[H" if is_terminal(sys.stdout) else "", end="")
        print(time.strftime("%H:%M:%S"), flush=True)


def _looker(options: Options) -> Callable[[], Standing]:
    """Return what looks once: it prints how things stand, and returns it."""
    from harness.runs.overview import exists, read
    from harness.status.page import as_json, show
    from harness.status.state import whole_store
    from harness.terminal import console
    from harness.uri import masked

    uri = _store(options)
    fixed = [*options.searchpath, *options.tracking]
    grid = None
    if options.overrides:
        from harness.status.grid import Grid

        grid = Grid(options.overrides, fixed)
    if grid is None and not exists(uri):
        raise ConfigError(
            f"There is no store at {masked(uri)}: nothing has run yet, or tracking.directory=… is to name another."
        )

    def look() -> Standing:
        runs = read(uri)
        standing = whole_store(runs) if grid is None else grid.standing(runs)
        if options.json:
            print(as_json(standing, masked(uri)))
        else:
            show(standing, masked(uri), console())
        return standing

    return look


def _store(options: Options) -> str:
    """Return the URI of the store; for plain values known without composing a configuration."""
    given = dict(o.lstrip("+").partition("=")[::2] for o in options.tracking)
    strange = given.keys() - {"tracking.uri", "tracking.directory"}
    if strange or options.config_dir or any(_NOT_PLAIN.search(value) for value in given.values()):
        from harness.schema import compose

        return str(compose([*options.searchpath, *options.tracking]).tracking.uri)
    return given.get("tracking.uri") or f"sqlite:///{given.get('tracking.directory', 'runs')}/mlflow.db"


if __name__ == "__main__":
    sys.exit(call(main, "harness.status"))
