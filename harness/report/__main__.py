"""`python -m harness.report`: render the report of an experiment."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from harness.entry import call
from harness.errors import HarnessError
from harness.report.options import USAGE, parse
from harness.uri import shown_command


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code: 0 rendered, 1 nothing to render, 2 holes in the grid."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if arguments and arguments[0] == "explain":
        return _explain(arguments[1:])
    try:
        options = parse(arguments)
        from harness.report.build import build

        built = build(options, shown_command("harness.report", arguments))
    except HarnessError as error:
        print(f"harness.report: {error}", file=sys.stderr)
        return 1
    for warning in built.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    for hole in built.holes:
        print(f"no finished run: {hole}", file=sys.stderr)
    if built.folder is None:
        print("strict=true: not rendered, for the grid has holes.", file=sys.stderr)
    else:
        print(built.folder / "index.html")
    return 2 if built.holes else 0


def _explain(arguments: Sequence[str]) -> int:
    try:
        from harness.report.explain import explain, question_of

        question, others = question_of(arguments)
        from harness.report.build import study_of

        print(explain(study_of(parse(others)), question), end="")
    except HarnessError as error:
        print(f"harness.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(call(main, "harness.report"))
