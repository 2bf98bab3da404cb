"""Tracking URIs as they may be shown."""

from urllib.parse import urlsplit, urlunsplit


def masked(uri: str) -> str:
    """Return a tracking URI that may be printed: user, password and query are masked."""
    parts = urlsplit(uri)
    if not parts.netloc:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, f"***@{host}" if "@" in parts.netloc else host, parts.path, "", ""))
