"""One Ray node of this machine: its processes, from `ray start` to the last that it leaves."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import ClusterError

START_SECONDS = 240.0
ATTEMPTS = 2
PR_SET_PDEATHSIG = 1
STOP_SECONDS = 10.0
POLL_SECONDS = 0.1
STARTED = "This command will now block forever"  # what `ray start --block` says when it is up
LOG = "start.log"


@dataclass(frozen=True)
class Node:
    """One Ray node: its loopback address, its temporary folder and its `ray start` process."""

    name: str
    ip: str
    folder: Path
    command: list[str] = field(repr=False)
    environment: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def log(self) -> Path:
        """What its `ray start` wrote."""
        return self.folder / LOG

    @property
    def alive(self) -> bool:
        """Whether its `ray start` still runs."""
        return self.process.poll() is None


def launch(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """A `ray start` of its own session, in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with (folder / LOG).open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # by which its processes are found
            preexec_fn=_end_with_parent,
        )


def when_started(node: Node) -> Node:
    """The node once it is up, started once more where it did not come up."""
    for attempt in range(ATTEMPTS):
        try:
            _wait(node)
            break
        except BaseException as error:
            end(node, signal.SIGKILL)
            if not isinstance(error, ClusterError) or attempt + 1 == ATTEMPTS:
                raise
            node = replace(node, process=launch(node.command, node.folder, node.environment))
    return node


def _end_with_parent() -> None:
    """Let Linux end this process when the one that started it is gone, killed even."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(node: Node) -> None:
    """Return when the node is up; raises ClusterError with what it last said if it does not."""
    until = time.monotonic() + START_SECONDS
    while STARTED not in node.log.read_text(encoding="utf-8", errors="replace"):
        if not node.alive or time.monotonic() > until:
            text = node.log.read_text(encoding="utf-8", errors="replace")
            raise ClusterError(f"Ray's {node.name} did not start: {' '.join(text.split())[-300:]}")
        time.sleep(POLL_SECONDS)


def end(node: Node, how: signal.Signals) -> None:
    """Signal every process of the node's session, then kill what is left of it."""
    until = time.monotonic() + STOP_SECONDS
    while left := processes(node):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        node.process.poll()
        if time.monotonic() > until - STOP_SECONDS / 2:
            how = signal.SIGKILL
        if time.monotonic() > until:
            raise ClusterError(f"processes {left} of Ray's {node.name} do not end")
        time.sleep(POLL_SECONDS)
    node.process.wait()


def titles(node: Node) -> list[str]:
    """What the node's living processes call themselves; Ray's say what they are at work on."""
    found = []
    for pid in processes(node):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            found.append(command.split(b"\0")[0].decode(errors="replace").strip())
    return found


def processes(node: Node) -> list[int]:
    """The node's living processes."""
    return session(node.process.pid)


def session(leader: int) -> list[int]:
    """The living processes of the session that `leader` leads."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, ValueError):
            # "pid (command) state ppid pgrp session …"; a command may hold spaces and brackets.
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state not in "ZX":
                found.append(int(entry.name))
    return found
