"""From what the user asked for to the cells of a grid: every cell is a list of Hydra overrides, one run.

Lists, ranges and `category=all` become separate cells; an experiment's `grids` are products whose union runs. A grid
is a mapping of keys to values; `needs`, which is no key of a configuration, tells what images its cells need that the
public data set lacks.

With `quick=true` an experiment's `quick_grids` run, where it has some, else its grids with one seed, one category and
one fold each; what the command line names stays as it is named.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from omegaconf import DictConfig, OmegaConf

from harness.errors import ConfigError, HarnessError

ONE_LAUNCHER = "give launcher=serial or launcher=local, and one launcher.jobs."
ADD_M = "{} asks for several runs: add -m (python -m harness -m …)."
Compose = Callable[[Sequence[str]], DictConfig]
# Keys that decide which images a run reads, and into what they are made.
IMAGE_KEYS = frozenset({"experiment", "dataset", "category", "preprocess"})
NEEDS = "needs"
# Axes of which quick=true takes the first value: their values repeat a run, or its like.
REPEATS = ("seed", "category", "protocol.fold")
# Keys that hold one value a run: a list given for them means several runs.
SCALAR_KEYS = frozenset(
    {
        "method",
        "dataset",
        "category",
        "seed",
        "preprocess",
        "protocol",
        "protocol.shots",
        "protocol.fold",
        "backbone",
        "trainer",
        "experiment",
    }
)


@dataclass(frozen=True)
class Cell:
    """One run to be.

    Attributes:
        overrides: of the configuration.
        problem: what is wrong with them, if anything.
        needs: what images it needs that the public data set lacks, if any: a run that lacks them is no failure.
    """

    overrides: tuple[str, ...]
    problem: str | None = None
    needs: str | None = None

    @property
    def images(self) -> tuple[str, ...]:
        """What decides the images that the run reads: cells that agree here share them in a process's memory."""
        return tuple(o for o in self.overrides if re.split(r"[.=]", o.lstrip("+~"), maxsplit=1)[0] in IMAGE_KEYS)


def parse(arguments: Sequence[str]) -> list[Override]:
    """Parse command-line overrides with Hydra's grammar.

    Raises:
        HydraException: for what is no override.
        ConfigError: for one without a key.
    """
    parsed = OverridesParser.create().parse_overrides(list(arguments))
    for override in parsed:
        if not override.key_or_group:
            raise ConfigError(f"{override.input_line} has no key: write key=value, without spaces around the =.")
    return parsed


