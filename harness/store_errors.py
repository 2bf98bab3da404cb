"""Why an MLflow store cannot be used, in words that say what to do: MLflow, SQLAlchemy and drivers have their own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

from harness.uri import masked, scrubbed

_ANOTHER = "or name another store with tracking.uri"
_DRIVERS = {"psycopg": "'psycopg[binary]'", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient", "pyodbc": "pyodbc"}


def told(uri: str, error: BaseException) -> str:
    """Return why a store cannot be used, in brackets, and what to do about it: the end of a sentence, without its stop.

    Args:
        uri: MLflow tracking URI.
        error: what opening, reading or writing it raised.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    for pattern, sentence in _KNOWN:
        if found := re.search(pattern, text):
            return sentence(uri, found)
    return (
        f"({scrubbed(text)[:200]}); check tracking.uri, its server or free disk space, then run the same command again"
    )


def _fixed(reason: str, remedy: str) -> Callable[[str, re.Match[str]], str]:
    return lambda uri, found: f"({reason}); {remedy}"


def _other_version(uri: str, found: re.Match[str]) -> str:
    return (
        f"(another version of MLflow wrote it: schema {found[1]}, here {found[2]}); back it up and run "
        f"`{_upgrade(uri)}`, or, if it is newer, `pip install --upgrade mlflow`, {_ANOTHER}"
    )


def _other_tables(uri: str, found: re.Match[str]) -> str:
    return (
        "(its tables are none of this MLflow's); where an older one wrote it, back it up and run "
        f"`{_upgrade(uri)}`, {_ANOTHER}"
    )


def _upgrade(uri: str) -> str:
    return shlex.join(["mlflow", "db", "upgrade", masked(uri)])


def _no_driver(uri: str, found: re.Match[str]) -> str:
    package = _DRIVERS.get(found[1], found[1])
    return f"(its driver {found[1]} is not installed); pip install {package}, {_ANOTHER}"


_GONE = (
    "Max retries exceeded|Connection refused|refused the connection|could not connect|connection failed|Can't connect"
    "|timed out|Name or service not known|nodename nor servname|Could not translate host name"
)
_WANTS = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or check those of tracking.uri"
_KNOWN = (
    (r"out-of-date database schema \(found version (\w+), but expected (\w+)", _other_version),
    (r"no such column|no such table|(column|relation) \S+ does not exist|Unknown column|Invalid column", _other_tables),
    (r"No module named '(\w+)'", _no_driver),
    (
        "not a database|malformed",
        _fixed("it is damaged, or no SQLite database", f"restore it from a backup, move it away, {_ANOTHER}"),
    ),
    (
        "unable to open database file|Could not parse",
        _fixed("no file can be opened there", "give it as tracking.uri=sqlite:///FOLDER/mlflow.db"),
    ),
    (
        "unsupported URI|Could not find a registered",
        _fixed(
            "MLflow knows no such kind of store", "give tracking.uri=sqlite:///FOLDER/mlflow.db, or http://HOST:PORT"
        ),
    ),
    (
        "filesystem tracking backend",
        _fixed("a folder, which MLflow no longer takes", "give tracking.uri=sqlite:///FOLDER/mlflow.db, or a server"),
    ),
    (
        "error code 40[13]|40[13] Client Error|authentication failed|no password supplied|Access denied",
        _fixed("it wants other credentials", _WANTS),
    ),
    (
        "413 Client Error|Entity Too Large|Content Too Large",
        _fixed(
            "something before it takes no file of this size",
            "raise the limit of its proxy (nginx: client_max_body_size), or lower metrics.heatmaps",
        ),
    ),
    (_GONE, _fixed("no server answers there", f"start it, check its address, {_ANOTHER}")),
    (
        "disk is full|No space left",
        _fixed("the disk is full", "free some space, then run the same command again"),
    ),
    (
        "readonly database|Permission denied|Read-only file system|Not a directory|File exists|Is a directory",
        _fixed("it may not be written there", "change the permissions, or give another tracking.directory"),
    ),
)
