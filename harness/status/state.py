"""How a store stands: counted, with what is at work and how long it will take."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.runs.overview import LOSS, SeenRun, latest_by_key

LEFT, REFUSED, LACKING = "left", "cannot be run", "not possible"
STATES = ("finished", "at work", "silent", "died", "failed", "pruned")
WRONG = ("silent", "died", "failed", REFUSED)


@dataclass
class Row:
    """Runs that are counted together.

    Attributes:
        name: experiment, or method and images.
        counts: by state.
    """

    name: tuple[str, ...]
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class AtWork:
    """A run at work.

    Attributes:
        seconds: since it was begun.
        to_go: seconds, where they can be told.
    """

    run: SeenRun
    seconds: float
    to_go: float | None

    @property
    def loss(self) -> float | None:
        """The last epoch's."""
        return self.run.latest[LOSS][0] if LOSS in self.run.latest else None


@dataclass
class Standing:
    """How things stand.

    Attributes:
        total: cells of the grid; None where the whole store is looked at.
        rows: counts by experiment, or of a grid by method and images.
        refused: of a grid, how many cells cannot be run, by state.
        reasons: state -> why -> the runs, by name; of what went wrong or cannot be run.
        to_go: seconds of what can be estimated of what is left, with so many at once as are at work.
        unknown: runs of what is left that nothing is known of.
    """

    total: int | None = None
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    at_work: list[AtWork] = field(default_factory=list)
    reasons: dict[str, dict[str, list[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))
    to_go: float | None = None
    unknown: int = 0

    @property
    def counts(self) -> Counter[str]:
        """Runs by state."""
        return sum((row.counts for row in self.rows.values()), Counter(self.refused))

    @property
    def wrong(self) -> bool:
        """Whether something has failed, died or cannot be run."""
        return any(self.counts[state] for state in WRONG)

    @property
    def over(self) -> bool:
        """Whether a grid has nothing at work and nothing left."""
        return self.total is not None and not any(self.counts[state] for state in ("at work", LEFT))

    @property
    def retried(self) -> bool:
        """Whether something has ended that the same command, given again, may begin anew."""
        return any(self.counts[state] for state in ("failed", "died", "silent"))

    def count(self, name: tuple[str, ...], state: str) -> None:
        """Count a run."""
        self.rows.setdefault(name, Row(name)).counts[state] += 1

    def add(self, run: SeenRun) -> None:
        """Tell of a run what is to be told besides its count."""
        if run.state == "failed":
            self.reasons["failed"][run.tags.get("failure", "It does not say why.")].append(run.name)
        elif run.state == "died":
            self.reasons["died"]["Its process is gone; the same command runs it again."].append(run.name)
        elif run.state == "silent":
            host = run.tags.get("host", "another host")
            self.reasons["silent"][f"Not heard of for ten minutes, on {host}."].append(run.name)


def whole_store(runs: Sequence[SeenRun]) -> Standing:
    """Return how all runs of a store stand, by experiment."""
    standing = Standing()
    costs = _costs(runs)
    for run in latest_by_key(runs).values():
        standing.count((run.experiment,), run.state)
        standing.add(run)
        if run.state == "at work":
            standing.at_work.append(AtWork(run, run.seconds, rest(run, costs.get(_kind(run)))))
    foresee(standing, [])
    return standing


def _kind(run: SeenRun) -> tuple[Any, ...]:
    tags = (run.tags.get(name) for name in ("method", "data_fingerprint"))
    return (*tags, run.params.get("preprocess.size"), run.epochs)


def _costs(runs: Iterable[SeenRun]) -> dict[tuple[Any, ...], float]:
    """Return the median seconds of finished runs of a kind."""
    seconds: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for run in runs:
        if run.state == "finished":
            seconds[_kind(run)].append(run.seconds)
    return {kind: sorted(values)[len(values) // 2] for kind, values in seconds.items()}


def rest(run: SeenRun, usual: float | None) -> float | None:
    """Return the seconds that a run at work has to go: by its own epochs, before them by what is usual."""
    if 0 < run.epochs_done < run.epochs:
        return run.seconds / run.epochs_done * (run.epochs - run.epochs_done)
    return None if usual is None else max(0.0, usual - run.seconds)


def foresee(standing: Standing, left: Sequence[float | None]) -> None:
    """Say how long what is at work and what is left will take, with as many at once as are at work."""
    known = [seconds for seconds in (*left, *(one.to_go for one in standing.at_work)) if seconds is not None]
    longest = max((one.to_go or 0.0 for one in standing.at_work), default=0.0)
    standing.unknown = len(left) + len(standing.at_work) - len(known)
    if known:
        standing.to_go = math.ceil(max(longest, sum(known) / max(1, len(standing.at_work))))
