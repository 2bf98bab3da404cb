"""Tables of methods × settings: settings down, methods across (papers 002, Tables 11 and 12; 004, Tables 5 to 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from harness.report.captions import rule, signs, spread, usual_n
from harness.report.measures import Measure
from harness.report.summary import summarise
from harness.report.tables import Cell, Row, Table, cell_of, digits_of, places
from harness.report.variants import by_value

PLAIN = "plain"
MEAN_ROC = "It is also the area under the vertically averaged ROC curve of the seeds (as in paper 002, Table 11)."
UNDERLINED = f"Underlined: a mean that is better than the same method's {PLAIN} one, tested or not."


def crossed(labels: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return setting -> method -> label where two or more methods all have the same two or more settings, else {}.

    A label without a suffix is the setting :data:`PLAIN`.
    """
    found: dict[str, dict[str, str]] = {}
    for label in labels:
        method, bracket, rest = label.partition(" (")
        found.setdefault(rest.removesuffix(")") if bracket else PLAIN, {})[method] = label
    methods = {frozenset(of_setting) for of_setting in found.values()}
    if len(found) < 2 or len(methods) != 1 or len(next(iter(methods))) < 2:
        return {}
    return {setting: found[setting] for setting in sorted(found, key=lambda name: (name != PLAIN, by_value(name)))}


def crossed_table(runs: pd.DataFrame, measure: Measure, settings: Mapping[str, Mapping[str, str]]) -> Table:
    """Return a measure's table with a row a category and setting; tests and bold are of such a row.

    Args:
        runs: the runs of all labels.
        measure: what is tabulated.
        settings: of :func:`crossed`.
    """
    parts = []
    for setting, labels in settings.items():
        numbers = summarise(runs[runs["label"].isin(labels.values())], measure)
        parts.append(numbers.assign(setting=setting))
    numbers = pd.concat(parts, ignore_index=True)
    columns = list(next(iter(settings.values())))
    usual, digits = usual_n(numbers), digits_of(numbers, measure)
    rows = []
    for (dataset, is_mean, category), group in places(numbers):
        found = {number["label"]: number for number in group.to_dict("records")}
        for setting, labels in settings.items():
            cells = [cell_of(found[labels[m]], digits, usual) if labels[m] in found else None for m in columns]
            if any(cells):
                plain = settings.get(PLAIN) if measure.tested and setting != PLAIN else None
                cells = [
                    _underlined(c, found, labels[m], plain, m, measure) for c, m in zip(cells, columns, strict=True)
                ]
                rows.append(Row(str(dataset), str(category), tuple(cells), bool(is_mean), (setting,)))
    text = f"{measure.title}, in {'percent' if measure.unit == '%' else measure.unit}: {spread(usual)}, last epoch."
    told = [measure.note] if measure.note else []
    told += [MEAN_ROC] if measure.key == "test/image_auroc" else []
    told += [rule(numbers)] if measure.tested else ["Not tested, for it depends on the machine."]
    told += [UNDERLINED] if any(c and c.underlined for row in rows for c in row.cells) else []
    caption = " ".join([text, *told, *signs(numbers, usual)])
    return Table(
        measure.name, measure.title, caption, tuple(columns), tuple(rows), numbers, heads=("Category", "Setting")
    )


def _underlined(
    cell: Cell | None,
    found: Mapping[str, Mapping[str, float]],
    label: str,
    plain: Mapping[str, str] | None,
    method: str,
    measure: Measure,
) -> Cell | None:
    if cell is None or plain is None or plain[method] not in found:
        return cell
    gain = found[label]["mean"] - found[plain[method]]["mean"]
    better = gain > 0 if measure.higher_is_better else gain < 0
    return replace(cell, underlined=better)
