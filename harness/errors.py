"""Errors that a user can act on: one clear sentence with the culprit and the remedy."""

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """Base of every error whose text is meant for the user; shown without a traceback."""


class ConfigError(HarnessError):
    """The configuration asks for something that does not exist or does not fit together."""


class DataError(HarnessError):
    """The images, masks or folders of a data set cannot be used as they are."""


class WindowError(DataError):
    """An image is smaller than the window that is to be cut out of it."""


class WeightsError(HarnessError):
    """Backbone weights cannot be had or do not fit the network."""


class TrainingError(HarnessError):
    """A run went wrong while training or scoring, such as a loss that is not finite."""


class TrackingError(HarnessError):
    """The MLflow store cannot be reached, read or written."""


def did_you_mean(wanted: str, choices: Iterable[str]) -> str:
    """Return the nearest of the choices as an aside, or nothing where none is near."""
    near = difflib.get_close_matches(wanted, list(choices), n=1)
    return f" (did you mean {near[0]}?)" if near else ""
