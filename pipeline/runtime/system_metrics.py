"""What a stage takes of its machine, under the names by which MLflow charts system metrics.

Sampled by a thread of the stage, since MLflow's own monitor would make the stage import MLflow.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PREFIX = "system/"
EVERY_SECONDS = 5.0
MEGABYTE = 1e6
FIRST = PREFIX + "cpu_utilization_percentage"
GPU_QUERY = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw")
GPU_SECONDS = 2.0
Log = Callable[[dict[str, float], int], None]


@contextmanager
def sampled(log: Log, first_step: int, every_s: float = EVERY_SECONDS) -> Iterator[None]:
    """Call `log(values, step)` every `every_s` seconds while the block runs, and at its end."""
    ended = threading.Event()
    before = psutil.net_io_counters()

    def sample() -> None:
        psutil.cpu_percent()  # the next call of this thread gives the mean since this one
        step, last = first_step, False
        while not last:
            last = ended.wait(every_s)
            with suppress(OSError):  # a full disk: the stage itself will say so
                log(system_values(before), step)
            step += 1

    thread = threading.Thread(target=sample, name="system metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def system_values(network_before: object = None) -> dict[str, float]:
    """CPU, memory, disk, network since `network_before`, and GPUs where nvidia-smi is there."""
    memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(Path.cwd()))
    values = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        "disk_usage_percentage": disk.percent,
        "disk_available_megabytes": disk.free / MEGABYTE,
        "process_memory_usage_megabytes": psutil.Process().memory_info().rss / MEGABYTE,
    }
    now = psutil.net_io_counters()
    if network_before is not None and now is not None:
        for name, field in (("receive", "bytes_recv"), ("transmit", "bytes_sent")):
            passed = getattr(now, field) - getattr(network_before, field)
            values[f"network_{name}_megabytes"] = passed / MEGABYTE
    return {PREFIX + name: value for name, value in (values | gpu_values()).items()}


def gpu_values() -> dict[str, float]:
    """What nvidia-smi says of each GPU of this machine; nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [f"--query-gpu={','.join(GPU_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            [program, *query], capture_output=True, text=True, timeout=GPU_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_gpus(answer.stdout)


def parse_gpus(text: str) -> dict[str, float]:
    """Metrics by name of nvidia-smi's lines of GPU_QUERY; what it does not know is left out."""
    values: dict[str, float] = {}
    for line in text.splitlines():
        index, *figures = (word.strip() for word in line.split(","))
        known = [_number(figure) for figure in figures]
        if len(known) != len(GPU_QUERY) - 1:
            continue
        busy, used, total, watts = known
        share = None if used is None or not total else 100 * used / total
        named = {
            "utilization_percentage": busy,
            "memory_usage_megabytes": used,
            "memory_usage_percentage": share,
            "power_usage_watts": watts,
        }
        values |= {f"gpu_{index}_{key}": v for key, v in named.items() if v is not None}
    return values


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # nvidia-smi writes [N/A]
        return None