def split_launcher(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part overrides into those of the runs and those of the launcher, which is the whole sweep's.

    Raises:
        ConfigError: for more than one launcher.
    """
    own: tuple[list[str], list[str]] = [], []
    for override in parse(arguments):
        key = str(override.key_or_group)
        launcher = _is_launcher(key)
        several = override.is_sweep_override() or (key == "launcher" and isinstance(override.value(), list))
        if launcher and several:
            raise ConfigError(f"{override.input_line} is not possible: a sweep has one launcher; {ONE_LAUNCHER}")
        own[launcher].append(str(override.input_line))
    return own


def _is_launcher(key: str) -> bool:
    return key.partition(".")[0] == "launcher"


def expand(arguments: Sequence[str], compose: Compose) -> list[Cell]:
    """Return the cells of a multirun, without doubles and in the order a reader expects.

    Args:
        arguments: the overrides of the command line.
        compose: composes one cell's overrides into a configuration; its errors name illegal cells.
    """
    overrides = parse(split_launcher(arguments)[0])
    cells: dict[tuple[str, ...], Cell] = {}
    categories = _Categories(compose)
    for grid in _grids(overrides, compose):
        for assignment in itertools.product(*grid.axes):
            for cell in categories.cells(assignment):
                cells.setdefault(cell.overrides, replace(cell, needs=grid.needs))
    return _seeds_innermost(list(cells.values()))


def _seeds_innermost(cells: Sequence[Cell]) -> list[Cell]:
    """Keep cells that differ in their seed alone together: they share images in memory."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(o for o in cell.overrides if not o.startswith("seed=")), []).append(cell)
    return [cell for group in groups.values() for cell in group]


@dataclass(frozen=True)
class _Grid:
    """A product to run: axes, each a list of overrides, and what its cells need that the public data set lacks."""

    axes: list[list[str]]
    needs: str | None = None


def _grids(overrides: Sequence[Override], compose: Compose) -> list[_Grid]:
    """Return the products to run.

    The command line narrows an experiment: of values that its grids have (`method=padim`), each grid runs those that
    are its own, so that nothing is combined which the experiment does not combine; other values replace the grids' own.
    """
    given = {str(o.key_or_group): _axis(o) for o in overrides}
    experiments = given.get("experiment", [])
    products: list[_Grid] = []
    for experiment in experiments:
        rest = {key: axis for key, axis in given.items() if key != "experiment"}
        grids = _configured_grids(experiment, given, compose)
        needs = [grid.pop(NEEDS, None) for grid in grids]
        axes = [{key: _grid_axis(key, value) for key, value in grid.items()} for grid in grids]
        filters = {key for key, axis in rest.items() if set(axis) <= {o for own in axes for o in own.get(key, [])}}
        for own, need in zip(axes, needs, strict=True):
            kept = {key: [o for o in own[key] if o in rest[key]] for key in filters & own.keys()}
            products.append(_Grid([[experiment], *(own | rest | kept).values()], need))
    return products if experiments else [_Grid(list(given.values()))]


def _configured_grids(experiment: str, given: Mapping[str, list[str]], compose: Compose) -> list[dict[str, Any]]:
    """Return an experiment's grids: those of its YAML, or, with quick=true, small ones."""
    whole = [override for key in given if key == "quick" or key.startswith("hydra.") for override in given[key]]
    config = compose([experiment, *whole])
    grids: Any = OmegaConf.to_container(config.grids, resolve=True)
    if config.quick:
        small: Any = OmegaConf.to_container(config.quick_grids, resolve=True)
        grids = small or [_smaller(grid) for grid in grids]
    return [dict(grid) for grid in grids] or [{}]


def _smaller(grid: Mapping[str, Any]) -> dict[str, Any]:
    """Return a grid with one value of what repeats a run; the data set's default category in place of all."""
    small = {}
    for key, value in grid.items():
        if key in REPEATS and isinstance(value, list):
            value = value[:1]
        elif key in REPEATS and isinstance(value, str):
            axis = _axis(parse([f"{key}={value}"])[0])
            value = axis[0].partition("=")[2]
        if (key, value) != ("category", "all"):
            small[key] = value
    return small


def _grid_axis(key: str, value: Any) -> list[str]:
    """Return the overrides of one axis of an experiment's grid: a list, a range, a comma list or one value."""
    if _is_launcher(key):
        raise ConfigError(f"{key} is not possible in a grid, for a sweep has one launcher; {ONE_LAUNCHER}")
    if isinstance(value, list):
        return [f"{key}={_literal(item)}" for item in value]
    if isinstance(value, str):  # a range or a comma list as on the command line
        return _axis(parse([f"{key}={value}"])[0])
    return [f"{key}={_literal(value)}"]


def _literal(value: Any) -> str:
    """Write a value so that Hydra's grammar reads the same value."""
    if value is None:
        return "null"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_literal, value)) + "]"
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if re.fullmatch(r"(?!null$|true$|false$|inf$|nan$)[A-Za-z_][\w./-]*", value, re.IGNORECASE):
        return value
    return QuotedString(value, Quote.single).with_quotes()


def _axis(override: Override) -> list[str]:
    """Return the single-valued overrides that one override of the command line stands for."""
    key = override.input_line.partition("=")[0] if override.input_line else override.get_key_element()
    if override.type == OverrideType.DEL:
        return [str(override.input_line)]
    if override.is_sweep_override():
        return [f"{key}={choice}" for choice in override.sweep_string_iterator()]
    value = override.value()
    if override.key_or_group in SCALAR_KEYS and isinstance(value, list):
        return [f"{key}={_literal(item)}" for item in value]
    return [str(override.input_line)]


