"""Runs stages in forks of itself, so that each is spared the seconds of importing torch and Ray.

python -P fork_server.py MODULE …

Loads the modules, then runs one order after the other: a JSON line on standard input each, and its
exit code, as subprocess has it, as the answer. What an order starts in its process group and leaves
running is ended. To be started with the counting library (boundaries.c) preloaded.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import Any

POLL_SECONDS = 0.01


def serve() -> dict[str, Any] | None:
    """Fork for each order; returns the order in the fork, None in the server once all are done."""
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        child = os.fork()
        if not child:
            return order
        print(exit_code(child, order["limit_s"]), flush=True)
    return None


def exit_code(child: int, limit_s: float) -> int:
    """Wait for the child, at most `limit_s` seconds, and end its process group."""
    until, ended = time.monotonic() + limit_s, 0
    while not ended and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        time.sleep(POLL_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def take_on(order: dict[str, Any]) -> None:
    """Make this fork what a process started for the order would be."""
    os.setsid()
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    to_said = os.open(order["said"], os.O_WRONLY | os.O_APPEND)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, to_said), (2, to_said)):
        os.dup2(file, number)
    ctypes.CDLL(os.environ["LD_PRELOAD"]).chaos_begin()
    sys.argv[1:] = order["arguments"]


def run(module: str) -> int:
    """Run a module as `python -m` does; its exit code."""
    sys.modules.pop(module, None)
    code = 1
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]  # as an interpreter ends: threads first
    atexit._run_exitfuncs()
    return code


def main() -> None:
    """Serve; in each fork run the module that its order names."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()  # a collection would copy the pages of all that is shared
    order, code = serve(), 0
    if order is not None:
        take_on(order)
        code = run(order["module"])
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # without taking apart, a copied page each, what the server has loaded


if __name__ == "__main__":
    main()
