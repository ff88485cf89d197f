"""Runs a module as `python -m` does and ends it at one of its file operations.

python -P file_operations.py LOG KILL FULL MODULE [ARGUMENT …]

Counts what the process does to files below its working folder, by Python's audit events: a file or
folder that is created or opened for writing, a rename, a removal. LOG gets a line "kind path" each.
At operation KILL the process's group gets SIGKILL: a file is then there and empty, anything else
not yet done; one operation more than there are is the end of the process. From operation FULL on
nothing more is created, as on a full disk. 0: never. Lock files don't count, nor what a library
opens without Python, which shows by the rename that puts it in its place, nor other processes.
"""

from __future__ import annotations

import errno
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

KINDS = {  # event: kind, place of the path among its arguments, place of the folder it is in
    "open": ("create", 0, None),
    "os.mkdir": ("create", 0, 2),
    "os.link": ("create", 1, 3),
    "os.rename": ("rename", 1, 3),  # os.replace too
    "os.remove": ("remove", 0, 1),
    "os.rmdir": ("remove", 0, 1),
}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class FileOperations:
    """Counts and ends, as an audit hook; kill, full: the numbers of operations, 0 for never."""

    def __init__(self, log: str, kill: int, full: int) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND)
        self._root, self._process = f"{Path.cwd()}/", os.getpid()
        self._kill, self._full, self._count, self._ending = kill, full, 0, False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """What Python calls before each event."""
        if event not in KINDS or self._ending or os.getpid() != self._process:
            return
        kind, place, within = KINDS[event]
        if event == "open" and not arguments[2] & WRITES:
            return
        path = _absolute(arguments[place], -1 if within is None else arguments[within])
        if not path.startswith(self._root) or path.endswith("lock"):
            return
        there = os.path.lexists(path)
        if (there and event == "os.mkdir") or (not there and kind == "remove"):
            return  # changes nothing
        self._count += 1
        os.write(self._log, f"{kind} {path.removeprefix(self._root)}\n".encode())
        if self._count == self._kill:
            self._ending = True
            if event == "open":
                os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.killpg(0, signal.SIGKILL)
        if 0 < self._full <= self._count and kind == "create":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def end(self) -> None:
        """Kill the group if an operation after the last one is to be its end."""
        if self._kill:
            os.killpg(0, signal.SIGKILL)


def _absolute(path: Any, folder: int) -> str:
    """The path, relative to the folder of this descriptor (-1: the working folder), as absolute."""
    within = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path.cwd()
    return "" if isinstance(path, int) else os.path.normpath(within / os.fsdecode(path))


if __name__ == "__main__":
    log, kill, full, module, *rest = sys.argv[1:]
    sys.argv[1:] = rest
    operations = FileOperations(log, int(kill), int(full))
    sys.addaudithook(operations)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    operations.end()
