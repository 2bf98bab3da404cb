"""What each protocol is told by, and which values mean something."""

from __future__ import annotations

from typing import Any

from harness.errors import ConfigError

# Settings of each protocol: those it needs, and those it may have.
NEEDS: dict[str, frozenset[str]] = {
    "one_class": frozenset(),
    "few_shot": frozenset({"shots"}),
    "validated_synthetic": frozenset({"validation", "synthetic"}),
    "validated": frozenset({"validation", "test"}),
    "supervised": frozenset({"validation", "test"}),
    "kfold": frozenset({"folds", "fold"}),
    "imbalance": frozenset({"folds", "fold", "defects"}),
}
MAY: dict[str, frozenset[str]] = {
    "one_class": frozenset({"validation", "group", "order"}),
    "few_shot": frozenset({"group", "order"}),
    "validated_synthetic": frozenset({"group", "order"}),
    "validated": frozenset({"group", "order"}),
    "supervised": frozenset({"group", "order"}),
    "kfold": frozenset({"validation", "group"}),
    "imbalance": frozenset({"validation", "group"}),
}
PROTOCOLS = tuple(NEEDS)
TRAIN_ON_DEFECTS = ("supervised", "kfold", "imbalance")  # where supervised methods have a place
OWN_TEST = ("one_class", "few_shot", "validated_synthetic")  # the test images are the data set's own


def drawn_as(protocol: str) -> str:
    """Return the protocol in whose name the seed draws: `validated` has the test images of `supervised`."""
    return {"validated": "supervised", "imbalance": "kfold"}.get(protocol, protocol)


def check_protocol(protocol: Any, supervised: bool, method: str) -> None:
    """Refuse a protocol that does not exist, or settings that it does not have, lacks, or that mean nothing.

    Args:
        protocol: a `ProtocolConfig`.
        supervised: whether the method learns from defective images.
        method: its name.

    Raises:
        ConfigError: naming the setting and what is possible.
    """
    name = protocol.name
    if name not in NEEDS:
        raise ConfigError(f"protocol.name={name} is not possible; choose one of {', '.join(PROTOCOLS)}.")
    settings = set().union(*NEEDS.values(), *MAY.values())
    given = {key for key in settings if protocol[key] is not None}
    if strange := sorted(given - NEEDS[name] - MAY[name]):
        takers = [other for other in PROTOCOLS if strange[0] in NEEDS[other] | MAY[other]]
        raise ConfigError(
            f"protocol.{strange[0]}={protocol[strange[0]]} means nothing under protocol={name}; it belongs to "
            f"{', '.join(takers)}."
        )
    if lacking := sorted(NEEDS[name] - given):
        raise ConfigError(f"protocol={name} needs protocol.{lacking[0]}=….")
    _check_shares(protocol)
    _check_counts(protocol)
    if supervised and name not in TRAIN_ON_DEFECTS:
        raise ConfigError(
            f"method={method} is supervised: it trains on defective images, which protocol={name} "
            "keeps for the test. Give protocol=supervised, kfold or imbalance."
        )


def _check_shares(protocol: Any) -> None:
    shares = [share for share in (protocol.validation, protocol.test) if share is not None]
    if shares and (min(shares) <= 0 or sum(shares) >= 1):
        raise ConfigError(
            f"protocol.validation={protocol.validation} with protocol.test={protocol.test} is not possible; "
            "give shares of the images above 0 that leave some to train on."
        )
    if protocol.defects is not None and not 0 < protocol.defects <= 1:
        raise ConfigError(f"protocol.defects={protocol.defects} is not possible; give a share above 0, at most 1.")


def _check_counts(protocol: Any) -> None:
    shots, folds, fold = protocol.shots, protocol.folds, protocol.fold
    if shots is not None and shots != "all" and (not isinstance(shots, int) or isinstance(shots, bool) or shots < 1):
        raise ConfigError(f"protocol.shots={shots} is not possible; give a number of images from 1, or all.")
    if folds is not None and folds < 2:
        raise ConfigError(f"protocol.folds={folds} is not possible; give 2 or more.")
    if fold is not None and not 0 <= fold < folds:
        raise ConfigError(f"protocol.fold={fold} is not possible; folds are numbered from 0 to {folds - 1}.")
