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


class _Pace:
    """How much is done, and how fast since the first report: what comes before it is start-up."""

    def __init__(self) -> None:
        self.done = 0
        self._first: tuple[float, int] | None = None

    def add(self, amount: int) -> None:
        self.done += amount
        self._first = self._first or (time.monotonic(), amount)

    @property
    def rate(self) -> float | None:
        """Units a second, None until there is a second report."""
        if self._first is None or self.done == self._first[1]:
            return None
        since, before = self._first
        return (self.done - before) / max(time.monotonic() - since, 1e-9)


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
    from rich import progress as rich

    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TextColumn(f"{unit} · {{task.fields[rate]}}/s"),
        rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}"),
    )
    pace = _Pace()
    with rich.Progress(*columns) as bar:
        task = bar.add_task(title, total=total, note="", rate="–")

        def advance(amount: int = 1, note: str = "") -> None:
            pace.add(amount)
            rate = "–" if pace.rate is None else _figure(pace.rate)
            bar.update(task, advance=amount, note=note, rate=rate)

        yield advance


def _lines(title: str, total: int, unit: str) -> Advance:
    started = shown = time.monotonic()
    pace = _Pace()

    def advance(amount: int = 1, note: str = "") -> None:
        nonlocal shown
        pace.add(amount)
        now = time.monotonic()
        if now - shown >= LINE_SECONDS or (pace.done >= total and shown > started):
            shown = now
            line = f"{title}: {pace.done}/{total} {unit}"
            if rate := pace.rate:
                seconds = max(total - pace.done, 0) / rate
                line += f", {_figure(rate)}/s, {seconds:.0f} s left"
            say(f"{line}  {note}" if note else line)

    return advance


def _figure(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"
