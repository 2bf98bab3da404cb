"""What is printed into pipes, terminals and logs that know only ASCII."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from commands import environment

LIVE = """
import time
from harness.runs import progress
progress.LINE_SECONDS = 0.15
with progress.live_line("radl/tile/0", 3) as report:
    for epoch in range(3):
        time.sleep(0.6)
        report(epoch, {"train/loss": 1.5, "test/aupro": 0.25 * epoch})
"""
TABLE = """
from rich.table import Table
from harness.terminal import console
table = Table()
for number in range(30):
    table.add_column(f"category_{number}")
table.add_row(*["85.00 ± 7.07 (2)"] * 30)
console().print(table)
console().print("radl layers=[layer2] :warning: [bold]")
"""
SPOKEN = """
from harness.terminal import prepare_streams
prepare_streams()
import sys
for stream in (sys.stdout, sys.stderr):
    print("85 ± 7 – 12×3 … é \\udcff", file=stream)
"""


def variables(**more: str) -> dict[str, str]:
    """Return an environment as it is where nobody has set anything about terminals."""
    kept = {name: value for name, value in environment().items() if name not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    return kept | {"TERM": "xterm-256color"} | more


def in_pipes(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=variables(**more), capture_output=True, text=True, timeout=60
    )


def in_terminal(code: str, columns: int = 100, **more: str) -> str:
    """Return what a program shows on a terminal."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", code], env=variables(**more), stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: nobody has the other end any more
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(60) == 0, shown
    return shown.decode()


@pytest.mark.parametrize("forced", [{}, {"FORCE_COLOR": "1", "CI": "true"}, {"NO_COLOR": "1"}])
def test_in_a_pipe_a_long_run_is_a_line_now_and_then(forced: dict[str, str]) -> None:
    done = in_pipes(LIVE, **forced)
    assert done.returncode == 0 and not done.stdout
    assert not {"\r", "\x1b"} & set(done.stderr)
    lines = done.stderr.splitlines()
    assert len(lines) >= 5
    assert lines[0].startswith("radl/tile/0  epoch 0/3  at work for ")
    middle = next(line for line in lines if "epoch 1/3" in line)
    assert "loss 1.5000  AUPRO 0.0000" in middle and middle.endswith("to go")


def test_every_line_reaches_a_pipe_at_once() -> None:
    code = LIVE.replace("time.sleep(0.6)", "time.sleep(5)")
    process = subprocess.Popen([sys.executable, "-c", code], env=variables(), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert "epoch 0/3" in process.stderr.readline()
    process.kill()
    process.wait()
    process.stderr.close()


def test_a_run_of_less_than_a_minute_says_nothing_in_a_pipe() -> None:
    assert in_pipes(LIVE.replace("0.15\n", "60\n")).stderr == ""


def test_on_a_terminal_one_line_changes_and_is_gone_at_the_end() -> None:
    shown = in_terminal(LIVE)
    assert "\x1b[2K" in shown and "AUPRO 0.2500" in shown
    assert shown.rstrip().endswith(("\x1b[2K", "\x1b[?25h"))
    assert "at work for" not in shown
    assert "\x1b[3" not in in_terminal(LIVE, NO_COLOR="1")  # no colour
    assert "at work for" in in_terminal(LIVE, TERM="dumb")


def test_tables_are_as_wide_as_they_need_to_be_where_no_width_is_known() -> None:
    done = in_pipes(TABLE, FORCE_COLOR="1")
    assert done.returncode == 0, done.stderr
    table, _, rest = done.stdout.rpartition("┘\n")
    assert {len(line) for line in table.splitlines()[:-1]} == {30 * 19 + 1}
    assert table.count("85.00 ± 7.07 (2)") == 30 and "\x1b" not in done.stdout
    assert rest == "radl layers=[layer2] :warning: [bold]\n"
    assert max(map(len, in_pipes(TABLE, COLUMNS="90").stdout.splitlines())) <= 90
    assert max(len(line.rstrip()) for line in in_terminal(TABLE, columns=70).splitlines()) <= 75  # and a few codes


@pytest.mark.parametrize("ascii_only", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "ascii:strict"}])
def test_what_ascii_lacks_is_spelled_out(ascii_only: dict[str, str]) -> None:
    done = in_pipes(SPOKEN, **ascii_only)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr == "85 +/- 7 - 12x3 ... \\xe9 \\udcff\n"
    table = in_pipes("from harness.terminal import prepare_streams; prepare_streams()\n" + TABLE, **ascii_only)
    assert table.returncode == 0 and table.stdout.isascii() and "85.00 +/- 7.07 (2)" in table.stdout


def test_utf_8_stays_and_a_name_that_is_no_text_does_no_harm() -> None:
    assert in_pipes(SPOKEN, PYTHONIOENCODING="utf-8").stdout == "85 ± 7 – 12×3 … é \\udcff\n"
    done = in_pipes(SPOKEN, LC_ALL="C", LANG="C")
    assert done.returncode == 0 and done.stdout.startswith("85 ")


def test_a_sweep_ends_in_the_narrow_terminal_that_it_has(tmp_path: Path) -> None:
    code = """
from omegaconf import OmegaConf
from harness.grid import Cell
from harness.runs.outcome import Outcome
from harness.summary import conclude
results = [
    (Cell((f"method=radl", f"category={c}", f"seed={s}")),
     Outcome("finished", "radl", "toy", c, s, f"{c}{s}", "id", {"test/image_auroc": 0.5}))
    for c in ("granite_tile", "bolted_plate", "conveyor_rail", "another_one") for s in (0, 1)
]
tracking = OmegaConf.create({"directory": "runs", "uri": "sqlite:///runs/mlflow.db"})
conclude(results, tracking, [], interrupted=False)
"""
    lines = in_pipes("from harness.terminal import prepare_streams; prepare_streams()\n" + code,
                     PYTHONIOENCODING="ascii").stdout.splitlines()  # fmt: skip
    assert len({len(line) for line in lines if line[:1] in ("|", "+")}) == 1
    shown = in_terminal(code, columns=60)
    rows = [line for line in shown.splitlines() if "50.00 ± 0.00 (2)" in line]
    assert len(rows) == 4  # a row a category: a row a method would be broken
    assert len([line for line in in_pipes(code).stdout.splitlines() if line.count("50.00 ± 0.00 (2)") == 4]) == 1


def test_long_names_on_a_narrow_terminal_leave_room_for_the_numbers() -> None:
    code = """
from omegaconf import OmegaConf
from harness.grid import Cell
from harness.runs.outcome import Outcome
from harness.summary import conclude
settings = ("layers=[layer1,layer2,layer3] method.coreset_sampling_ratio=0.25", "num_neighbors=9")
results = [
    (Cell(("method=patchcore", f"method.{setting}", f"category={c}", f"seed={s}")),
     Outcome("finished", "patchcore", "automotive_visual_inspection", c, s, f"{c}{s}{setting}", "id",
             {"test/image_auroc": (1 + s + 2 * i) / 10}))
    for c in ("engine_wiring", "underbody_pipes") for i, setting in enumerate(settings) for s in (0, 1)
]
tracking = OmegaConf.create({"directory": "runs", "uri": "sqlite:///runs/mlflow.db"})
conclude(results, tracking, [], interrupted=False)
"""
    shown = in_terminal(code, columns=80)
    assert shown.count("15.00 ± 7.07 (2)") == shown.count("35.00 ± 7.07 (2)") == 2, shown
    assert {len(line) for line in shown.splitlines() if line.startswith("│")} <= set(range(81)), shown
