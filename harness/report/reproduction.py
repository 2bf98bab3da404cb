"""Ours beside the papers' numbers: difference with its interval, and what can be said about it.

A printed number is compared with ours where the data set, the category, the method and what the paper varied are the
same (:mod:`harness.report.published`); what else differs from the method's paper settings is told, not hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import pandas as pd

from harness.errors import HarnessError
from harness.report.measures import Measure
from harness.report.pairs import DIFFERENT, MARGIN, decided
from harness.report.published import PAPERS, Paper, load, sample_stds
from harness.report.study import Study, defaults_of
from harness.report.summary import MEAN, Samples, samples_of
from harness.report.tables import Cell, Row, Table, interval_cell, p_cell, signed
from harness.report.variants import Settings, settings
from harness.schema import compose, flatten
from harness.stats import (
    holm,
    mean_difference_from_summary,
    prediction_interval,
    tost_from_summary,
    welch_from_summary,
)
from harness.stats.arrays import as_sample, mean_and_std

SECTION = "Against the papers"
KEYS = {  # the papers' metrics -> ours, in percent
    "image_auroc": "test/image_auroc",
    "image_auroc_of_mean_roc": "test/image_auroc",
    "image_ap": "test/image_ap",
    "pixel_auroc": "test/pixel_auroc",
    "aupro": "test/aupro",
    "auspro": "test/auspro",
    "f1": "threshold/f1_validation/f1",
    "class_auroc_ovr": "test/class_auroc_ovr",
    "correct_class_recall": "test/correct_class_recall",
    "defect_recall": "test/defect_recall",
    **{f"tpr_at_tnr_{tnr}": f"test/tpr_at_tnr_{tnr}" for tnr in ("99", "95", "90")},
    **{f"recall_at_precision_{p}": f"test/recall_at_precision_{p}" for p in ("99.6", "95", "90")},
}
UNUSABLE = ("impossible", "damaged")  # of such a number no test is made
NO_INTERVAL = (math.nan, math.nan)
TO_PERCENT = {"%": 1.0, "fraction": 100.0}
# What papers vary, besides the settings that ours.yaml names.
VARIED = frozenset({"augment", "preprocess.window", "protocol.shots", "preprocess.grey"})
REPRODUCED = "reproduced"
INSIDE, OUTSIDE, NOISY, NO_VERDICT = "inside", "outside", "too noisy", "one seed"
WIDEST = 10.0  # percentage points of a prediction interval that still says something
CAPTION = (
    "Ours and what paper {paper} prints in its Table {table}, in percent: mean ± sample standard deviation (ddof 1) "
    "over the seeds behind it. Difference: ours minus the paper's."
)
TESTED = (
    "Interval: the difference's 95 % interval (Welch). reproduced: two one-sided Welch tests show a difference of less "
    "than {margin:g} point at 5 %; different: Welch's two-sided test finds one at 5 %; both are corrected by Holm for "
    "the {tests} tests of this table; undecided: neither."
)
UNTESTED = (
    "Where the paper prints no deviation over runs no test is possible: the interval is that in which the difference "
    "of one further run of ours falls with 95 % confidence, and the verdict whether it has 0 inside or outside, if the "
    "printed number is of one run; too noisy: inside, but the interval is wider than {widest:g} points and says "
    "little. One in twenty such verdicts is wrong by chance."
)
UNKNOWN_DDOF = (
    "The paper does not say how it takes the deviation; both readings (ddof 1 and 0) were tested, and a verdict is one "
    "that both give; p values are the larger ones."
)
OF_MEANS = (
    "The paper's ± of a Mean row is over categories; the deviation over its runs, which the test needs, is taken from "
    "the categories' own, as independent."
)
ROUNDED = "A printed deviation of 0 is taken as half a unit of its last digit."


class Printed(NamedTuple):
    """One number of a paper, in percent, and the runs behind it."""

    value: float
    stds: tuple[float, ...]  # as a sample's; two where the ddof is not known, none where none is printed
    n: int
    decimals: int


class Verdict(NamedTuple):
    """What can be said about a difference; p values are nan where there is no test."""

    difference: float
    low: float
    high: float
    pvalue: float  # Welch, uncorrected
    tost: float


def reproduction_tables(study: Study) -> list[Table]:
    """Return a table for each table of a paper of which a number can be compared."""
    tables = []
    for number in PAPERS:
        paper = load(number)
        matches = list(_matches(study, paper))
        for table in dict.fromkeys(paper.numbers["table"]):
            rows = [match for match in matches if match.printed["table"] == table]
            if rows:
                tables.append(_table(paper, table, rows))
    return tables


class Match(NamedTuple):
    """A printed number and ours."""

    printed: Mapping[str, Any]
    label: str
    samples: Samples
    measure: Measure
    departures: tuple[str, ...]  # in which ours are not the method's paper settings


def _matches(study: Study, paper: Paper) -> Iterator[Match]:
    """Yield every printed number that one of our labels has on the same data."""
    numbers = paper.numbers[paper.numbers["method"].isin(paper.methods) & paper.numbers["metric"].isin(KEYS)]
    numbers = numbers[numbers["value"].notna() & numbers["dataset"].isin(set(study.runs["dataset"]))]
    numbers = numbers[numbers["category"].isin({*study.runs["category"], MEAN, ""}) & (numbers["defect"] == "")]
    samples = {metric: _samples(study, paper, metric) for metric in set(numbers["metric"])}
    labels = {dataset: _labels(study, str(dataset)) for dataset in set(numbers["dataset"])}
    for printed in numbers.to_dict("records"):
        of_metric = samples[printed["metric"]]
        found = of_metric.get((printed["dataset"], printed["category"]))
        if found is None and not printed["category"]:
            found = _only_category(of_metric, printed["dataset"])
        for label, own in labels[printed["dataset"]].items():
            if found and label in found.values and _is_setting(own, printed, paper):
                told = tuple(departures(own, paper.settings.get(printed["setting"], {})))
                yield Match({str(k): v for k, v in printed.items()}, label, found, _measure(printed["metric"]), told)


def _measure(metric: str) -> Measure:
    return Measure(KEYS[metric], metric)


def _samples(study: Study, paper: Paper, metric: str) -> dict[tuple[str, str], Samples]:
    """Return our values by data set and category; mean rows only where we have all categories of the paper."""
    measure = _measure(metric)
    if measure.key not in study.runs.columns:
        return {}
    found = {(s.dataset, s.category): s for s in samples_of(study.runs, measure)}
    for dataset in {dataset for dataset, category in found if category == MEAN}:
        printed = paper.numbers[(paper.numbers["dataset"] == dataset) & (paper.numbers["metric"] == metric)]
        theirs = {c for c in printed["category"] if c and not c.startswith(MEAN) and c != "Total"}
        ours = {category for name, category in found if name == dataset and category != MEAN}
        if theirs != ours:
            del found[dataset, MEAN]
    return found


def _only_category(samples: Mapping[tuple[str, str], Samples], dataset: str) -> Samples | None:
    """Return a data set's samples where paper and store have one category, whatever its name."""
    of_dataset = [s for (name, _), s in samples.items() if name == dataset]
    return of_dataset[0] if len(of_dataset) == 1 else None


