"""timing=true: a run of its own kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.identity import identify
from harness.runs.execute import execute
from harness.schema import compose


@pytest.mark.parametrize("method", ["patchcore", "radl"])
def test_a_method_is_measured_without_store_and_without_accuracies(method: str, tmp_path: Path, toy_root: Path) -> None:
    place = [f"tracking.directory={tmp_path}/runs", f"dataset.root={toy_root}"]
    small = [f"method={method}", "preprocess.size=64", "trainer.max_epochs=1"]
    config = compose([*small, *place, "timing=true"])
    outcome = execute(config)
    assert outcome.status == "finished", outcome.reason
    found = outcome.metrics
    assert not [name for name in found if not name.startswith("timing/")]
    assert 0 < found["timing/latency_median"] <= found["timing/latency_p95"]
    assert found["timing/latency_first"] > 0 and found["timing/train"] > 0
    # Measured one after the other, so on a busy machine they may differ; a wrong unit would by more.
    assert found["timing/images_per_second"] > 0.1 / found["timing/latency_median"]
    assert 30 < found["timing/model_size"] < 120  # ResNet18 is 45 MiB, less its unused end
    assert found["timing/inference_peak_memory"] > 100
    assert identify(config).key != identify(compose([*small, *place])).key
    assert not list(tmp_path.glob("runs/features/*/*/*.npy"))
    assert execute(config).status == "skipped"
