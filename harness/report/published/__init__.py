"""The numbers that papers 000 to 004 print, as data: a CSV and a YAML a paper, and what of ours they belong to.

CSV: a row a number: table, method, setting, dataset, category, defect, metric, unit, value, std, n, ddof, over, status,
note. value and std have the printed digits. n is what stands behind value, over what std is over (seeds, folds,
categories), ddof 0 or 1 where the paper tells or its numbers allow no other, else empty. status: ok; contradicted (the
paper contradicts itself), damaged (in the text that we have), impossible: the note says how. Numbers were entered
twice, by two readers, and compared.

YAML: title, venue, year, doi, and a note on each table, those included that the text has lost.

ours.yaml: paper -> methods (printed -> ours) and settings (printed -> ours: setting -> value).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import pandas as pd
import yaml

PAPERS = ("000", "001", "002", "003", "004")


@dataclass(frozen=True)
class Paper:
    """One paper's tables.

    Attributes:
        number: `002`.
        facts: title, venue, year, doi, and `tables`: number -> title, source, n, note.
        numbers: a row a printed number, in the order of the paper; texts but for value, std, n and ddof, which are
            nan where nothing is printed, and decimals: those of the printed value.
        methods: printed method -> ours, for those that we have.
        settings: printed setting -> what ours must be set to for it.
    """

    number: str
    facts: Mapping[str, Any]
    numbers: pd.DataFrame
    methods: Mapping[str, str]
    settings: Mapping[str, Mapping[str, str]]


@lru_cache
def load(number: str) -> Paper:
    """Return a paper by its number."""
    folder = files(__name__)
    with (folder / f"{number}.csv").open(encoding="utf-8") as file:
        numbers = pd.read_csv(file, dtype=str, keep_default_na=False)
    facts = yaml.safe_load((folder / f"{number}.yaml").read_text(encoding="utf-8"))
    ours = yaml.safe_load((folder / "ours.yaml").read_text(encoding="utf-8"))[number]
    numbers["decimals"] = numbers["value"].str.partition(".")[2].str.len()
    for column in ("value", "std", "n", "ddof"):
        numbers[column] = pd.to_numeric(numbers[column], errors="coerce")  # sizes such as 400x400 are no numbers
    return Paper(number, facts, numbers, ours["methods"], ours.get("settings", {}))


def sample_stds(std: float, n: float, ddof: float) -> tuple[float, ...]:
    """Return what a printed standard deviation is as a sample's (ddof 1): two values where its ddof is not known."""
    if not n > 1 or math.isnan(std):
        return ()
    widened = std * math.sqrt(n / (n - 1))
    return (std, widened) if math.isnan(ddof) else (widened if ddof == 0 else std,)
