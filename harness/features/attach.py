"""Give a model the stored features of a run's images, extracting what nobody has extracted before."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from harness.data.fingerprint import image_hash
from harness.data.geometry import Geometry
from harness.data.records import Sample
from harness.errors import ConfigError
from harness.features.extraction import Extraction, timed
from harness.features.modules import (
    ImageByImage,
    ResidentSource,
    Source,
    StoredFeatures,
    StoredSource,
    tell_once,
)
from harness.features.placeholder import placeholders
from harness.features.policy import Frozen, find_frozen, may_store
from harness.features.store import Context, DiskShelf, Kept, Maps, MemoryShelf, Shelf
from harness.schema import stores_half

if TYPE_CHECKING:
    from anomalib.models.components import AnomalibModule

_LIBRARIES = ("torch", "torchvision", "timm", "pillow")  # that make features of files
_TIMED_IMAGES = 8
_GIB = 2**30


@dataclass
class Served:
    """What became of a run's features.

    Args:
        cached: whether they come from the store.
        reason: why not, when they do not.
        seconds_per_image: what computing them costs on this device.
        module: what serves them, when they do.
    """

    cached: bool
    reason: str = ""
    seconds_per_image: float = 0.0
    module: StoredFeatures | None = None

    def saved_seconds(self) -> float:
        """Return what the features served so far would have cost to compute."""
        return self.seconds_per_image * self.module.served if self.module is not None else 0.0


def attach(
    model: AnomalibModule,
    config: DictConfig,
    weights: str,
    samples: Sequence[Sample],
    geometry: Geometry,
    device: torch.device,
    device_name: str,
) -> Served:
    """Make a model read stored features where it may; the row of an image is its place among the samples.

    Whether it may is the policy's to say. A store without room, or that cannot be written, is no reason to fail: the
    run then computes its features, and gets the same numbers. On a CPU computed features are those of one image at a
    time, like stored ones.

    Args:
        model: with its pre-processor, which normalises.
        config: of the run.
        weights: what `Identity.weights` says.
        samples: every image of the run.
        geometry: how an image becomes a model input.
        device: where the model will be.
        device_name: what the cost of extraction is recorded under.
    """
    found = find_frozen(model, config)
    if isinstance(found, str):
        return _computed(config, found)
    _keep_outputs(found.extractor)
    if device.type == "cpu":
        found = _one_at_a_time(found)
    if reason := may_store(config):
        return _computed(config, reason)
    work = _Work(model, found, config, weights, samples, geometry, device, device_name)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            served = work.attach()
    except (OSError, _NoRoomError) as error:
        computed = _computed(config, f"the feature store {config.features.directory} is of no use ({error})")
        tell_once(f"T{computed.reason[1:]}: features are computed in every epoch; the numbers stay the same.")
        return computed
    # Stored features are of normalised images, and a GPU's arithmetic would drop what a placeholder says.
    normalise: Any = model.pre_processor
    normalise.transform = normalise.export_transform = None
    return served


def _computed(config: DictConfig, reason: str) -> Served:
    if stores_half(config.features):  # it is in the run key
        raise ConfigError(
            f"features.dtype={config.features.dtype} means stored features, and there are none: {reason}. "
            "Leave features.dtype=float32."
        )
    return Served(False, reason)


def _keep_outputs(extractor: nn.Module) -> None:
    """Let no activation write over the layer before it: a layer's map must not depend on the layers asked for."""
    for module in extractor.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]


class _NoRoomError(Exception):
    """The features of one run are larger than the limit."""


