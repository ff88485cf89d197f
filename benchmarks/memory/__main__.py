"""Memory and seconds of what goes through all images, by the number of images.

python -m benchmarks.memory [--images 1000000] [--steps galleries select …] [--folder DIR]

Generated images of 4×4 pixels, features of 8 numbers, and predictions and pseudo-labels of 10
classes, in the formats of the stages. Each step runs in a process of its own over a tenth of the
images and over all of them: bytes an image are the growth of its peak between the two, seconds a
million those of all. The peak is of what is the process's own (RssAnon): pages of files are the
machine's to take back.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.memory.data import write_all
from benchmarks.memory.steps import STEPS
from benchmarks.runs import arguments
from pipeline.progress import say

POLL_SECONDS = 0.01


def own_memory(process: int) -> int:
    """The bytes of a process that are its own, in memory now."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def measured(step: str, folder: Path) -> tuple[float, float]:
    """Peak bytes beyond those before the work, and its seconds."""
    command = [sys.executable, "-m", "benchmarks.memory", "--child", step, str(folder)]
    begun, before, peak = 0.0, 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "ready" in child.stdout.readline()
        begun, before = time.perf_counter(), own_memory(child.pid)
        while child.poll() is None:
            peak = max(peak, own_memory(child.pid))
            time.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - begun
    assert child.returncode == 0, step
    return peak - before, seconds


def child(step: str, folder: Path) -> None:
    """Do one step, once everything that it imports is there."""
    import torch

    torch.set_num_threads(1)
    import faiss, scipy.sparse, sklearn.cluster  # noqa
    import pipeline.report.galleries, pipeline.self_training.heads  # noqa

    print("ready", flush=True)
    STEPS[step](folder)


def main() -> None:
    """Measure and print."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--steps", nargs="+", default=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where the images are left for another run")
    parser.add_argument("--child", nargs=2)
    given = parser.parse_args()
    if given.child:
        child(given.child[0], Path(given.child[1]))
        return
    with tempfile.TemporaryDirectory() as made:
        compare(given.folder or Path(made), given.images, given.steps)


def compare(folder: Path, images: int, steps: Sequence[str]) -> None:
    """Print what each step takes of a tenth of the images and of all."""
    sizes = (images // 10, images)
    for count in sizes:
        if not (folder / str(count) / "truth.parquet").exists():
            begun = time.perf_counter()
            write_all(folder / str(count), count)
            say(f"wrote {count:,} in {time.perf_counter() - begun:.0f} s")
    for step in steps:
        few, many = (measured(step, folder / str(count)) for count in sizes)
        grown = (many[0] - few[0]) / (sizes[1] - sizes[0])
        per = [1e6 * each[1] / count for each, count in zip((few, many), sizes, strict=True)]
        say(
            f"{step:15} {grown:8.0f} bytes an image; peaks {few[0] / 1e6:.0f} and "
            f"{many[0] / 1e6:.0f} MB; {per[0]:.1f} and {per[1]:.1f} s a million"
        )


if __name__ == "__main__":
    main()