class Own(NamedTuple):
    """A label's settings in one data set."""

    method: str
    values: Settings
    configured: Settings  # of the method, in the same (quick or full) form
    paper: Settings  # of the method in full


def _labels(study: Study, dataset: str) -> dict[str, Own]:
    found = {}
    of_dataset = study.runs[study.runs["dataset"] == dataset].drop_duplicates("label")
    for run in of_dataset.to_dict("records"):
        params = study.params[run["run_id"]]
        quick = params.get("trainer.quick") != "False"
        configured = defaults_of(run["method"], quick)
        found[run["label"]] = Own(run["method"], settings(params, run["weights"]), configured, in_full(run["method"]))
    return found


@lru_cache(maxsize=256)
def in_full(method: str) -> Settings:
    """Return a method's settings as configured for real data, which are its paper's; none for one that is not here."""
    try:
        config = compose([f"method={method}", "dataset=mvtec_ad", "trainer=default"])
    except HarnessError:
        return {}
    return settings({key: str(value) for key, value in flatten(config).items()}, "")


def _is_setting(own: Own, printed: Mapping[str, Any], paper: Paper) -> bool:
    """Whether runs are of the printed method, and what the paper varied has the value that it had there."""
    wanted = paper.settings.get(printed["setting"], {} if not printed["setting"] else None)
    if wanted is None or own.method != paper.methods[printed["method"]]:
        return False
    keys = VARIED.union(*paper.settings.values())
    return all(
        _matches_pattern(own.values.get(key), wanted[key])
        if key in wanted
        else _same(own.values.get(key), own.configured.get(key))
        for key in keys
    )