class _Categories:
    """Makes a cell a category of an assignment that asks for all of them; looks once for all seeds and folds."""

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self._found: dict[tuple[str, ...], list[str] | HarnessError] = {}

    def cells(self, assignment: Sequence[str]) -> list[Cell]:
        """Return the cells of an assignment."""
        if "category=all" not in assignment:
            return [Cell(tuple(assignment))]
        others = [a for a in assignment if a != "category=all"]
        found = self._list(tuple(o for o in others if not re.match(r"(seed|protocol\.fold)=", o)))
        if isinstance(found, HarnessError):
            return [Cell(tuple(assignment), str(found))]
        return [Cell((*others, f"category={_literal(name)}")) for name in found]

    def _list(self, overrides: tuple[str, ...]) -> list[str] | HarnessError:
        from harness.data.readers import list_categories

        if overrides not in self._found:
            try:
                self._found[overrides] = list_categories(self._compose(overrides).dataset)
            except HarnessError as error:
                self._found[overrides] = error
        return self._found[overrides]


def require_single(arguments: Sequence[str], told: str = ADD_M) -> None:
    """Refuse a command that asks for several runs where one is possible.

    Raises:
        ConfigError: as `told`, which names the argument in braces; without it, saying to add -m.
    """
    for override in parse(split_launcher(arguments)[0]):
        listed = override.key_or_group in SCALAR_KEYS and isinstance(override.value(), list)
        everything = override.key_or_group == "category" and str(override.value()).strip("'\"") == "all"
        if override.is_sweep_override() or listed or everything:
            raise ConfigError(told.format(override.input_line))


def _varied(cells: Sequence[Cell]) -> set[str]:
    """Return the overrides that not all cells have, but for those that cells are named by."""
    shared = set.intersection(*(set(cell.overrides) for cell in cells)) if cells else set()
    named = tuple(f"{key}=" for key in ("method", "dataset", "category", "seed", "protocol.fold"))
    return {o for cell in cells for o in cell.overrides if o not in shared and not o.startswith(named)}


def expected_cells(experiment: str, overrides: Sequence[str] = ()) -> list[dict[str, Any]] | None:
    """Recompose an experiment's grids for the report: what should be there, found by run key.

    Args:
        experiment: name of a YAML in `conf/experiment/`.
        overrides: what the experiment was run with besides its name.

    Returns:
        run_key, method, dataset, category, seed, fold (None where there are none), needs (see :class:`Cell`) and
        settings (what else differs between cells) of every cell; None for an experiment without grids.

    Raises:
        ConfigError, DataError, WeightsError: when a cell cannot be named, such as data that are not where they were.
    """
    from harness.identity import identify
    from harness.schema import compose

    searchpath = [override for override in overrides if override.startswith("hydra.")]
    if not compose([f"experiment={experiment}", *searchpath]).grids:
        return None
    expanded = expand([f"experiment={experiment}", *overrides], compose)
    varied = _varied(expanded)
    compose_once = lru_cache(compose)  # seeds share a configuration, and composing takes longer than all the rest
    cells = []
    for cell in expanded:
        if cell.problem is not None:
            raise ConfigError(cell.problem)
        config = compose_once(tuple(o for o in cell.overrides if not o.startswith("seed="))).copy()
        for override in cell.overrides:
            if override.startswith("seed="):
                config.seed = override.removeprefix("seed=")
        identity = identify(config)
        cells.append(
            {
                "run_key": identity.key,
                "method": dict(o.partition("=")[::2] for o in cell.overrides).get("method", config.method.name),
                "dataset": identity.name,
                "category": config.category,
                "seed": config.seed,
                "fold": config.protocol.fold,
                "needs": cell.needs,
                "settings": " ".join(o for o in cell.overrides if o in varied),
            }
        )
    return cells