@dataclass
class _Work:
    """One run's extraction: the arguments of :func:`attach`, and what is done with them."""

    model: AnomalibModule
    frozen: Frozen
    config: DictConfig
    weights: str
    samples: Sequence[Sample]
    geometry: Geometry
    device: torch.device
    device_name: str

    def __post_init__(self) -> None:
        self.images = [image_hash(sample) for sample in self.samples]
        self.layers = [str(layer) for layer in _backbone(self.frozen.extractor).layers]
        self.context = _context(self.config, self.weights, self.device)
        normalise: Any = copy.deepcopy(self.model.pre_processor)  # what the model loses with stored features
        self.extraction = Extraction(
            self.frozen.extractor, normalise, self.samples, self.geometry, self.device, self.config.features.dtype
        )

    def attach(self) -> Served:
        shelf = _shelf(self.config, self.context)
        maps = self._maps(shelf)
        cost = shelf.cost(self.device_name, self.layers)
        if cost is None:
            cost = self.extraction.seconds(range(min(_TIMED_IMAGES, len(self.samples))))
            with suppress(OSError):  # a store that may only be read
                shelf.set_cost(self.device_name, self.layers, cost)
        stored = StoredFeatures(self.frozen.extractor, StoredSource(maps, self.device, self.extraction.again))
        if self.frozen.extractor is self.frozen.module:
            _kept.clear()
            if self.device.type == "cuda" and self._fits(sum(_single_size(m) for m in maps)):
                stored.source = ResidentSource(stored.source.gather(torch.arange(len(maps))))
            setattr(self.frozen.parent, self.frozen.name, stored)
            return Served(True, seconds_per_image=cost, module=stored)
        _replace(self.frozen.module, self.frozen.extractor, stored)
        resident, seconds = self._resident(stored)
        if resident is None:  # the rest of the part then works on stored maps in every step
            return Served(True, seconds_per_image=cost, module=stored)
        module = StoredFeatures(self.frozen.module, resident)
        setattr(self.frozen.parent, self.frozen.name, module)
        return Served(True, seconds_per_image=cost + seconds, module=module)

    def _maps(self, shelf: Shelf) -> list[Kept]:
        """Return the maps of every image, after extracting those that are missing."""
        for _ in range(3):  # what was there a moment ago may be evicted by another run
            maps = [shelf.read(image, self.layers) for image in self.images]
            missing = [row for row, found in enumerate(maps) if found is None]
            if not missing:
                return [found for found in maps if found is not None]
            with shelf.writing(self.images):
                self._fill(shelf, [row for row in missing if shelf.read(self.images[row], self.layers) is None])
        raise _NoRoomError("its features are evicted as fast as they are written")

    def _fill(self, shelf: Shelf, rows: list[int]) -> None:
        rows = list({self.images[row]: row for row in rows}.values())  # equal images are one
        if not rows:
            return
        seconds = 0.0
        for done, (row, maps, spent) in enumerate(self.extraction.of(rows)):
            if done == 0 and not shelf.make_room(_size(maps) * len(rows), self.images):
                raise _NoRoomError(f"{_size(maps) * len(self.images) / _GIB:.1f} GiB do not fit features.limit_gib")
            shelf.write(self.images[row], maps)
            seconds += spent
        if len(rows) >= _TIMED_IMAGES or shelf.cost(self.device_name, self.layers) is None:
            shelf.set_cost(self.device_name, self.layers, seconds / len(rows))

    def _resident(self, stored: StoredFeatures) -> tuple[Source | None, float]:
        """Return the features that the whole frozen part makes of all images, and what that costs an image."""
        key = (self.context.name, str(self.device), str(self.frozen.module.description), *self.images)
        if key in _kept:
            return _kept[key]
        _kept.clear()
        module = self.frozen.module.to(self.device).eval()
        whole: torch.Tensor | None = None
        seconds = 0.0
        for row in range(len(self.samples)):
            image = placeholders(torch.tensor([row], device=self.device), self.geometry.size)
            if whole is None:
                module(image)  # warm-up
            reading, _ = timed(stored, image, self.device)
            spent, features = timed(module, image, self.device)
            seconds += max(0.0, spent - reading)
            if whole is None:
                if not self._fits(features.nbytes * len(self.samples)):
                    stored.served = 0  # by the model
                    return None, 0.0
                layout = torch.channels_last if _is_channels_last(features) else torch.contiguous_format
                whole = torch.empty((len(self.samples), *features.shape[1:]), device=self.device, memory_format=layout)
            whole[row] = features[0]
        assert whole is not None
        _kept[key] = ResidentSource(whole), seconds / len(self.samples)
        return _kept[key]

    def _fits(self, size: int) -> bool:
        if self.device.type == "cuda" and size > torch.cuda.mem_get_info(self.device)[0] / 2:
            return False
        return size <= self.config.features.resident_gib * _GIB


# The features of the process's last run, for the next seed of the same category.
_kept: dict[tuple[str, ...], tuple[ResidentSource, float]] = {}


def _one_at_a_time(found: Frozen) -> Frozen:
    single = ImageByImage(found.extractor)
    if found.extractor is found.module:
        setattr(found.parent, found.name, single)
        return found._replace(module=single, extractor=single)
    _replace(found.module, found.extractor, single)
    return found._replace(extractor=single)


def _replace(root: nn.Module, old: nn.Module, new: nn.Module) -> None:
    for parent in list(root.modules()):
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, new)
                return
    raise AssertionError("the module to replace is not there")


def _backbone(extractor: nn.Module) -> Any:
    return extractor.frozen if isinstance(extractor, ImageByImage) else extractor


def _context(config: DictConfig, weights: str, device: torch.device) -> Context:
    kind = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    if device.type != "cpu":
        kind = f"cuda {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type
    preprocess = OmegaConf.to_yaml(config.preprocess, resolve=True, sort_keys=True)
    library = ", ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES)
    return Context(weights, preprocess, config.features.dtype, kind, library)


def _shelf(config: DictConfig, context: Context) -> Shelf:
    limit = int(config.features.limit_gib * _GIB)
    if config.features.store == "memory":
        return MemoryShelf(context, limit)
    return DiskShelf(Path(config.features.directory), context, limit)


def _size(maps: Maps) -> int:
    return sum(values.nbytes for values in maps.values())


def _single_size(maps: Kept) -> int:
    """Return the bytes of maps in single precision, as they are used."""
    return sum(4 * values.size for values in maps.values())


def _is_channels_last(features: torch.Tensor) -> bool:
    return features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
