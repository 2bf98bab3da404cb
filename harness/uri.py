"""Tracking URIs as they may be shown."""

import re
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
