"""What a checkpoint says of a model's settings."""

from collections.abc import Mapping
from pathlib import Path

from lightning import LightningModule
from torch import nn


def keep_settings_only(model: LightningModule) -> None:
    """Take networks and paths out of a model's hyper-parameters.

    A network given as backbone is weights, not a setting, and pickled into a checkpoint it could not be loaded safely;
    a path is this machine's. `load_from_checkpoint(path, backbone=…)` gives them again.
    """
    for settings in (model.hparams, model.hparams_initial):
        for name in [name for name, value in settings.items() if _is_no_setting(value)]:
            del settings[name]


def _is_no_setting(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(isinstance(member, nn.Module) for member in value.values())
    return isinstance(value, nn.Module | Path)
