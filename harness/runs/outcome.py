"""What became of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["finished", "skipped", "busy", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its last metrics when it is finished (now or before), a sentence when it failed."""

    status: Status
    method: str = ""
    dataset: str = ""
    category: str = ""
    seed: int | None = None
    run_key: str = ""
    run_id: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
