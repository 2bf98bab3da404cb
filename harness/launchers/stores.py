"""Which stores several hosts can share: an SQLite file is one machine's."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import ConfigError
from harness.uri import sqlite_path

# Where the locks that SQLite relies on are missing, slow or a setting of the server.
NETWORK_FILE_SYSTEMS = (
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "beegfs_nodev", "ceph", "pvfs2", "orangefs"),
    *("panfs", "afs", "9p", "wekafs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone"),
)
_MOUNTS = Path("/proc/self/mountinfo")


def refuse_local_store(uri: str, why: str) -> None:
    """Refuse an SQLite file for runs of several hosts.

    Args:
        uri: MLflow tracking URI.
        why: how several hosts come in.

    Raises:
        ConfigError: with the remedy.
    """
    if uri.startswith("sqlite:"):
        raise ConfigError(
            f"{why}, and tracking.uri={uri} is a file of one machine, which several hosts would corrupt: "
            "start a tracking server (mlflow server) and give tracking.uri=http://HOST:PORT; docs/cluster.md shows how."
        )


def warning_of(uri: str) -> str | None:
    """Return what a sweep should be told about its store: that SQLite is not safe on the network file system it is on.

    Args:
        uri: MLflow tracking URI.
    """
    if not uri.startswith("sqlite:"):
        return None
    path = sqlite_path(uri).resolve()
    kind = file_system(path)
    if kind not in NETWORK_FILE_SYSTEMS:
        return None
    return (
        f"Warning: {path} is on {kind}, a network file system, where SQLite can lose or corrupt what several processes "
        "write: put tracking.uri on a local disk, or start a tracking server (docs/cluster.md)."
    )


def file_system(path: Path, mounts: Path | None = None) -> str | None:
    """Return the type of the file system that a path is or would be on; None where Linux does not tell.

    Args:
        path: absolute.
        mounts: table of mounts, in the format of proc(5)'s mountinfo; this system's.
    """
    try:
        lines = (mounts or _MOUNTS).read_text().splitlines()
    except OSError:
        return None
    found: tuple[int, str | None] = (-1, None)
    for line in lines:
        left, _, right = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4]))  # a space is \040
        if path.is_relative_to(point) and len(point.parts) >= found[0]:  # of two at one place, the later is seen
            found = len(point.parts), right.split()[0]
    return found[1]
