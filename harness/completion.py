"""`python -m harness.completion bash`: a script that lets a shell complete the harness's commands.

Hydra's own completion knows programs and files, not `python -m`, and takes seconds a TAB. Here the shell asks this
module, which reads file names, YAMLs and the sources of the options, and imports nothing that takes time.
"""

from __future__ import annotations

import ast
import itertools
import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.choices import CONF_DIR, config_folders, groups
from harness.entry import call

USAGE = """python -m harness.completion bash|zsh|fish

  Prints a script that completes commands, choices, categories and settings of the harness. For a shell that is open:

    eval "$(python -m harness.completion bash)"        bash; in ~/.bashrc for those to come
    eval "$(python -m harness.completion zsh)"         zsh, after compinit; in ~/.zshrc
    python -m harness.completion fish | source         fish; in ~/.config/fish/config.fish"""

MODULES = tuple(
    f"harness{name}" for name in ("", ".audit", ".completion", ".data", ".doctor", ".report", ".status", ".tune")
)
FLAGS = {
    "harness": ("-m", "--multirun", "--config-dir", "--cfg", "--help", "--hydra-help", "--debug"),
    "harness.completion": ("--help",),
}
_FLAGS = ("--config-dir", "--help", "--debug")  # of the others
_OPTIONS = {  # further options: file and class that declare them, and their prefix
    "harness.report": [("report/options.py", "ReportOptions", "")],
    "harness.tune": [("tuning/options.py", "TuneOptions", "tune."), ("tuning/options.py", "Options", "")],
}
_NO_OPTIONS = ("config_dir", "overrides", "tune", "tracking")
_BOOLEAN = ("true", "false")
_FIRST = {"harness.completion": ("bash", "zsh", "fish"), "harness.data": ("check",), "harness.report": ("explain",)}
_VALUES = {"backbone.weights": ("hub", "random"), "correction": ("holm", "bh")}

