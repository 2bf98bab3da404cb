"""Tracking URIs as they may be shown."""

from urllib.parse import urlsplit


def masked(uri: str) -> str:
    """Return a URI without the password it may carry."""
    password = urlsplit(uri).password
    return uri.replace(f":{password}@", ":***@") if password else uri
