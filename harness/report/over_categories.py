"""Settings over the categories of a data set: ranks, Friedman's test and what follows it (the unit is the category)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.report.figures import Figure, slug_of
from harness.report.measures import Measure
from harness.report.pairs import SECTION
from harness.report.significance_plots import draw_critical_difference
from harness.report.summary import ALPHA, samples_of
from harness.report.tables import Cell, Row, Table, p_cell, p_text
from harness.stats import (
    Friedman,
    cliques,
    critical_difference,
    friedman,
    nemenyi,
    pairs_needed,
    wilcoxon,
    wilcoxon_posthoc,
)
from harness.stats.arrays import Floats

FEWEST_CATEGORIES = 3
KEYS = ("test/image_auroc", "test/pixel_auroc", "test/aupro")
CAPTION = (
    "{title} over the {n} categories of {dataset}, seeds averaged inside each category first (unit: the category). "
    "Mean rank: 1 is best. {test} Categories are no random sample of all products: this is about these categories."
)
FRIEDMAN = (
    "Friedman's test (ties corrected): χ² = {chi:.2f}, p {p}; Iman and Davenport's F = {f:.2f}, p {fp}. Beside the "
    "ranks: p against the best mean rank, of Nemenyi's test and of Wilcoxon's signed-rank test as corrected by Holm "
    "for all pairs."
)
TWO = "Two settings: Wilcoxon's two-sided signed-rank test, p {p}."
TOO_FEW = (
    " No Wilcoxon test of {n} categories can fall below 5 % after a correction for all pairs (that takes {needed})."
)
FIGURE_CAPTION = (
    "Mean ranks of {title} over the {n} categories of {dataset} (1 is best). Settings joined by a bar are not "
    "separated by Nemenyi's test at 5 %: their mean ranks differ by less than CD = {cd:.2f}."
)


class Ranking(NamedTuple):
    """Settings that have a value in every category of a data set."""

    dataset: str
    measure: Measure
    scores: pd.DataFrame  # a row a category, a column a label
    run_ids: dict[str, tuple[str, ...]]
    test: Friedman
    nemenyi: Floats  # p values of labels × labels


def rankings(runs: pd.DataFrame, measures: Sequence[Measure], labels: Sequence[str]) -> list[Ranking]:
    """Return the data sets and measures with two or more settings in each of three or more categories."""
    found = []
    for measure in measures:
        if measure.key not in KEYS:
            continue
        of_dataset: dict[str, list[tuple[str, dict[str, float], dict[str, tuple[str, ...]]]]] = {}
        for samples in samples_of(runs, measure):
            if not samples.is_mean:
                means = {label: float(values.mean()) for label, values in samples.values.items()}
                of_dataset.setdefault(samples.dataset, []).append((samples.category, means, samples.run_ids))
        for dataset, rows in of_dataset.items():
            complete = [label for label in labels if all(label in means for _, means, _ in rows)]
            if len(rows) >= FEWEST_CATEGORIES and len(complete) >= 2:
                scores = pd.DataFrame([{label: means[label] for label in complete} for _, means, _ in rows])
                scores.index = pd.Index([category for category, *_ in rows])
                ids = {label: tuple(i for *_, of in rows for i in of[label]) for label in complete}
                values = scores.to_numpy()
                test = friedman(values, measure.higher_is_better)
                found.append(Ranking(dataset, measure, scores, ids, test, nemenyi(values)))
    return found


def ranking_tables(found: Sequence[Ranking]) -> list[Table]:
    """Return a table a data set and measure: mean ranks and the tests behind them."""
    return [_table(ranking) for ranking in found]


def draw_rankings(found: Sequence[Ranking], folder: Path) -> Iterator[Figure]:
    """Draw a critical-difference diagram (Demšar 2006) of each ranking of three or more settings."""
    for ranking in found:
        n, k = ranking.scores.shape
        if k < 3:
            continue
        ranks = ranking.test.mean_ranks
        difference = critical_difference(k, n)
        labels = list(ranking.scores.columns)
        groups = [tuple(labels[i] for i in group) for group in cliques(ranks, ranking.nemenyi < ALPHA)]
        name = f"ranks_{ranking.measure.name}_{slug_of(ranking.dataset)}"
        title = f"{ranking.dataset}: ranks of {ranking.measure.title}"
        facts = {"title": ranking.measure.title, "n": n, "dataset": ranking.dataset, "cd": difference}
        lines = {label: list(ids) for label, ids in ranking.run_ids.items()}
        caption = FIGURE_CAPTION.format(**facts)
        ranked = ranks.tolist()
        yield draw_critical_difference(name, title, labels, ranked, groups, difference, folder, caption, lines)


def _table(ranking: Ranking) -> Table:
    scores, labels = ranking.scores.to_numpy(), list(ranking.scores.columns)
    n, k = scores.shape
    test = ranking.test
    order = np.argsort(test.mean_ranks, kind="stable")
    best = int(order[0])
    by_rank = ranking.nemenyi if k > 2 else np.full((k, k), math.nan)
    by_pair = wilcoxon_posthoc(scores)
    rows, numbers = [], []
    for i in order:
        place = {"dataset": ranking.dataset, "category": f"{n} categories", "is_mean": False, "label": labels[i]}
        mean = float(scores[:, i].mean())
        p = {"nemenyi": float(by_rank[i, best]), "wilcoxon_holm": float(by_pair[i, best])}
        p = {name: math.nan if i == best else value for name, value in p.items()}
        numbers.append(
            place
            | {"mean": mean, "std": math.nan, "n": n, "best": False, "run_ids": ranking.run_ids[labels[i]]}
            | {"unit": "category", "measure": ranking.measure.key, "mean_rank": float(test.mean_ranks[i])}
            | p
        )
        cells = (
            Cell(f"{test.mean_ranks[i]:.2f}"),
            Cell(f"{mean:.1f}"),
            p_cell(p["nemenyi"]),
            p_cell(p["wilcoxon_holm"]),
        )
        rows.append(Row(ranking.dataset, labels[i], cells if k > 2 else (*cells[:2], cells[3])))
    if k > 2:
        facts = {"chi": test.statistic, "p": _text(test.pvalue), "f": test.iman_davenport}
        text = FRIEDMAN.format(**facts, fp=_text(test.iman_davenport_pvalue))
    else:
        text = TWO.format(p=_text(wilcoxon(scores[:, 0], scores[:, 1]).pvalue))
    needed = pairs_needed(ALPHA / (k * (k - 1) / 2))
    text += TOO_FEW.format(n=n, needed=needed) if n < needed else ""
    caption = CAPTION.format(title=ranking.measure.title, n=n, dataset=ranking.dataset, test=text)
    columns = ("Mean rank", "Mean", "p (Nemenyi)", "p (Wilcoxon, Holm)")
    name = f"ranks_{ranking.measure.name}_{slug_of(ranking.dataset)}"
    title = f"{ranking.measure.title} over the categories of {ranking.dataset}"
    shown = columns if k > 2 else (*columns[:2], columns[3])
    return Table(name, title, caption, shown, tuple(rows), pd.DataFrame(numbers), SECTION, ("Method",))


def _text(value: float) -> str:
    text = p_text(value)
    return text if text.startswith("<") else f"= {text}"
