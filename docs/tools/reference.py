"""The pages that are read from the code: configuration keys, choices, methods, papers. Nothing of them is typed."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
CONF = REPOSITORY / "conf"
SCHEMA = REPOSITORY / "harness" / "schema.py"
OWN_PAGES = ("method", "experiment", "search")  # groups that the page of choices leaves to others


def pages() -> dict[str, str]:
    """Return the generated pages: path below docs/ -> Markdown."""
    return {
        "reference/configuration.md": configuration_page(),
        "reference/choices.md": choices_page(),
        "reference/methods.md": methods_page(),
        "reference/models.md": models_page(),
    }


@dataclass(frozen=True)
class Key:
    """One setting: its type and default as the schema writes them, and the comment beside it."""

    name: str
    type: str
    default: str
    comment: str


@dataclass(frozen=True)
class Group:
    """A dataclass of the schema, with the one that it adds keys to, if any."""

    name: str
    base: str | None
    about: str
    keys: tuple[Key, ...]


def configuration_page() -> str:
    """Every key of the schema, with its type, its default and what the schema says of it."""
    possible = _possible_values()
    groups = {group.name: group for group in schema_groups()}
    top = groups.pop("Config")
    named = {key.type: key.name for key in top.keys}
    lines = [
        "# Configuration keys",
        "Read from `harness/schema.py`. A key that is not here is an error, but for those of `method`, which are "
        "arguments of the model: see [methods](methods.md). `python -m harness --cfg job method=NAME` prints every key "
        "with the value that it has in a run; the defaults below are the schema's, which the "
        "[choices](choices.md) of a group replace.",
        "## Top level",
        _key_table("", [key for key in top.keys if key.type not in groups], possible),
    ]
    for name, group in groups.items():
        if name in named:
            lines += [f"## {named[name]}", group.about, _key_table(f"{named[name]}.", group.keys, possible)]
            for more in (other for other in groups.values() if other.base == name):
                lines += [more.about, _key_table(f"{named[name]}.", more.keys, possible)]
    return "\n\n".join(lines) + "\n"


def schema_groups() -> list[Group]:
    """Return the dataclasses of the schema in its order."""
    source = SCHEMA.read_text(encoding="utf-8")
    comments = _comments(source)
    return [
        Group(node.name, _base(node), _flat(ast.get_docstring(node) or ""), tuple(_keys(node, comments)))
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and _is_dataclass(node)
    ]


def _keys(node: ast.ClassDef, comments: dict[int, str]) -> Iterator[Key]:
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            comment = comments.get(item.end_lineno or item.lineno, "")
            yield Key(item.target.id, ast.unparse(item.annotation), _default(item.value), comment)


def _base(node: ast.ClassDef) -> str | None:
    return ast.unparse(node.bases[0]) if node.bases else None


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _default(value: ast.expr | None) -> str:
    """Return a default as YAML has it."""
    if value is None or ast.unparse(value) == "MISSING":
        return "to be given"
    if isinstance(value, ast.Call):
        (factory,) = (keyword.value for keyword in value.keywords if keyword.arg == "default_factory")
        made = {"list": "[]", "dict": "{}"}.get(ast.unparse(factory))
        return made or (ast.unparse(factory.body) if isinstance(factory, ast.Lambda) else ast.unparse(factory))
    constant = ast.literal_eval(value)
    if constant is None or isinstance(constant, bool):
        return "null" if constant is None else str(constant).lower()
    return str(constant)


def _comments(source: str) -> dict[int, str]:
    """Return the comments that end lines of code: line -> text."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


