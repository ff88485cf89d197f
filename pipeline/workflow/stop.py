"""SIGTERM and Ctrl-C: a stage ends at once and in order; training first finishes its step.

Under `dvc repro` a stage is also asked to end when that is gone, killed even: it would else go on
beside the next `dvc repro`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def interrupt_on_signals() -> None:
    """Let both signals raise KeyboardInterrupt; does nothing outside the main thread."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def end_with_dvc() -> None:
    """end_with_parent, where that is `dvc`."""
    if "DVC_ROOT" in os.environ:
        end_with_parent()


def end_with_parent() -> None:
    """Let Linux send SIGTERM when the process that started this one is gone."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise KeyboardInterrupt


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """While the block runs the first signal is a request that it may ask for; the second
    interrupts."""
    requested = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    before = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
