"""What became of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["finished", "skipped", "busy", "failed", "pruned", "impossible"]


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its last metrics when it is finished (now or before), else a sentence.

    `lacks_pixels`: it failed because its images are smaller than what it wants to see of them; such a run is
    `impossible`, and no failure, where its grid says that it needs images which the public data set lacks.
    """

    status: Status
    method: str = ""
    dataset: str = ""
    category: str = ""
    seed: int | None = None
    run_key: str = ""
    run_id: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    lacks_pixels: bool = False
