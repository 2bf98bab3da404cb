"""What happens while a tracking server does not answer: runs wait for it, as long as the user's patience lasts."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TypeVar

from mlflow.exceptions import MlflowException
from requests.exceptions import HTTPError, RequestException

from harness import interruption
from harness.errors import HarnessError, TrackingError
from harness.store_errors import told
from harness.uri import masked

RETRY_SECONDS = 5.0
_SELDOM = 9  # times as long as it took to find out that a server is away, it is not asked again while runs train
_SERVER_FAULT = 500  # HTTP's first status of a server that failed: what is asked for may succeed later
_TOO_MANY = 429  # requests: another one may succeed later

_Answer = TypeVar("_Answer")


class Patience:
    """Asks a store, again and again while it is away; its errors are sentences.

    Once the patience has run out, nothing is waited for until the store has answered again: the runs of a night that
    come after would else wait one after the other.

    Args:
        uri: MLflow tracking URI.
        seconds: how long to wait.
    """

    def __init__(self, uri: str, seconds: float) -> None:
        self._uri, self._seconds = uri, seconds
        self._away_since: float | None = None
        self._next_attempt = 0.0
        self._exhausted = False
        # MLflow would retry by itself, for four minutes and without a word, and print a line for every run.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")  # seconds; a server may hang too
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

    def insist(self, verb: str, action: Callable[[], _Answer]) -> _Answer:
        """Do something in the store, and wait for a store that is away.

        Args:
            verb: what is done to the store: read or written.
            action: what to do; may be done more than once.

        Raises:
            TrackingError: when the patience runs out, or at once when waiting would not help.
        """
        until = time.monotonic() + self._seconds
        while True:
            try:
                with self.whole():
                    answer = action()
            except Exception as error:
                if self._exhausted or not is_outage(self._uri, error) or time.monotonic() > until:
                    self._exhausted = self._exhausted or is_outage(self._uri, error)
                    raise self._explained(verb, error) from error
                self._tell_away()
                time.sleep(RETRY_SECONDS)
            else:
                self._tell_back()
                return answer

    def attempt(self, verb: str, action: Callable[[], None]) -> bool:
        """Do something in the store, once; return False when it is away, and what was to be done can wait.

        A server that hangs lets every request wait, so one that is away is asked seldom: runs lose a tenth of their
        time by it at most.

        Raises:
            TrackingError: when waiting would not help.
        """
        began = time.monotonic()
        if self.is_away and began < self._next_attempt:
            return False
        try:
            with self.whole():
                action()
        except Exception as error:
            if not is_outage(self._uri, error):
                raise self._explained(verb, error) from error
            took = time.monotonic() - began
            self._next_attempt = began + took + max(RETRY_SECONDS, _SELDOM * took)
            self._tell_away()
            return False
        self._tell_back()
        return True

    @property
    def is_away(self) -> bool:
        """Whether the store did not answer when it was asked last."""
        return self._away_since is not None

    def whole(self) -> AbstractContextManager[None]:
        """Return what lets an interrupt wait for the end of a block, where its middle is no place to stop.

        A database stays locked by half a transaction; a request to a server can be made again.
        """
        return nullcontext() if self._uri.startswith("http") else interruption.held()

    @contextmanager
    def explaining(self, verb: str) -> Iterator[None]:
        """Turn what goes wrong with the store into a sentence; wait for nothing."""
        try:
            yield
        except Exception as error:
            raise self._explained(verb, error) from error

    def _explained(self, verb: str, error: Exception) -> HarnessError:
        if isinstance(error, HarnessError):
            return error
        waited = f" after {self._seconds:.0f} s of waiting (tracking.patience)" if self._away_since is not None else ""
        return TrackingError(f"The MLflow store {masked(self._uri)} cannot be {verb}{waited} {told(self._uri, error)}.")

    def _tell_away(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            _say(
                f"The MLflow store {masked(self._uri)} does not answer: runs go on, keep what they measure, and wait "
                f"for it at their end, up to {self._seconds:.0f} s (tracking.patience)."
            )

    def _tell_back(self) -> None:
        if self._away_since is not None:
            _say(f"The MLflow store answers again, after {time.monotonic() - self._away_since:.0f} s.")
        self._away_since, self._exhausted = None, False


def is_outage(uri: str, error: BaseException) -> bool:
    """Whether the store is away or busy, so that the same request may succeed later: not a full disk or a wrong name.

    Args:
        uri: MLflow tracking URI.
        error: that a request to it raised.
    """
    if uri.startswith("sqlite:"):
        return "database is locked" in str(error)
    if isinstance(error, MlflowException):
        return _may_pass(int(error.get_http_status_code()))
    if isinstance(error, HTTPError) and error.response is not None:  # of artifacts
        return _may_pass(error.response.status_code)
    return isinstance(error, RequestException | ConnectionError)


def _may_pass(status: int) -> bool:
    return status >= _SERVER_FAULT or status == _TOO_MANY


def _say(text: str) -> None:
    with suppress(OSError):  # nobody reads it
        print(text, file=sys.stderr, flush=True)
