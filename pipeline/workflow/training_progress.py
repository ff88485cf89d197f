"""Show and track a training run while it goes on, from the history that it appends to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pipeline.params import TrainParams
from pipeline.progress import Advance, progress
from pipeline.tracking.tracker import Tracker

POLL_SECONDS = 0.5


@contextmanager
def following(history: Path, tracker: Tracker, title: str, train: TrainParams) -> Iterator[None]:
    """Show and track what rank 0 appends to `history` while the block trains."""
    ended = threading.Event()
    with (
        progress(title, train.steps, "steps") as advance,
        ThreadPoolExecutor(1, "follower") as threads,
    ):
        follower = threads.submit(_follow, history, ended, tracker, advance)
        try:
            yield
        finally:
            ended.set()
        follower.result()


def _follow(history: Path, ended: threading.Event, tracker: Tracker, advance: Advance) -> None:
    offset = shown = 0
    latest: dict[str, float] = {}  # the accuracy is measured less often than the loss
    last = False
    while not last:
        last = ended.wait(POLL_SECONDS)
        if not history.exists():
            continue
        with history.open("rb") as file:
            file.seek(offset)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            continue
        offset += len(whole) + 1
        for line in whole.splitlines():
            point = json.loads(line)
            tracker.metrics(point["values"], point["step"])
            latest |= point["values"]
            if point["step"] > shown:
                advance(point["step"] - shown, _note(latest))
                shown = point["step"]


def _note(values: dict[str, float]) -> str:
    """What a step shows behind its number: the loss, images a second, the score on validation."""
    shown = {"loss": "loss {:.3f}", "images_per_second": "{:,.0f} images/s"}
    shown |= dict.fromkeys(
        [name for name in values if name.startswith("val/")], "validation {:.1%}"
    )
    return ", ".join(text.format(values[name]) for name, text in shown.items() if name in values)
