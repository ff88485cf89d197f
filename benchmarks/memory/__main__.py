"""Memory and seconds of what goes through all images, by the number of images.

python -m benchmarks.memory [--images 1000000] [--steps galleries select …] [--folder DIR]

Generated images of 4×4 pixels, features of 8 numbers, and predictions and pseudo-labels of 10
classes, in the formats of the stages. Each step runs in a process of its own over a tenth of the
images and over all of them: bytes an image are the growth of its peak between the two, seconds a
million those of all. Exits with 1 where a step grows by more than MOST_BYTES an image.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.memory.data import write_all
from benchmarks.memory.measure import MOST_BYTES, bytes_an_image, measured
from benchmarks.memory.steps import STEPS
from benchmarks.runs import arguments
from pipeline.progress import say


def main() -> int:
    """Measure and print; the exit code."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--folder", type=Path, help="where the images are left for another run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        return compare(given.folder or Path(made), given.images, given.steps)


def compare(folder: Path, images: int, steps: Sequence[str]) -> int:
    """Print what each step takes of a tenth of the images and of all; 1 where one takes too much
    memory, else 0."""
    sizes, over = (images // 10, images), []
    for count in sizes:
        if not (folder / str(count) / "truth.parquet").exists():
            begun = time.perf_counter()
            write_all(folder / str(count), count)
            say(f"wrote {count:,} in {time.perf_counter() - begun:.0f} s")
    for step in steps:
        few, many = (measured(STEPS[step], folder / str(count)) for count in sizes)
        grown = bytes_an_image(few, many, sizes)
        per = [1e6 * each.seconds / count for each, count in zip((few, many), sizes, strict=True)]
        say(
            f"{step:15} {grown:8.0f} bytes an image; peaks {few.bytes / 1e6:.0f} and "
            f"{many.bytes / 1e6:.0f} MB beyond {many.before / 1e6:.0f}; "
            f"{per[0]:.1f} and {per[1]:.1f} s a million"
        )
        over += [step] * (grown > MOST_BYTES)
    if over:
        say(f"over {MOST_BYTES} bytes an image: {', '.join(over)}")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