def _possible_values() -> dict[str, str]:
    """Return the values that the schema allows: `trainer.device` -> `auto, cpu, …`."""
    for node in ast.parse(SCHEMA.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CHOICES" and node.value is not None:
            return {".".join(key): ", ".join(values) for key, values in ast.literal_eval(node.value).items()}
    raise LookupError("harness/schema.py has no CHOICES")


def _key_table(prefix: str, keys: tuple[Key, ...] | list[Key], possible: dict[str, str]) -> str:
    rows = ["| key | type | default | |", "| --- | --- | --- | --- |"]
    for key in keys:
        name = prefix + key.name
        about = escaped(key.comment)
        if name in possible and not all(value in key.comment for value in possible[name].split(", ")):
            about = f"{possible[name]}{'; ' if about else ''}{about}"
        rows.append(f"| `{name}` | `{key.type}` | `{key.default}` | {about} |")
    return "\n".join(rows)


def choices_page() -> str:
    """Every choice of every group, with what its YAML says."""
    groups = sorted(path for path in CONF.iterdir() if path.is_dir() and path.name not in OWN_PAGES)
    lines = [
        "# Choices",
        "Read from `conf/`: `GROUP=NAME` on the command line takes these settings, and `GROUP.key=value` changes one "
        "of them. What the keys mean: [configuration keys](configuration.md). [Methods](methods.md) and "
        "[experiments](../papers.md) have pages of their own.",
    ]
    for group in groups:
        lines.append(f"## {group.name}")
        for path in sorted(group.glob("*.yaml")):
            lines += [f"### `{group.name}={path.stem}` {{ #{group.name}-{path.stem} }}", *_described(path)]
    return "\n\n".join(lines) + "\n"


def methods_page() -> str:
    """Every method's YAML, with what its settings are from, the class behind it and its search space."""
    lines = [
        "# Methods",
        "Read from `conf/method/`. Keys beyond the harness's own ("
        + ", ".join(f"`{key}`" for key in sorted(method_keys()))
        + ") are arguments of the model; its class, with what the paper leaves open, is under [models](models.md). "
        "`${quick:FULL,SMALL}` is the paper's value and that of `trainer=quick`. `defaults: [NAME, _self_]` takes "
        "another method's settings and changes some.",
    ]
    for path in sorted((CONF / "method").glob("*.yaml")):
        lines += [f"## `{path.stem}` {{ #{path.stem} }}", *_described(path)]
        if (model := str(_settings(path).get("model", ""))).startswith("harness."):
            lines.append(f"Class: [`{model}`](models.md#{model})")
        search = CONF / "search" / path.name
        if search.is_file():
            lines += ["What `harness.tune` searches:", *_described(search)]
    return "\n\n".join(lines) + "\n"


def models_page() -> str:
    """Every class that a method's YAML names; mkdocstrings fills in the docstrings."""
    named = {str(_settings(path).get("model", "")) for path in (CONF / "method").glob("*.yaml")}
    lines = [
        "# Models",
        "The classes behind the [methods](methods.md): `AnomalibModule`s, which work in plain anomalib too. Each "
        "docstring says what its paper leaves open and what was assumed.",
    ]
    for model in sorted(name for name in named if name.startswith("harness.")):
        lines.append(
            f"::: {model}\n    options:\n      members: false\n      heading_level: 2\n      show_root_full_path: true"
        )
    return "\n\n".join(lines) + "\n"


def method_keys() -> set[str]:
    """Return the keys of a method's YAML that the harness reads."""
    for node in ast.parse(SCHEMA.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "METHOD_KEYS":
            assert isinstance(node.value, ast.Call)
            return set(ast.literal_eval(node.value.args[0]))
    raise LookupError("harness/schema.py has no METHOD_KEYS")


def _settings(path: Path) -> dict[str, object]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    return loaded if isinstance(loaded, dict) else {}


def leading_comment(path: Path) -> list[str]:
    """Return the lines of the comment that a YAML begins with, without Hydra's package line."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    return lines


def _described(path: Path) -> list[str]:
    """Return a YAML as Markdown: its leading comment as prose, the rest as it stands."""
    text = path.read_text(encoding="utf-8").splitlines()
    body = "\n".join(text[next((i for i, line in enumerate(text) if not line.startswith("#")), len(text)) :])
    return [*_prose(leading_comment(path)), f"```yaml\n{body.strip()}\n```"]


def _prose(lines: list[str]) -> list[str]:
    """Return a comment as paragraphs; lines that are indented in it stay as they are."""
    blocks: list[tuple[bool, list[str]]] = []
    for line in lines:
        indented = line.startswith("  ")
        if not blocks or blocks[-1][0] != indented:
            blocks.append((indented, []))
        blocks[-1][1].append(line)
    return [
        "```text\n" + "\n".join(line.strip() for line in block) + "\n```" if indented else escaped(" ".join(block))
        for indented, block in blocks
    ]


def escaped(text: str) -> str:
    """Return a comment as Markdown that shows its characters; what looks like code is set as code."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(part if part.startswith("`") else _escaped_plain(part) for part in parts)


def _escaped_plain(text: str) -> str:
    for character in ("\\", "*", "_", "[", "]", "|"):
        text = text.replace(character, f"\\{character}")
    return text.replace("<", "&lt;").replace(">", "&gt;")


def _flat(text: str) -> str:
    return " ".join(text.split())
