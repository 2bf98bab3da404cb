"""The generated pages have everything that they are generated from."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import include
import papers
import pytest
import reference
import yaml

from harness import schema
from harness.report.published import PAPERS, load


def test_every_key_of_the_schema_has_a_row_with_its_default() -> None:
    page = reference.configuration_page()
    config = schema.Config()
    for top in fields(config):
        value = getattr(config, top.name)
        if not is_dataclass(value):
            assert f"| `{top.name}` |" in page
            continue
        for key in fields(value):
            _has_row(page, f"{top.name}.{key.name}", getattr(value, key.name))
    for extended in (schema.SlurmConfig(), schema.RayConfig()):
        for key in fields(extended):
            _has_row(page, f"launcher.{key.name}", getattr(extended, key.name))


def _has_row(page: str, key: str, default: object) -> None:
    written = re.findall(rf"^\| `{re.escape(key)}` \| `[^`]*` \| `([^`]*)` \|", page, flags=re.MULTILINE)
    assert any(yaml.safe_load(text) == default or (text, default) == ("to be given", "???") for text in written), key


def test_possible_values_stand_beside_their_keys() -> None:
    page = reference.configuration_page()
    for (group, key), values in schema.CHOICES.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{group}.{key}` |"))
        assert all(value in row.replace("\\", "") for value in values)


def test_every_choice_and_method_is_there_with_all_of_its_yaml() -> None:
    pages, of_papers = reference.pages(), papers.papers_page()
    for path in sorted(reference.CONF.glob("*/*.yaml")):
        group = path.parent.name
        if group == "experiment":
            page, heading = of_papers, f"### `experiment={path.stem}`"
        elif group in ("method", "search"):
            page, heading = pages["reference/methods.md"], f"## `{path.stem}`"
        else:
            page, heading = pages["reference/choices.md"], f"### `{group}={path.stem}`"
        assert heading in page, path
        settings = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
        assert all(line in page for line in settings), path


def test_comments_become_prose_that_shows_its_characters() -> None:
    assert reference.escaped("a_b *c* <d> `e_f`") == "a\\_b \\*c\\* &lt;d&gt; `e_f`"
    assert reference._prose(["One", "two.", "  x.pth   kept", "three"]) == [
        "One two.",
        "```text\nx.pth   kept\n```",
        "three",
    ]


@pytest.mark.parametrize("number", PAPERS)
def test_every_table_and_figure_has_an_experiment_or_a_reason(number: str) -> None:
    own = papers.own()
    reasons = own["tables"].get(number, {})
    for table in load(number).facts["tables"]:
        assert bool(papers.experiments_of(number, "tables", table)) != bool(reasons.get(table)), f"Table {table}"
    assert set(reasons) <= set(load(number).facts["tables"])
    for figure, about in own["figures"][number].items():
        assert bool(papers.experiments_of(number, "figures", figure)) != bool(about.get("where")), f"Fig. {figure}"


def test_experiments_name_only_tables_and_figures_that_there_are() -> None:
    for experiment in papers.experiments():
        named = papers.named_by(experiment)
        if named is not None:
            assert named.tables <= set(load(named.paper).facts["tables"]), experiment
            assert named.figures <= set(papers.own()["figures"][named.paper]), experiment


def test_numbers_of_tables_are_read_from_prose() -> None:
    assert papers._numbers("Tables 3, 4 and 11 and Fig. 5", "Table") == {"3", "4", "11"}
    assert papers._numbers("Tables V to VIII", "Table") == {"V", "VI", "VII", "VIII"}
    assert papers._numbers("Table III, and its own column of Table II", "Table") == {"II", "III"}
    assert papers._numbers("Table 1 and Fig. 4", r"Fig\.|Figure") == {"4"}


def test_pages_include_what_they_ask_for() -> None:
    assert "| *Mean* | padim − patchcore |" in include.example("Image AUROC: settings two by two")
    assert "[LaTeX]" not in include.example("Image AUROC")
    assert "88.4" in include.published("002 6 image_auroc autovi")
    assert include.usage("harness.report").startswith("```text\npython -m harness.report [experiment=NAME]")
    for wrong in ("{{usage harness.nope}}", "{{example Nope}}", "{{published 002 99 nope nope}}"):
        with pytest.raises(LookupError):
            include.filled(wrong)


def test_usage_is_what_help_prints() -> None:
    from harness import usage
    from harness.report.options import USAGE

    assert include.usage("harness.report") == f"```text\n{USAGE.strip()}\n```"
    printed = usage.usage().splitlines()
    ours = include.usage("harness").splitlines()[1:-1]
    assert set(ours) <= set(printed) and len(ours) > 20


FACTS = [  # page, what it says, where the number is, how it is written there, and what it is multiplied by
    ("cluster.md", "says so in the store ({} s)", "harness/interruption.py", r"STOP_SECONDS = ([\d.]+)", 1),
    ("cluster.md", "looked at every {} s", "harness/sweeper.py", r"_AWAY_POLL_SECONDS = ([\d.]+)", 1),
    ("cluster.md", "after {} minutes whoever asks", "harness/runs/liveness.py", r"DEAD_SECONDS = ([\d.]+)", 1 / 60),
    ("cluster.md", "More than {:,} jobs", "harness/launchers/slurm_jobs.py", r"_ARRAY = (\d+)", 1),
    ("cluster.md", "up to {} s before its limit", "harness/launchers/slurm_jobs.py", r"min\((\d+), 15 \* own", 1),
    ("cluster.md", "`launcher.minutes={}`", "harness/schema.py", r"minutes: int = (\d+)", 1),
    (
        "tracking-server.md",
        "after {} minutes of silence",
        "harness/runs/liveness.py",
        r"DEAD_SECONDS = ([\d.]+)",
        1 / 60,
    ),
    ("tracking-server.md", "`tracking.patience={}`", "harness/schema.py", r"patience: float = ([\d.]+)", 1),
    ("guides/speed.md", "`features.limit_gib={}`", "conf/features/default.yaml", r"limit_gib: (\d+)", 1),
    ("guides/protocols.md", "the other {} %", "conf/protocol/validated_synthetic.yaml", r"validation: ([\d.]+)", 100),
    ("tutorials/autovi.md", "DRAEM ({} epochs)", "conf/method/draem.yaml", r"epochs: \$\{quick:(\d+)", 1),
    ("tutorials/autovi.md", "DSR ({})", "conf/method/dsr.yaml", r"epochs: \$\{quick:(\d+)", 1),
    ("tutorials/autovi.md", "EfficientAD ({},", "conf/method/efficient_ad.yaml", r"epochs: \$\{quick:(\d+)", 1),
    ("limits.md", "the {:,} of the encoder-decoder", "conf/method/encoder_decoder.yaml", r"epochs: \$\{quick:(\d+)", 1),
]


@pytest.mark.parametrize(("page", "said", "source", "pattern", "factor"), FACTS)
def test_numbers_in_prose_are_those_of_the_code(page: str, said: str, source: str, pattern: str, factor: float) -> None:
    found = re.search(pattern, (reference.REPOSITORY / source).read_text(encoding="utf-8"))
    assert found, f"{source} has no {pattern}"
    text = " ".join((reference.REPOSITORY / "docs" / page).read_text(encoding="utf-8").split())
    assert said.format(round(float(found[1]) * factor)) in text


def test_the_changelog_names_every_version_that_was_raised() -> None:
    text = (reference.REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").partition("### Numbers")[2]
    told: dict[str, int] = {}
    for names, version in re.findall(r"^- (`.*`) \d+ → (\d+):", text.partition("### Fixed")[0], flags=re.MULTILINE):
        told |= dict.fromkeys(re.findall(r"`(\w+)`", names), int(version))
    methods = {path.stem: reference._settings(path).get("version", 1) for path in (reference.CONF / "method").glob("*")}
    assert told == {name: version for name, version in methods.items() if version != 1}


def test_the_schema_is_read_where_it_lies() -> None:
    """The installed package, if it is not this folder, is made of the same file."""
    assert Path(schema.__file__).read_text() == reference.SCHEMA.read_text()
