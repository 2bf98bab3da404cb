"""`python -m harness.report explain …`: how one number of a table came to be, from its runs on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pandas as pd

from harness.errors import ConfigError
from harness.report.captions import FEWEST, TESTS
from harness.report.holes import seed_and_fold
from harness.report.measures import Measure, measures
from harness.report.study import Study
from harness.report.summary import FOLD, MEAN, SEED, Samples, pvalue, rows_of, samples_of

KEYS = ("method", "dataset", "category", "metric")
USAGE = """python -m harness.report explain 'method=radl category=bottle metric=image_auroc' [option=value ...]

  method=LABEL     a method, or a column of a table: 'method=radl (tau=0.25)' in an argument of its own
  dataset=NAME     the data set, where there are several
  category=NAME    a category, or Mean
  metric=NAME      as its table's file is named: image_auroc (the default), aupro, time_train …"""


def question_of(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Split what is asked from the report's options; an argument may hold several words `key=value`.

    Raises:
        ConfigError: when no method is named, or a word is no assignment.
    """
    question: dict[str, str] = {}
    others: list[str] = []
    for argument in arguments:
        if argument.startswith("-") or others[-1:] in (["--config-dir"], ["-cd"]):
            others.append(argument)
            continue
        own = argument.partition("=")[0] in KEYS
        for word in argument.split() if own and "(" not in argument else [argument]:
            key, equals, value = word.partition("=")
            if not equals:
                raise ConfigError(f"'{word}' is no key=value; {USAGE.splitlines()[0]}")
            if key in KEYS:
                question[key] = value
            else:
                others.append(word)
    if "method" not in question:
        raise ConfigError(f"explain needs to know the method; {USAGE.splitlines()[0]}")
    return question, others


def explain(study: Study, question: Mapping[str, str]) -> str:
    """Return how a number came to be: its runs, their values and settings, the mean, and the tests.

    Raises:
        ConfigError: when there is no such number, saying which there are.
    """
    (measure,) = measures(study.runs, [question.get("metric", "image_auroc")])
    label = _one("method", question["method"], _labels(study, question["method"]))
    samples = [s for s in samples_of(study.runs, measure) if label in s.values or label in s.means]
    dataset = _one("dataset", question.get("dataset"), sorted({s.dataset for s in samples}))
    samples = [s for s in samples if s.dataset == dataset]
    category = _one("category", question.get("category"), [s.category for s in samples])
    (found,) = [s for s in samples if s.category == category]
    return "\n".join(_lines(study, measure, found, label)) + "\n"


def _labels(study: Study, method: str) -> list[str]:
    labels = sorted(study.runs["label"].unique())
    own = [label for label in labels if method in (label, label.partition(" (")[0])]
    return [method] if method in own else own or labels


def _one(key: str, wanted: str | None, possible: Sequence[str]) -> str:
    if wanted in possible:
        return str(wanted)
    if len(possible) == 1 and (wanted is None or (key == "method" and wanted == possible[0].partition(" (")[0])):
        return possible[0]
    what = f"There is no {key}={wanted}" if wanted is not None else f"Say which {key}"
    raise ConfigError(f"{what}; possible are: {', '.join(possible) or 'none'}.")


def _lines(study: Study, measure: Measure, samples: Samples, label: str) -> Iterator[str]:
    numbers = {str(row["label"]): row for row in rows_of(samples, measure)}
    number = numbers[label]
    n, unit = number["n"], samples.unit
    yield f"{label} / {samples.dataset} / {samples.category}: {measure.title} = {_shown(number)} {measure.unit}"
    yield ""
    runs = study.runs[study.runs["run_id"].isin(samples.run_ids[label])]
    yield from _how(measure, samples, label, n, unit)
    yield ""
    yield from _runs(runs, measure)
    yield ""
    yield from _common(study, runs)
    yield ""
    yield from _tests(samples, numbers, label)
    relevant = [str(hole) for hole in study.holes if hole.dataset == samples.dataset]
    if relevant:
        yield ""
        yield "Missing cells of this data set: " + "; ".join(relevant)
    for warning in study.warnings:
        yield f"Warning: {warning}"


def _shown(number: Mapping[str, object]) -> str:
    return f"{number['mean']:.4f}" + (f" ± {number['std']:.4f}" if number["n"] not in (0, 1) else "")


def _how(measure: Measure, samples: Samples, label: str, n: object, unit: str) -> Iterator[str]:
    scale = f", times {measure.scale:g}" if measure.scale != 1.0 else ""
    yield f"Of each run: the MLflow metric {measure.key} at its last step (the last epoch; no epoch is chosen){scale}."
    if samples.category == MEAN:
        yield f"Within each {unit} the categories are averaged; only {unit}s that have every category count."
    if label in samples.means:
        yield f"No {unit} has every category: the mean of the categories' means, without deviation or test."
        return
    yield f"Mean of {n} {unit}s; ± is their sample standard deviation (ddof 1)."
    for name, value in samples.values[label].items():
        yield f"  {unit} {name}: {value:.6f}"


def _runs(runs: pd.DataFrame, measure: Measure) -> Iterator[str]:
    yield f"Runs ({len(runs)}):"
    for run in runs.sort_values(["category", "seed", "fold"]).to_dict("records"):
        started = datetime.fromtimestamp(run["start_time"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        place = f"{run['category']} / {seed_and_fold(run['seed'], run['fold'])}"
        value = run[measure.key] * measure.scale
        yield f"  {place}: {value:.6f}  run {run['run_id']} (key {run['run_key']}), {started}, in {run['experiment']}"
        yield f"    {run['artifact_uri']}"


def _common(study: Study, runs: pd.DataFrame) -> Iterator[str]:
    """Yield the settings that all runs share, and those that differ between them."""
    params = [study.params[run_id] for run_id in runs["run_id"]]
    shared = {key: value for key, value in params[0].items() if all(of.get(key) == value for of in params)}
    yield "Settings of all of them:"
    for key in sorted(shared):
        yield f"  {key}={shared[key]}"
    for key in sorted({key for of in params for key in of} - set(shared)):
        yield f"  {key} differs: {', '.join(sorted({of.get(key, 'unset') for of in params}))}"
    for name in ("protocol", "weights", "data_fingerprint", "device", "libraries", "version", "git_commit"):
        yield f"  {name}: {', '.join(sorted(set(runs[name])))}"


def _tests(samples: Samples, numbers: Mapping[str, Mapping[str, object]], label: str) -> Iterator[str]:
    if label not in samples.values or len(samples.values) < 2:
        yield "Nothing to test it against."
        return
    test = TESTS[samples.unit].partition(" at ")[0]
    yield f"Against the other settings there, by {test}, uncorrected:"
    for other, values in samples.values.items():
        if other != label:
            shared = samples.values[label].index.intersection(values.index)
            able = samples.unit == SEED or len(shared) >= FEWEST[FOLD]
            p = pvalue(samples, label, other) if able else math.nan
            told = "no test possible" if math.isnan(p) else f"p = {p:.6f}"
            yield f"  {other}: {_shown(numbers[other])}, {told}"
