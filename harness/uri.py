"""Tracking URIs as they may be shown."""

import re
import shlex
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit


def masked(uri: str) -> str:
    """Return a tracking URI that may be printed: user, password and query are masked."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, f"***@{host}" if "@" in parts.netloc else host, parts.path, "", ""))


def scrubbed(text: str) -> str:
    """Return a text without the users and passwords of the URIs in it."""
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", text)


def shown_command(module: str, arguments: Sequence[str]) -> str:
    """Return a command line for a page, without a password in a tracking URI."""
    shown = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        shown.append(f"{key}={masked(value)}" if key == "tracking.uri" else argument)
    return shlex.join(["python", "-m", module, *shown])
