"""A load on an MLflow store: processes that execute runs of the harness whose training is left out.

All else is what `python -m harness` does: the run is named and looked for, claimed, opened with its parameters and
tags, logged epoch by epoch, given its artifacts and finished. A worker is told what to do by lines of JSON:

    {"uri": …, "directory": …, "seeds": [0, 1, …]}      in: do these runs in a store
    {"outcomes": {"0": ["busy", "finished"], …}, …}     out: what became of them, attempt by attempt, and when
"""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

EPOCHS = 10
EPOCH_METRICS = (
    "train/loss", "test/image_auroc", "test/image_ap", "test/pixel_auroc", "test/pixel_ap", "test/aupro",
    "test/f1_max", "test/accuracy", "test/threshold", "test/tpr_at_tnr_99", "test/tpr_at_tnr_95",
    "test/tpr_at_tnr_90", "test/recall_at_precision_99.6", "test/recall_at_precision_95",
    "test/recall_at_precision_90", "val/image_auroc", "val/image_ap", "val/pixel_auroc", "val/pixel_ap", "val/aupro",
    "val/f1_max", "val/accuracy", "val/threshold", "val/tpr_at_tnr_99", "val/tpr_at_tnr_95", "val/tpr_at_tnr_90",
    "val/recall_at_precision_99.6", "val/recall_at_precision_95", "val/recall_at_precision_90", "train/distance",
)  # fmt: skip
LAST_METRICS = (
    "time/train", "time/evaluation", "speed/images_per_second", "memory/host_peak", "oracle/image_auroc",
    "oracle/epoch", "threshold/f1_test/value", "threshold/f1_test/f1",
)  # fmt: skip
IMAGES = 83  # of bottle's test set
_ROOT = Path(__file__).resolve().parents[1]
_MEETING_SECONDS = 120.0


class Done(NamedTuple):
    """What a worker did with one order: what became of each seed, attempt by attempt, and when it began and ended."""

    outcomes: dict[int, list[str]]
    began: float
    ended: float


class Worker:
    """A process that does orders, on this host or on one that it pretends to be.

    Args:
        root: of the toy data.
        environment: variables besides this process's own.
        host: name of the host to be, in a UTS namespace of its own; this one's where none is given.
    """

    def __init__(self, root: Path, environment: Mapping[str, str] | None = None, host: str | None = None) -> None:
        own = {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"} | dict(environment or {})
        command = [*(elsewhere() if host else []), sys.executable, "-m", "benchmarks.tracking_load", str(root)]
        self._process = subprocess.Popen(
            [*command, *([host] if host else [])], cwd=_ROOT, env=os.environ | own,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def order(self, **what: Any) -> None:
        """Tell the worker what to do; it begins when it has done what it was told before."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Done:
        """Wait until an order is done."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {self._process.wait()}")
        found = json.loads(line)
        return Done({int(seed): tries for seed, tries in found["outcomes"].items()}, found["began"], found["ended"])

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def workers(count: int, root: Path, environment: Mapping[str, str] | None = None) -> Iterator[list[Worker]]:
    """Start workers of this host that are ready to go, and end them."""
    started: list[Worker] = []
    try:
        started += [Worker(root, environment) for _ in range(count)]
        for worker in started:
            worker.order(seeds=[])
        for worker in started:
            worker.answer()
        yield started
    finally:
        for worker in started:
            worker.stop()


def elsewhere() -> list[str]:
    """Return the command that gives a process a host name of its own."""
    return ["unshare", "--uts"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--uts"]


def value(seed: int, metric: str, epoch: int) -> float:
    """Return what a run of this seed measures: another number for every run, metric and epoch."""
    index = (*EPOCH_METRICS, *LAST_METRICS).index(metric)
    return ((seed * 1009 + index) * 31 + epoch) / 2**24


def pretend(config: Any, identity: Any, run: Any, gpu: int, watcher: Any = None) -> dict[str, float]:
    """Write what training and evaluation would have written, in as many requests."""
    del gpu, watcher
    seed = int(config.seed)
    run.tag({"harness.device": "cpu: none", "harness.trainable": "false", "harness.features": "computed"})
    for epoch in range(EPOCHS):
        run.log({name: value(seed, name, epoch) for name in EPOCH_METRICS}, step=epoch)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        _write_artifacts(Path(folder), config, seed)
        run.tag({"harness.artifacts_bytes": str(sum(path.stat().st_size for path in Path(folder).iterdir()))})
        run.artifacts(Path(folder))
    final = {name: value(seed, name, EPOCHS - 1) for name in LAST_METRICS}
    run.log(final, step=EPOCHS - 1)
    return final


def _write_artifacts(folder: Path, config: Any, seed: int) -> None:
    import numpy as np
    import pandas as pd
    from omegaconf import OmegaConf

    from harness.runs import environment

    names = [f"test/defect/{i:03d}.png" for i in range(IMAGES)]
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    (folder / "environment.txt").write_text(environment.describe())
    (folder / "split.csv").write_text("image,split\n" + "".join(f"{name},test\n" for name in names))
    frame = pd.DataFrame(
        {
            "image": names, "label": np.arange(IMAGES, dtype=np.int8) % 2, "defect": "defect", "split": "test",
            "selection": "last", "score": np.full(IMAGES, seed, np.float32),
        }
    )  # fmt: skip
    frame.to_parquet(folder / "scores.parquet", index=False)


def _work(root: Path, host: str | None) -> None:
    """Do orders until there are no more."""
    if host:
        socket.sethostname(host)
    from harness.runs import execute
    from harness.schema import compose

    execute._import_train = lambda: pretend
    gc.freeze()  # as the real import does
    config = compose(["method=padim", "dataset=toy", f"dataset.root={root}", "experiment=adhoc"])
    answers, sys.stdout = sys.stdout, sys.stderr  # MLflow prints the address of every run on a server
    for line in sys.stdin:
        order = json.loads(line)
        config.tracking.uri, config.tracking.directory = order.get("uri", ""), order.get("directory", "runs")
        began = time.monotonic()
        outcomes = _sweep(config, order)
        told = {"outcomes": outcomes, "began": began, "ended": time.monotonic()}
        print(json.dumps(told), file=answers, flush=True)


def _sweep(config: Any, order: Mapping[str, Any]) -> dict[int, list[str]]:
    """Do the runs of an order, and those that others work on again at the end, as a sweep does."""
    outcomes: dict[int, list[str]] = {}
    for seed in order.get("together", ()):
        _meet(Path(order["meeting"]), str(seed), order["me"])
        outcomes.setdefault(seed, []).append(_execute(config, seed))
    seeds: Sequence[int] = order["seeds"]
    while seeds:
        for seed in seeds:
            outcomes.setdefault(seed, []).append(_execute(config, seed))
        seeds = [seed for seed in seeds if outcomes[seed][-1] == "busy"]
        time.sleep(0.2 if seeds else 0)
    return outcomes


def _execute(config: Any, seed: int) -> str:
    from harness.runs.execute import execute

    config.seed = seed
    outcome = execute(config)
    return outcome.status if outcome.status != "failed" else f"failed: {outcome.reason}"


def _meet(folder: Path, occasion: str, me: str) -> None:
    """Wait until another worker has come too, so that both ask for the same run at the same moment."""
    (folder / f"{occasion}-{me}").touch()
    until = time.monotonic() + _MEETING_SECONDS
    while len(list(folder.glob(f"{occasion}-*"))) < 2:
        if time.monotonic() > until:
            raise TimeoutError(f"no other worker comes to {occasion}")
        time.sleep(0.001)


if __name__ == "__main__":
    _work(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