BASH = r"""_harness_completion() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\n' word
    COMPREPLY=()
    if [[ $line =~ [[:space:]]-m[[:space:]]+h ]]; then
        COMPREPLY=($("$1" -m harness.completion query "$line" 2>/dev/null))
        word=${line##*[[:space:]]}
        # bash puts the answer in the place of what stands after its last word break
        [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
        [[ ${COMPREPLY[0]} == *[=.] ]] && compopt -o nospace 2>/dev/null
    fi
    if [[ ${#COMPREPLY[@]} == 0 && -n $_harness_others && ! $line =~ [[:space:]]-m[[:space:]]+harness ]]; then
        "$_harness_others" "$@"
    fi
}
_harness_others=$(complete -p python 2>/dev/null | sed -n 's/.* -F \([^ ]*\).*/\1/p')
[[ $_harness_others == _harness_completion ]] && _harness_others=
complete -o bashdefault -o default -F _harness_completion python python3
"""
ZSH = r"""_harness_completion() {
    local line=${BUFFER[1,CURSOR]}
    local -a found
    if [[ $line =~ '[[:space:]]-m[[:space:]]+h' ]]; then
        found=(${(f)"$(${words[1]} -m harness.completion query $line 2>/dev/null)"})
    fi
    if (( $#found )); then
        compadd -Q -S '' -- ${(M)found:#*[=.]}
        compadd -Q -- ${found:#*[=.]}
    elif [[ $line == *=* ]]; then
        compset -P '*='
        _files
    else
        _python "$@" 2>/dev/null || _files
    fi
}
compdef _harness_completion python python3
"""
FISH = r"""function __harness_completion
    set -l words (commandline -opc)
    $words[1] -m harness.completion query (commandline -cp | string collect) 2>/dev/null
end
for name in python python3
    complete -c $name -n "string match -qr -- '\s-m\s+h' (commandline -cp)" -a "(__harness_completion)"
end
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def main(arguments: Sequence[str]) -> int:
    """Print the script of a shell, or what a command line can go on with; return the exit code."""
    if {"-h", "--help"} & set(arguments[:1]):
        print(USAGE)
        return 0
    if arguments[:1] == ["query"]:
        print("\n".join(completions(arguments[1])))
        return 0
    if len(arguments) != 1 or arguments[0] not in SCRIPTS:
        print(USAGE, file=sys.stderr)
        return 2
    print(SCRIPTS[arguments[0]], end="")
    return 0


def completions(line: str) -> list[str]:
    """Return the words that the last one of a command line may become.

    Args:
        line: up to the cursor, such as `python -m harness method=pa`.
    """
    words = line.split()
    word = "" if line[-1:].isspace() or not words else words.pop()
    if words[-1:] == ["-m"] and not any(other.startswith("harness") for other in words):
        return [module for module in MODULES if module.startswith(word)]
    module = next((m for flag, m in itertools.pairwise(words) if flag == "-m"), "")
    if module not in MODULES or words[-1] in ("--config-dir", "-cd"):
        return []
    given = words[words.index(module) + 1 :]
    if words[-1] == "--cfg":
        return [choice for choice in ("job", "hydra", "all") if choice.startswith(word)]
    if word.startswith("-"):
        return [flag for flag in FLAGS.get(module, _FLAGS) if flag.startswith(word)]
    if module == "harness.completion":
        return [first for first in _FIRST[module] if first.startswith(word) and not given]
    line_now = _Line(module, given)
    return sorted(set(line_now.values(word) if "=" in word else line_now.keys(word)))


class _Line:
    """What stands on a command line before the word that is completed."""

    def __init__(self, module: str, words: Sequence[str]) -> None:
        self._module, self._words = module, words
        self._folders = [CONF_DIR, *config_folders(words)]
        self._groups = groups(self._folders[1:])
        self._given = dict(word.lstrip("+").partition("=")[::2] for word in words if "=" in word)

    def keys(self, word: str) -> Iterator[str]:
        """Yield what a word without `=` may become: keys, or what they have in common up to a dot."""
        bare = word.lstrip("+~")
        signs = word[: len(word) - len(bare)]
        if not self._words and not signs:
            yield from (first for first in _FIRST.get(self._module, ()) if first.startswith(word))
        for key in {*self._groups, *self._settings()}:
            stem, dot, _ = key[len(bare) :].partition(".")
            if key.startswith(bare) and (bare or not dot or stem not in self._groups):
                yield f"{signs}{bare}{stem}{dot or '='}"

    def values(self, word: str) -> Iterator[str]:
        """Yield what a word `key=value` may become; of a list, the last item is completed."""
        key, _, value = word.partition("=")
        before, comma, last = value.rpartition(",")
        bracket = "[" if last.startswith("[") else ""
        taken = before.strip("[").split(",")
        for choice in self._choices(key.lstrip("+~")):
            if choice.startswith(last[len(bracket) :]) and choice not in taken:
                yield f"{key}={before}{comma}{bracket}{choice}"

    def _choices(self, key: str) -> Sequence[str]:
        if key in self._groups:
            return self._groups[key]
        if key == "category":
            return [*self._categories(), "all"]
        return _VALUES.get(key) or self._settings().get(key, ())

    def _settings(self) -> dict[str, Sequence[str]]:
        """Return all keys, with the values that are known of them."""
        found: dict[str, Sequence[str]] = {}
        for group in self._groups.keys() & {"method", *self._given} - {"experiment"}:
            found |= {f"{group}.{key}": () for key in self._keys_of(group, self._chosen(group, "radl"))}
        found |= _schema()
        for file, declared, prefix in _OPTIONS.get(self._module, ()):
            found |= {f"{prefix}{key}": values for key, values in _fields(file, declared).items()}
        return {key: values for key, values in found.items() if key not in _NO_OPTIONS}

    def _chosen(self, group: str, default: str) -> str:
        return self._given.get(group, default).rpartition(",")[2]

    def _categories(self) -> list[str]:
        """Return the categories on disk where the line names a folder, else those that the data set's YAML lists."""
        if root := self._given.get("dataset.root"):
            return sorted(path.parent.name for path in Path(root).expanduser().glob("*/train"))
        dataset = self._chosen("dataset", "toy")
        return next((tree["categories"] or [] for tree in self._trees("dataset", dataset) if "categories" in tree), [])

    def _keys_of(self, group: str, name: str) -> set[str]:
        return {key for tree in self._trees(group, name) for key in tree} - {"defaults"}

    def _trees(self, group: str, name: str) -> Iterator[dict[str, Any]]:
        """Yield the YAML of a choice, and those of the same group that it builds on."""
        import yaml

        for folder in self._folders:
            path = folder / group / f"{name}.yaml"
            if path.is_file():
                tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
                yield tree
                for parent in tree.get("defaults", []):
                    if isinstance(parent, str) and parent != "_self_":
                        yield from self._trees(group, parent)


@lru_cache(maxsize=1)
def _schema() -> dict[str, Sequence[str]]:
    """Return the keys of the typed configuration, with their values where these are choices."""
    flat: dict[str, Sequence[str]] = {}
    for key, annotation in _annotations("schema.py", "Config").items():
        section = _fields("schema.py", annotation)
        flat |= {f"{key}.{name}": values for name, values in section.items()}
        if not section and key not in ("method", "grids", "quick_grids"):
            flat[key] = _BOOLEAN if annotation == "bool" else ()
    for node in _source("schema.py").body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "CHOICES" and node.value:
            flat |= {".".join(key): values for key, values in ast.literal_eval(node.value).items()}
    return flat


def _fields(file: str, declared: str) -> dict[str, Sequence[str]]:
    """Return the fields of a dataclass in a source of ours, with true and false for booleans; {} for no class."""
    return {name: _BOOLEAN if kind == "bool" else () for name, kind in _annotations(file, declared).items()}


def _annotations(file: str, declared: str) -> dict[str, str]:
    classes = [node for node in _source(file).body if isinstance(node, ast.ClassDef) and node.name == declared]
    return {
        field.target.id: ast.unparse(field.annotation)
        for node in classes
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


@lru_cache(maxsize=4)
def _source(file: str) -> ast.Module:
    """Return a source of ours, parsed: to import it would take seconds."""
    return ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(call(main, "harness.completion"))
