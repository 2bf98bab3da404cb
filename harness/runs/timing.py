"""What a method costs, measured the way papers' speed tables need it: on a trained model, nothing stored.

`timing=true` makes a run of its own kind: it trains without evaluation and reports times instead of accuracies.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from harness.runs import environment

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule

_WARM_UP = 10
_SINGLES, _BATCHES = 100, 20  # measured calls
_QUICK_SINGLES, _QUICK_BATCHES = 12, 3  # under quick=true
_SECONDS = 60.0  # slow methods stop here,
_LEAST_CALLS = 10  # but not before these


def measure(
    model: AnomalibModule, loader: Iterable[Any], device: torch.device, quick: bool = False
) -> dict[str, float]:
    """Measure inference, from an image on the device to its score and map on the host, normalisation included.

    On a CPU a frozen backbone sees the images of a batch one after the other, as in all runs.

    Single images: the first call of all (`timing/latency_first`), then after a warm-up median and 95th percentile in
    seconds. Batches of the loader's size: the median throughput (`timing/images_per_second`). Memory: the peak of the
    process (and of the GPU) while inferring, and the size of parameters and buffers, in MiB. Each call is synchronised.

    Args:
        model: trained, on its device.
        loader: batches of test images.
        device: of the model.
        quick: call it a few times only, to see that it works.
    """
    calls, batch_calls = (_QUICK_SINGLES, _QUICK_BATCHES) if quick else (_SINGLES, _BATCHES)
    batches = [batch.image for batch in islice(loader, batch_calls)]
    singles = [image[None] for batch in batches for image in batch][:calls]
    model.eval()
    environment.reset_peak_memory()
    with torch.inference_mode():
        first = _seconds(model, singles[0].to(device))
        latencies = _repeat(model, singles, calls)
        whole = [batch for batch in batches if len(batch) == len(batches[0])]
        throughput = [len(whole[0]) / seconds for seconds in _repeat(model, whole, batch_calls)]
    peaks = environment.peak_memory()
    tensors = [*model.parameters(), *model.buffers()]
    measured = {
        "timing/latency_first": first,
        "timing/latency_median": float(np.median(latencies)),
        "timing/latency_p95": float(np.percentile(latencies, 95)),
        "timing/images_per_second": float(np.median(throughput)),
        "timing/inference_peak_memory": peaks["memory/host_peak"],
        "timing/model_size": sum(tensor.nbytes for tensor in tensors) / 2**20,
    }
    if "memory/device_peak" in peaks:
        measured["timing/inference_peak_device_memory"] = peaks["memory/device_peak"]
    return measured


def _repeat(model: AnomalibModule, inputs: list[torch.Tensor], calls: int) -> list[float]:
    """Return the seconds of warmed-up calls, over the inputs again and again."""
    for call in range(min(_WARM_UP, calls // 2)):
        _seconds(model, inputs[call % len(inputs)].to(model.device))
    started = time.perf_counter()
    seconds: list[float] = []
    while len(seconds) < calls:
        seconds.append(_seconds(model, inputs[len(seconds) % len(inputs)].to(model.device)))
        if time.perf_counter() - started > _SECONDS and len(seconds) >= _LEAST_CALLS:
            break
    return seconds


def _seconds(model: Any, images: torch.Tensor) -> float:
    started = time.perf_counter()
    output = model.model(model.pre_processor(images))
    for value in (output.pred_score, output.anomaly_map):
        if value is not None:
            value.cpu()  # waits for the device
    return time.perf_counter() - started
