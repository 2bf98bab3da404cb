"""Errors that a user can act on: one clear sentence with the culprit and the remedy."""


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
