"""What is no regular file: to be refused, or listed, and never waited for."""

from __future__ import annotations

import os
import socket
from pathlib import Path

KINDS = ("pipe", "socket", "/dev/zero", "folder", "gone", "circle", "/proc/kmsg")


def special(path: Path, kind: str) -> None:
    """Put one at `path`: of KINDS, those with a slash as a link to it."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        folder = os.open(path.parent, os.O_RDONLY)  # the whole path may be too long for a socket
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    elif kind != "gone":
        path.symlink_to(kind)