def _matches_pattern(value: str | None, wanted: str) -> bool:
    if value is None:
        return False
    return value.startswith(wanted.removesuffix("*")) if wanted.endswith("*") else value == wanted


def _same(value: str | None, usual: str | None) -> bool:
    return value == usual or {value, usual} <= {None, "null"}


def departures(own: Own, varied: Mapping[str, str]) -> list[str]:
    """Return the settings that are not the method's paper settings, `size=128 (256)`; what the paper varied aside."""
    found = []
    for key in sorted({*own.values, *own.paper} - {"weights", "method.version", "method.model", *varied}):
        value, usual = own.values.get(key), own.paper.get(key)
        if not _same(value, usual) and not key.startswith("metrics."):
            found.append(f"{key.removeprefix('method.')}={value or 'none'} ({usual or 'none'})")
    return found


def as_printed(printed: Mapping[str, Any], numbers: pd.DataFrame) -> Printed:
    """Return a number with its deviation over runs: for a mean over categories, that of its category rows."""
    scale = TO_PERCENT[printed["unit"]]
    if printed["over"] == "categories":
        same = ("table", "method", "setting", "dataset", "metric")
        rows = numbers[(numbers[list(same)] == [printed[key] for key in same]).all(axis=1)]
        rows = rows[~rows["category"].str.startswith(MEAN)]
        each = [as_printed(row, numbers) for row in rows.to_dict("records")]
        if not each or not all(row.stds for row in each):
            return Printed(printed["value"] * scale, (), 0, printed["decimals"])
        stds = [math.hypot(*(row.stds[i] if i < len(row.stds) else row.stds[0] for row in each)) for i in range(2)]
        both = tuple(dict.fromkeys(std / len(each) for std in stds))
        return Printed(printed["value"] * scale, both, min(row.n for row in each), printed["decimals"])
    std, n = printed["std"], printed["n"]
    if printed["status"] in UNUSABLE:
        std = math.nan
    if std == 0.0:
        std = 0.5 * 10.0 ** -printed["decimals"]
    own = tuple(value * scale for value in sample_stds(std, n, printed["ddof"]))
    return Printed(printed["value"] * scale, own, int(n) if own else 0, printed["decimals"])


def verdict_of(values: Sequence[float], printed: Printed) -> Verdict:
    """Compare our values with a printed number; of two readings of its deviation, the more careful figure counts."""
    mean, std = mean_and_std(as_sample(values))
    n = len(values)
    if n < 2 or not printed.stds:
        low, high = (bound - printed.value for bound in (prediction_interval(values) if n > 1 else NO_INTERVAL))
        return Verdict(mean - printed.value, low, high, math.nan, math.nan)
    theirs = [(printed.value, reading, printed.n) for reading in printed.stds]
    intervals = [mean_difference_from_summary(mean, std, n, *reading) for reading in theirs]
    pvalues = [welch_from_summary(mean, std, n, *reading).pvalue for reading in theirs]
    equal = [tost_from_summary(mean, std, n, *reading, margin=MARGIN).pvalue for reading in theirs]
    low, high = min(i.low for i in intervals), max(i.high for i in intervals)
    return Verdict(mean - printed.value, low, high, max(pvalues), max(equal))


def word(verdict: Verdict, different: float, equal: float) -> str:
    """Return the verdict in words, given its p values as corrected for the tests of the table; nan: no test."""
    if not math.isnan(different):
        return decided(different, equal, REPRODUCED)
    if math.isnan(verdict.low):
        return NO_VERDICT
    if not verdict.low <= 0.0 <= verdict.high:
        return OUTSIDE
    return NOISY if verdict.high - verdict.low > WIDEST else INSIDE


