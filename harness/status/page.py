"""The standing as a person reads it, and as a script does."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.status.state import LACKING, LEFT, REFUSED, STATES, AtWork, Standing
from harness.terminal import READABLE, counted, duration

_SHOWN = 8  # runs named of one reason
_COLUMNS = (*STATES, LEFT, REFUSED, LACKING)


def show(standing: Standing, store: str, console: Console) -> None:
    """Print how things stand.

    Args:
        standing: what is told.
        store: its URI, as it may be shown.
        console: where to.
    """
    console.print(_headline(standing, store), soft_wrap=True)
    if standing.rows:
        console.print(_counts(standing))
    if standing.at_work:
        console.print(_at_work(standing.at_work))
    if standing.reasons:
        console.print(_reasons(standing), width=min(console.width, READABLE))
    for sentence in _to_go(standing):
        console.print(sentence, soft_wrap=True)


def as_json(standing: Standing, store: str) -> str:
    """Return how things stand as one line of JSON; times are in seconds since the epoch, or in seconds."""
    counts = standing.counts
    tree = {
        "store": store,
        "time": round(time.time()),
        "runs": standing.total if standing.total is not None else counts.total(),
        "counts": {_key(state): counts[state] for state in _COLUMNS if counts[state] or state in ("finished", LEFT)},
        "rows": [
            {"name": list(row.name), **{_key(state): number for state, number in row.counts.items()}}
            for row in standing.rows.values()
        ],
        "at_work": [_as_tree(one) for one in standing.at_work],
        "reasons": [
            {"state": _key(state), "reason": reason, "runs": runs}
            for state, reasons in standing.reasons.items()
            for reason, runs in reasons.items()
        ],
        "seconds_to_go": standing.to_go,
        "without_estimate": standing.unknown,
    }
    return json.dumps(tree, ensure_ascii=True)


def _key(state: str) -> str:
    return state.replace(" ", "_")


def _as_tree(one: AtWork) -> dict[str, object]:
    loss = one.loss
    return {
        "run_id": one.run.run_id,
        "run_key": one.run.key,
        **{tag: one.run.tags.get(tag) for tag in ("method", "dataset", "category", "seed", "fold", "host")},
        "started": round(one.run.started),
        "epochs_done": one.run.epochs_done,
        "epochs": one.run.epochs,
        "loss": loss if loss is not None and math.isfinite(loss) else None,
        "seconds_to_go": one.to_go,
    }


def _headline(standing: Standing, store: str) -> str:
    counts = standing.counts
    told = ", ".join(f"{counts[state]} {state}" for state in _COLUMNS if counts[state])
    if standing.total is None:
        return f"{store}: {told or 'no run yet'}."
    return f"{counted(standing.total)} of the grid: {told or 'none'}."


def _counts(standing: Standing) -> Table:
    counts = standing.counts
    columns = [s for s in _COLUMNS if (counts[s] and s not in standing.refused) or s == "finished"]
    table = Table()
    titles = ("experiment",) if standing.total is None else ("method", "images")
    for title in titles:
        table.add_column(title, overflow="fold")
    for state in columns:
        table.add_column(state, justify="right")
    for row in standing.rows.values():
        table.add_row(*row.name, *(str(row.counts[state] or "–") for state in columns))
    return table


def _at_work(runs: Sequence[AtWork]) -> Table:
    table = Table()
    table.add_column("at work", overflow="fold")
    table.add_column("on")
    for title in ("for", "epoch", "loss", "to go"):
        table.add_column(title, justify="right")
    for one in runs:
        loss = "–" if one.loss is None else f"{one.loss:.4g}"
        to_go = "?" if one.to_go is None else duration(one.to_go)
        epoch = f"{one.run.epochs_done}/{one.run.epochs}"
        table.add_row(one.run.name, one.run.tags.get("host", "?"), duration(one.seconds), epoch, loss, to_go)
    return table


def _reasons(standing: Standing) -> Table:
    table = Table(show_lines=True)
    table.add_column("")
    table.add_column("runs", overflow="fold")
    table.add_column("why", overflow="fold", ratio=1)
    for state, reasons in standing.reasons.items():
        for reason, runs in reasons.items():
            rest = [f"and {len(runs) - _SHOWN} more"] if len(runs) > _SHOWN else []
            table.add_row(state, Text("\n".join([*runs[:_SHOWN], *rest])), Text(reason))
    return table


def _to_go(standing: Standing) -> Iterator[str]:
    at_work = len(standing.at_work)
    if standing.to_go is not None:
        how = f"with {at_work} at work" if at_work > 1 else "one after the other"
        yield f"Time to go: about {duration(standing.to_go)}, {how}."
    if standing.unknown:
        takes = "takes: none of its" if standing.unknown == 1 else "take: none of their"
        yield f"Nothing is known of how long {standing.unknown} of them {takes} kind has finished."
