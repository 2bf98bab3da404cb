"""The MLflow store: that it opens, in which version it is, and what dead processes have left."""

from __future__ import annotations

import base64
import importlib.util
import re
import sqlite3
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from omegaconf import DictConfig

from harness.doctor.checks import Finding, error, ok, warning
from harness.runs.overview import exists, folder_size, memory_peak, read
from harness.terminal import space
from harness.uri import masked, sqlite_path

SECONDS = 5.0  # that a server has


def store(config: DictConfig) -> Iterator[Finding]:
    """Look at the store, and at what is in it."""
    uri = str(config.tracking.uri)
    if not exists(uri):
        yield ok("Store", f"{masked(uri)} is made by the first run")
        return
    found = list(_server(uri) if uri.startswith("http") else _version(uri))
    yield from found
    if any(finding.state == "error" for finding in found):
        return
    runs = read(uri)
    counts = Counter(run.state for run in runs)
    told = ", ".join(f"{counts[state]} {state}" for state in sorted(counts)) or "no run yet"
    size = f", {space(sqlite_path(uri).stat().st_size)}" if uri.startswith("sqlite:") else ""
    yield ok("Store", f"{masked(uri)} opens{size}: {told}")
    if dead := counts["died"] + counts["silent"]:
        told = f"{dead} died or {'is' if dead == 1 else 'are'} silent"
        yield warning("Runs", f"{told}: the same command runs {'it' if dead == 1 else 'them'} again (harness.status).")


def _version(uri: str) -> Iterator[Finding]:
    """Look at the schema of an SQLite store; other databases are MLflow's own business."""
    if not uri.startswith("sqlite:"):
        return
    path = sqlite_path(uri)
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("none",)
    except sqlite3.Error as failure:
        yield error("Store", f"{path} is no MLflow store ({failure}): move it away, or name another with tracking.uri.")
        return
    known, newest = schema_versions()
    if version == newest or not known:
        return
    if version in known:
        remedy = f"back it up, then: mlflow db upgrade {masked(uri)}"
        yield error("Store", f"{path} was made by an older MLflow (schema {version}, now {newest}): {remedy}")
    else:
        yield error("Store", f"{path} was made by a newer MLflow (schema {version}): pip install --upgrade mlflow")


def schema_versions() -> tuple[set[str], str]:
    """Return the versions of the schema that the installed MLflow knows, and its own: from its files, not imported."""
    found = importlib.util.find_spec("mlflow")
    if found is None or found.origin is None:
        return set(), ""
    folder = Path(found.origin).parent / "store" / "db_migrations" / "versions"
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
    known, before = (
        {match for text in texts for match in re.findall(rf"^{name}\s*=\s*[\"'](\w+)[\"']", text, re.MULTILINE)}
        for name in ("revision", "down_revision")
    )
    return known, next(iter(known - before), "")


def _server(uri: str) -> Iterator[Finding]:
    """Ask a tracking server for its version."""
    address, credentials = _parted(uri)
    request = urllib.request.Request(f"{address.rstrip('/')}/version", headers=credentials)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            version = answer.read(100).decode(errors="replace").strip()
        yield ok("Server", f"MLflow {version} answers")
    except urllib.error.HTTPError as failure:
        if failure.code in (401, 403):
            told = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            yield warning("Server", f"{masked(uri)} wants credentials ({failure.code}): {told}.")
        else:
            yield warning("Server", f"{masked(uri)} answers with {failure.code}: is it an MLflow server?")
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "reason", failure)
        yield error("Server", f"{masked(uri)} does not answer ({reason}): start it, or check tracking.uri.")


def _parted(uri: str) -> tuple[str, dict[str, str]]:
    """Return a server's address without the user and password in it, and the header that gives them."""
    scheme, _, place = uri.partition("://")
    user, _, host = place.rpartition("@")
    if not user:
        return uri, {}
    token = base64.b64encode(unquote(user).encode()).decode()
    return f"{scheme}://{host}", {"Authorization": f"Basic {token}"}


def memory_peaks(config: DictConfig, methods: Sequence[str]) -> list[float]:
    """Return the memory in MiB that finished runs of some methods took at most, where an SQLite store tells."""
    uri = str(config.tracking.uri)
    peak = memory_peak(uri, methods) if uri.startswith("sqlite:") and exists(uri) else None
    return [] if peak is None else [peak]


def features_size(config: DictConfig) -> int:
    """Return the bytes of stored features."""
    return folder_size(Path(config.features.directory).expanduser())
