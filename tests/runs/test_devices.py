"""Runs queue for devices through real lock files and processes; the devices are names."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import worker_tasks

from harness.runs import devices

SPAWN = multiprocessing.get_context("spawn")


def test_processes_share_devices_without_meeting_on_one(tmp_path: Path) -> None:
    logs = [tmp_path / f"{number}.log" for number in range(5)]
    processes = [SPAWN.Process(target=worker_tasks.hold, args=(["0", "1"], tmp_path, 0.5, log)) for log in logs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    held = [log.read_text().split() for log in logs]
    assert {line[0] for line in held} == {"0", "1"}
    assert {line[3] for line in held} == {"False"}  # torch was not needed
    for device in "01":
        spans = sorted((float(start), float(end)) for index, start, end, _ in held if index == device)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_a_killed_process_frees_its_device(tmp_path: Path) -> None:
    holder = SPAWN.Process(target=worker_tasks.hold, args=(["0"], tmp_path, 600, tmp_path / "first.log"))
    holder.start()
    while not (tmp_path / "first.held").exists():
        time.sleep(0.05)
    holder.kill()
    holder.join()
    with devices.first_free(["0"], tmp_path) as index:
        assert index == 0


def test_a_process_comes_back_to_the_device_that_it_knows(tmp_path: Path) -> None:
    with devices.first_free(["0", "1"], tmp_path) as first, devices.first_free(["0", "1"], tmp_path) as second:
        assert {first, second} == {0, 1}
    with devices.first_free(["0", "1"], tmp_path) as again:
        assert again == second


def test_no_run_on_a_processor_waits() -> None:
    with devices.claim("cpu") as first, devices.claim("cpu") as second:
        assert first == second == 0


def test_a_device_has_one_name_however_a_process_numbers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes that each see one GPU as their number 0; the driver's answers are stood in for: no GPU is here."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for uuid in ("8c7d", "19e0"):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, uuid=uuid: SimpleNamespace(uuid=uuid))
        assert devices._names() == [uuid]
    for part in ("MIG-1a", "MIG-2b"):  # of the same GPU
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", part)
        assert devices._names() == [part]
