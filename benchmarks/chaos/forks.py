"""Several fork servers, each of which runs one stage at a time (fork_server.py)."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SERVER = Path(__file__).with_name("fork_server.py")


class Forks:
    """Fork servers for the modules in the folder `code`; a free one takes the next order."""

    def __init__(self, servers: Sequence[subprocess.Popen[str]]) -> None:
        self._free: queue.Queue[subprocess.Popen[str]] = queue.Queue()
        for server in servers:
            self._free.put(server)

    def run(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        folder: Path,
        said: Path,
        environment: Mapping[str, str],
        limit_s: float,
    ) -> int:
        """Run `python -m module arguments` in `folder`; its exit code as subprocess has it.

        said: the file to which it writes; limit_s: after which it is killed.
        """
        order = {
            "module": module,
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(folder),
            "said": str(said),
            "limit_s": limit_s,
        }
        server = self._free.get()
        try:
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())
        finally:
            self._free.put(server)


@contextmanager
def fork_servers(
    code: Path, library: Path, modules: Sequence[str], *, count: int, environment: Mapping[str, str]
) -> Iterator[Forks]:
    """`count` servers that have loaded `modules` from the folder `code`, until the block ends."""
    command = [sys.executable, "-P", str(SERVER), *modules]
    around = {**os.environ, **environment, "PYTHONPATH": str(code), "LD_PRELOAD": str(library)}
    servers = [
        subprocess.Popen(
            command, env=around, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    try:
        yield Forks(servers)
    finally:
        for server in servers:
            server.communicate()
