"""Whoever looks on while a run trains, and may stop it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class PrunedError(Exception):
    """The run is not worth its remaining epochs."""


class Watcher(Protocol):
    """What a run tells of itself while it trains, and to whom."""

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags of the run besides its own; where both have a name, these count."""

    def see(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of an epoch (0-based), which are in the store by then.

        Raises:
            PrunedError: to stop the run here; it is then KILLED and counts nowhere.
        """
