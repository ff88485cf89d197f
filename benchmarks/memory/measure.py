"""What a step takes in a process of its own, by the number of images that it goes through."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

MOST_BYTES = 200  # that a step may take of an image more
POLL_SECONDS = 0.002
IMPORTED = ["torch", "faiss", "scipy.sparse", "sklearn.cluster", "benchmarks.memory.steps"]
# What is in memory of any number of images is at most so many, or so many bytes.
BOUNDS = (
    ("pipeline.evaluate.ensemble", "MOST_CHOOSING"),
    ("pipeline.evaluate.ensemble", "ROWS_AT_ONCE"),
    ("pipeline.evaluate.label_issues", "MOST_ISSUES"),
    ("pipeline.labels.align", "MOST_NUMBERS"),
    ("pipeline.labels.propagate", "MOST_IN_GRAPH"),
    ("pipeline.labels.shard_selector", "IDS_AT_ONCE"),
    ("pipeline.labels.strangers", "MOST_IN_GRAPH"),
    ("pipeline.labels.strangers", "ROWS_AT_ONCE"),
    ("pipeline.memory", "SMALL_ARRAY"),
    ("pipeline.tasks.metrics", "ROWS_AT_ONCE"),
)
Work = Callable[[Path], None]


@dataclass(frozen=True)
class Taken:
    """By one step: bytes of the process before it, at most beyond these, the process's own seconds,
    and those that went by."""

    before: int
    bytes: int
    seconds: float
    wall: float


def measured(work: Work, folder: Path, *, bound: int | None = None) -> Taken:
    """What `work(folder)` takes; bound: lower BOUNDS to it, so that few images reach them.

    Memory is what is the process's own (RssAnon): pages of files are the machine's to take back.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    ours, its = context.Pipe()
    child = context.Process(target=_child, args=(work, folder, bound, its))
    child.start()
    its.close()
    assert child.pid is not None
    ours.recv()
    before = peak = own_memory(child.pid)
    ours.send("go")
    while not wait([ours, child.sentinel], POLL_SECONDS):
        peak = max(peak, own_memory(child.pid))
    try:
        seconds, wall = ours.recv()
    except EOFError:
        raise RuntimeError(f"{work.__name__} failed; see above") from None
    peak = max(peak, own_memory(child.pid))
    ours.send("end")
    child.join()
    return Taken(before, peak - before, seconds, wall)


def bytes_an_image(few: Taken, many: Taken, counts: tuple[int, int]) -> float:
    """By how much an image more raises the peak; counts: of images of either."""
    return (many.bytes - few.bytes) / (counts[1] - counts[0])


def own_memory(process: int) -> int:
    """The bytes of a process that are its own, in memory now."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def peak_of(module: str, *arguments: Path) -> float:
    """MiB of a process of its own, as `python -m module --peak` with these arguments prints it."""
    command = [sys.executable, "-m", module, "--peak", *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.splitlines()[-1])


def own_peak() -> float:
    """MiB that this process has taken at most (VmHWM); getrusage counts those of the process that
    started it too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def _child(work: Work, folder: Path, bound: int | None, parent: Connection[Any, Any]) -> None:
    """Do it once everything is imported, and what importing left is given back."""
    import pyarrow as pa
    import torch

    torch.set_num_threads(1)
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own holds on to what is done with
    for module, name in _bounds():
        if bound is not None:
            setattr(module, name, min(bound, getattr(module, name)))
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    parent.send("ready")
    parent.recv()
    begun = time.process_time(), time.perf_counter()
    work(folder)
    parent.send((time.process_time() - begun[0], time.perf_counter() - begun[1]))
    parent.recv()


def _bounds() -> Iterator[tuple[Any, str]]:
    for module, name in BOUNDS:
        yield import_module(module), name
