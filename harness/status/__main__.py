"""The command line of the status."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from harness.entry import call
from harness.errors import ConfigError, TrackingError
from harness.status.options import USAGE, Options, parse
from harness.terminal import is_terminal


def main(arguments: Sequence[str]) -> int:
    """Show how things stand, once or again and again; return the exit code, see the usage."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    options = parse(arguments)
    look = _looker(options)
    if options.watch is None:
        return look()[0]
    code, over = 0, False
    with suppress(KeyboardInterrupt):
        while not over:
            _begin(options)
            try:
                code, over = look()
            except TrackingError as error:  # a server that is started again, for example
                print(error, file=sys.stderr)
            if not over:
                time.sleep(options.watch)
    return code


def _begin(options: Options) -> None:
    """Begin another look: on a terminal in the place of the last one, else below it."""
    if not options.json:
        print("\x1b[2J\x1b[H" if is_terminal(sys.stdout) else "", end="")
        print(time.strftime("%H:%M:%S"), flush=True)


def _looker(options: Options) -> Callable[[], tuple[int, bool]]:
    """Return what looks once: it prints, and returns the exit code and whether nothing more will happen."""
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

    def look() -> tuple[int, bool]:
        runs = read(uri)
        standing = whole_store(runs) if grid is None else grid.standing(runs)
        if options.json:
            print(as_json(standing, masked(uri)))
        else:
            show(standing, masked(uri), console())
        return 2 if standing.wrong else 0, standing.over

    return look


def _store(options: Options) -> str:
    """Return the URI of the store; that of the default configuration is known without composing it."""
    given = dict(o.lstrip("+").partition("=")[::2] for o in options.tracking)
    strange = given.keys() - {"tracking.uri", "tracking.directory"}
    if strange or options.config_dir or any("${" in value for value in given.values()):
        from harness.schema import compose

        return str(compose([*options.searchpath, *options.tracking]).tracking.uri)
    return given.get("tracking.uri") or f"sqlite:///{given.get('tracking.directory', 'runs')}/mlflow.db"


if __name__ == "__main__":
    sys.exit(call(main, "harness.status"))
