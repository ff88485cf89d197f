"""Say how far a long step is: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Protocol, TextIO

from pipeline.errors import MOST_SHOWN, visible

LINE_SECONDS = 5.0
RATE_SECONDS = 3600.0  # that a rate is averaged over


class Advance(Protocol):
    """Report `amount` more done; `note` is a short text shown behind the figures."""

    def __call__(self, amount: int = 1, note: str = "") -> None: ...


def say(line: str, stream: TextIO | None = None) -> None:
    """Print one line at once, on standard output unless told otherwise, its names made visible.

    Where nobody can read it any more (a closed pipe, a full disk) the work goes on unheard.
    """
    stream = stream or sys.stdout
    try:
        print(visible(line, MOST_SHOWN), file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_streams() -> None:
    """See that the standard streams are open, and take any character as itself or as an escape.

    The number of a closed one would go to the next file that is opened, and lines into that file.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for number, name in enumerate(("stdout", "stderr"), 1):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def progress(title: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """Show a step of `total` units until the block ends, with rate and time left (seconds).

    The rate is since the first report: what comes before it is start-up.
    """
    from rich import progress as rich

    bar = rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn(f"{unit} · {{task.fields[rate]}}/s"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}"),
        speed_estimate_period=RATE_SECONDS,
        get_time=lambda: time.monotonic(),
    )
    task = bar.add_task(title, total=total, note="", rate="–")
    lines = not sys.stdout.isatty()
    started = last_line = time.monotonic()

    def advance(amount: int = 1, note: str = "") -> None:
        nonlocal last_line
        bar.advance(task, amount)
        (state,), now = bar.tasks, time.monotonic()
        ended = state.completed >= total and last_line > started
        if lines and now - last_line < LINE_SECONDS and not ended:
            return
        rate = f"{state.speed:,.{1 if state.speed < 100 else 0}f}" if state.speed else "–"
        if not lines:
            bar.update(task, note=note, rate=rate)
            return
        last_line = now
        line = f"{title}: {state.completed:.0f}/{total} {unit}"
        if state.speed:
            seconds = max(total - state.completed, 0) / state.speed
            line += f", {rate}/s, {seconds:.0f} s left"
        say(f"{line}  {note}" if note else line)

    with nullcontext() if lines else bar:
        yield advance
