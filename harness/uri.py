"""Tracking URIs, and texts that may have them, as they may be shown: without users, passwords and keys."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # that MLflow keeps runs in
# Up to the last @: passwords may have slashes, question marks and @ in them that nobody has encoded. What begins with a
# third slash names no user: it is the path of a local database.
_USER = re.compile(r"://(?!/)\S*@")
# Also in what is encoded, as ODBC's connection strings are: %3BPWD%3Dsecret.
_KEY = re.compile(
    r"(?i)((?:[?&;]|%3B|%26)[\w-]*(?:password|passwd|pwd|secret|token|key)(?:=|%3D))(?:(?!%3B|%26)[^&;\s'\"])+"
)


def masked(uri: str) -> str:
    """Return a tracking URI that may be printed: user and password are masked, the query is left out."""
    scheme, separator, place = uri.partition("://")
    if not separator or scheme.startswith("sqlite"):
        return scrubbed(uri)
    if place.startswith("/"):  # names no user
        return uri.partition("?")[0]
    user, _, host = place.rpartition("@")
    return f"{scheme}://{'***@' if user else ''}{host.partition('?')[0]}"


def require_readable(uri: str) -> None:
    """Refuse a user or password whose signs mean something else in an address: errors would quote it in pieces.

    Raises:
        ConfigError: saying how to write them.
    """
    user = uri.partition("://")[2].rpartition("@")[0]
    if re.search(r"[/?#@\s\[\]]", user) and not uri.partition("://")[2].startswith("/"):
        raise ConfigError(
            f"tracking.uri={masked(uri)} has a user or password with signs that mean something else in an address: "
            "write / as %2F, @ as %40, ? as %3F, # as %23."
        )


def scrubbed(text: str) -> str:
    """Return a text without the users, passwords and keys of the URIs in it."""
    return _KEY.sub(r"\1***", _USER.sub("://***@", text))


def shown_command(module: str, arguments: Sequence[str]) -> str:
    """Return a command line for a page, without a password in a tracking URI."""
    return shlex.join(["python", "-m", module, *map(shown_argument, arguments)])


def shown_argument(argument: str) -> str:
    """Return an argument of a command line as it may be printed."""
    key, equals, value = argument.partition("=")
    is_uri = equals and key.lstrip("+~") == "tracking.uri"
    return f"{key}={masked(value)}" if is_uri else scrubbed(argument)


def scheme_of(uri: str) -> str:
    """Return what is behind a tracking URI: http, sqlite, postgresql, …, without the name of a driver."""
    return uri.partition(":")[0].partition("+")[0].lower()


def is_database(uri: str) -> bool:
    """Whether a tracking URI names a database itself, and not a server in front of one."""
    return scheme_of(uri) in _DATABASES


def sqlite_path(uri: str) -> Path:
    """Return the file of a local database."""
    from sqlalchemy.engine import make_url  # a third of a second: not for --help

    return Path(make_url(uri).database or "")
