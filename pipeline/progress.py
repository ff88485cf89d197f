"""Say how far a long step is: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_SECONDS = 5.0


class Advance(Protocol):
    """Report `amount` more done; `note` is a short text shown behind the figures."""

    def __call__(self, amount: int = 1, note: str = "") -> None: ...


def say(line: str) -> None:
    """Print one line at once, also when the output is a pipe."""
    print(line, flush=True)


@contextmanager
def progress(title: str, total: int, unit: str = "images") -> Iterator[Advance]:
    """Show a step of `total` units until the block ends, with rate and time left (seconds)."""
    if sys.stdout.isatty():
        with _bar(title, total, unit) as advance:
            yield advance
    else:
        yield _lines(title, total, unit)


@contextmanager
def _bar(title: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit} · {{task.fields[rate]}}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    started, done = time.monotonic(), 0
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=total, note="", rate="0")

        def advance(amount: int = 1, note: str = "") -> None:
            nonlocal done
            done += amount
            bar.update(task, advance=amount, note=note, rate=_rate(done, started))

        yield advance


def _lines(title: str, total: int, unit: str) -> Advance:
    started = shown = time.monotonic()
    done = 0

    def advance(amount: int = 1, note: str = "") -> None:
        nonlocal done, shown
        done += amount
        now = time.monotonic()
        if now - shown >= LINE_SECONDS or (done >= total and shown > started):
            shown = now
            left = (now - started) * max(total - done, 0) / max(done, 1)
            say(
                f"{title}: {done}/{total} {unit}, {_rate(done, started)}/s, "
                f"{left:.0f} s left{'  ' + note if note else ''}"
            )

    return advance


def _rate(done: int, started: float) -> str:
    rate = done / max(time.monotonic() - started, 1e-9)
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"