def _table(paper: Paper, table: str, matches: Sequence[Match]) -> Table:
    found = [_compared(match, paper.numbers) for match in matches]
    corrected = zip(holm([n["pvalue"] for n in found]), holm([n["tost"] for n in found]), strict=True)
    rows = []
    for match, number, (different, equal) in zip(matches, found, corrected, strict=True):
        number |= {"holm": different, "tost_holm": equal}
        number["verdict"] = word(number.pop("outcome"), different, equal)
        rows.append(_row(match, number))
    numbers = pd.DataFrame(found)
    tests = int(numbers["pvalue"].notna().sum())
    facts = paper.facts["tables"][table]
    parts = [CAPTION.format(paper=paper.number, table=table)]
    parts += [TESTED.format(margin=MARGIN, tests=tests)] if tests else []
    parts += [UNTESTED.format(widest=WIDEST)] if (numbers["readings"] == 0).any() else []
    parts += [UNKNOWN_DDOF] if (numbers["readings"] > 1).any() else []
    parts += [OF_MEANS] if any(m.printed["over"] == "categories" for m in matches) else []
    parts += [ROUNDED] if any(m.printed["std"] == 0.0 for m in matches) else []
    parts += list(_notes(facts, matches)) + _departures(matches)
    title = f"Paper {paper.number}, Table {table}: {facts['title']}"
    columns = ("Ours", "Paper", "Difference", "Interval", "p (Holm)", "Verdict")
    heads = ("Category", "Method", "In the paper", "Metric")
    name = f"paper_{paper.number}_table_{table}"
    return Table(name, title, " ".join(parts), columns, tuple(rows), numbers, SECTION, heads)


def _compared(match: Match, numbers: pd.DataFrame) -> dict[str, Any]:
    """Return the tidy row of one comparison."""
    values = match.samples.values[match.label]
    printed = as_printed(match.printed, numbers)
    outcome = verdict_of(values.tolist(), printed)
    mean, std = mean_and_std(values.to_numpy(dtype=float))
    return {
        "dataset": match.samples.dataset,
        "category": match.samples.category,
        "is_mean": match.samples.is_mean,
        "label": match.label,
        "measure": match.measure.key,
        "mean": mean,
        "std": std,
        "n": len(values),
        "best": False,
        "run_ids": match.samples.run_ids[match.label],
        "unit": match.samples.unit,
        "paper": printed.value,
        "paper_std": match.printed["std"] * TO_PERCENT[match.printed["unit"]],
        "paper_std_used": max(printed.stds, default=math.nan),
        "paper_n": printed.n or math.nan,
        "readings": len(printed.stds),
        "departs": bool(match.departures),
        "paper_method": " ".join(filter(None, (match.printed["method"], match.printed["setting"]))),
        "paper_status": match.printed["status"],
        "difference": outcome.difference,
        "low": outcome.low,
        "high": outcome.high,
        "pvalue": outcome.pvalue,
        "tost": outcome.tost,
        "outcome": outcome,
    }


def _row(match: Match, number: Mapping[str, Any]) -> Row:
    printed = match.printed
    digits = max(1, printed["decimals"] - (2 if printed["unit"] == "fraction" else 0))
    mark = "" if printed["status"] == "ok" else "§"
    cells = (
        _mean_and_std(number["mean"], number["std"], digits),
        _mean_and_std(number["paper"], number["paper_std"], digits, mark),
        Cell(signed(number["difference"], digits)),
        interval_cell(number["low"], number["high"], digits),
        p_cell(number["holm"]),
        Cell(
            number["verdict"], note="*" if match.departures else "", bold=number["verdict"] in (REPRODUCED, DIFFERENT)
        ),
    )
    more = (match.label, number["paper_method"], printed["metric"])
    return Row(match.samples.dataset, match.samples.category, cells, match.samples.is_mean, more)


def _mean_and_std(mean: float, std: float, digits: int, note: str = "") -> Cell:
    return Cell(f"{mean:.{digits}f}", "" if math.isnan(std) else f"{std:.{digits}f}", note)


def _notes(facts: Mapping[str, Any], matches: Sequence[Match]) -> Iterator[str]:
    notes = dict.fromkeys(m.printed["note"] for m in matches if m.printed["status"] != "ok")
    if notes:
        yield "§: " + " ".join(notes)
    if note := facts.get("note"):
        yield f"On the paper's table: {' '.join(note.split())}"


def _departures(matches: Sequence[Match]) -> list[str]:
    """Tell how far our runs are from the methods' paper settings."""
    found = dict.fromkeys(f"{match.label}: {', '.join(match.departures)}." for match in matches if match.departures)
    return [f"*: ours depart from the method's paper settings (given in brackets): {' '.join(found)}"] if found else []
