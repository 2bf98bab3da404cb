"""Completion, by pressing TAB in real shells; and what it knows, against Hydra's own composition."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import sys
import time
from pathlib import Path

import pytest
from commands import environment

from harness.choices import groups
from harness.completion import completions
from harness.schema import compose, flatten

SETUP = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(python -m harness.completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit && compinit -u -D && eval "$(python -m harness.completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "python -m harness.completion fish | source"),
}
SHELLS = [pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name}")) for name in SETUP]


class Shell:
    """An interactive shell in a terminal of its own, and what it shows."""

    def __init__(self, name: str, folder: Path) -> None:
        argv, setup = SETUP[name]
        pid, self._terminal = pty.fork()
        if pid == 0:
            os.chdir(folder)
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            home = {"PATH": path, "TERM": "xterm", "HOME": str(folder), "PS1": "$ ", "INPUTRC": "/dev/null"}
            os.execvpe(argv[0], argv, environment() | home)
        self._pid = pid
        self._number = 0
        self.run(setup)

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def read(self, until: str, seconds: float = 30) -> str:
        """Return what is shown until a pattern is."""
        shown, end = "", time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self._terminal], [], [], 0.1)[0]:
                shown += os.read(self._terminal, 65536).decode(errors="replace")
            if found := re.search(until, shown):
                return found[0]
        raise AssertionError(f"{until!r} is not shown in {shown!r}")

    def run(self, line: str) -> str:
        """Run a line and return what it prints."""
        self._number += 1
        mark = f"{self._number}-is-done"
        self.type(f"{line}; echo {self._number}-is-'done'\n")
        return self.read(mark)

    def completed(self, typed: str, to: str) -> None:
        """Type a line and TAB, and see that the line becomes another one."""
        self.type(f"{typed}\t")
        time.sleep(0.3)  # a word that is complete shows nothing that could be waited for
        self.type("\x01echo 'became'-: \x05\n")  # in front of it, so that the shell prints the line
        self.read(rf"became-: {re.escape(to)}/?\s")

    def close(self) -> None:
        os.close(self._terminal)
        os.waitpid(self._pid, 0)


@pytest.mark.parametrize("name", SHELLS)
def test_tab_completes_in_a_real_shell(name: str, tmp_path: Path) -> None:
    (tmp_path / "photos" / "gear" / "train").mkdir(parents=True)
    (tmp_path / "script.py").touch()
    shell = Shell(name, tmp_path)
    try:
        shell.completed("python -m harness.sta", "python -m harness.status")
        shell.completed(
            "python -m harness -m method=radl,patchcore_a", "python -m harness -m method=radl,patchcore_autovi"
        )
        shell.completed(
            "python -m harness dataset.root=photos category=g", "python -m harness dataset.root=photos category=gear"
        )
        shell.completed("python -m harness trainer.max_e", "python -m harness trainer.max_epochs=")
        shell.completed("python scr", "python script.py")
        shell.completed("python -m harness dataset.root=pho", "python -m harness dataset.root=photos")
    finally:
        shell.close()


@pytest.mark.parametrize("method", ["radl", "padim_vin", "draem"])
def test_every_setting_is_known(method: str) -> None:
    composed = compose([f"method={method}"])
    settings = {key.partition("=")[0] for key in flatten(composed) if not key.startswith("dataset.traits")}
    settings -= {"grids", "quick_grids", "backbone.options"}  # no settings of a command line
    offered = set()
    for start in {key.partition(".")[0] + "." * ("." in key) for key in settings}:
        offered |= set(completions(f"python -m harness method={method} {start}"))
    assert {f"{key}=" for key in settings} <= offered


def test_every_choice_is_known(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("defaults: [radl, _self_]\nname: mine\nown_key: 1\n")
    for group, names in groups().items():
        assert completions(f"python -m harness -m {group}=") == [f"{group}={name}" for name in names]
    own = f"python -m harness --config-dir {tmp_path} method=mi"
    assert completions(own) == ["method=mine"]
    assert completions(f"{own}ne method.own") == ["method.own_key="]
    assert "method.tau=" in completions(f"{own}ne method.")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("python -m harness -m method=padim,padim_a", ["method=padim,padim_autovi"]),
        ("python -m harness dataset=visa category=cap", ["category=capsules"]),
        ("python -m harness trainer.device=c", ["trainer.device=cpu", "trainer.device=cuda"]),
        ("python -m harness features.store=o", ["features.store=off"]),
        ("python -m harness -m quick=", ["quick=false", "quick=true"]),
        ("python -m harness +method.nu", []),
        ("python -m harness method=patchcore ++method.nu", ["++method.num_neighbors="]),
        ("python -m harness.tune tune.p", ["tune.prune="]),
        ("python -m harness.report strict=", ["strict=false", "strict=true"]),
        ("python -m harness.report e", ["experiment=", "explain"]),
        ("python -m harness.data ch", ["check"]),
        ("python -m harness.completion ", ["bash", "fish", "zsh"]),
        ("python -m harness --c", ["--cfg", "--config-dir"]),
        ("python -m http.ser", []),
        ("python -m harness.nothing x", []),
        ("python", []),
    ],
)
def test_what_a_line_can_go_on_with(line: str, words: list[str]) -> None:
    assert sorted(completions(line)) == words
