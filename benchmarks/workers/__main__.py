"""Images a second of prepare and embed by two workers, against one.

python -m benchmarks.workers [--rounds 3] [--images 10000] [--stages prepare embed]

Generated JPEGs of 500×375 pixels, stored at 128, and the packaged body. One worker and two take
turns, each with a Ray of its own. Rates are those of the stage's work once every worker has begun:
prepare counts from its first row to its last file, in tasks that have prepared few images before,
embed from the shard that makes every actor a busy one to the last. What comes before is the start,
which does not grow with the images.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.runs import Row, arguments, compare, keep
from pipeline.data.preparation.prepare import PrepareCounts, prepare
from pipeline.data.sources import open_source
from pipeline.data.storage import StoredFolder
from pipeline.mapping import MapItems
from pipeline.models.embed import ShardEmbedder
from pipeline.params import DataParams, EmbedParams
from pipeline.progress import say
from pipeline.ray.map_shards import distributed_map, in_ray_tasks
from pipeline.tasks import open_task
from pipeline.train.body import find_body, write_body

WIDTH, HEIGHT, CANVAS, QUALITY = 500, 375, 4000, 90
SIDES = (8, 32, 125, 500, 2000)  # of what the canvas is the mean of, as rough at every scale
CLASSES, FEW, MOST_SHARDS = 4, 400, 32
DATA = DataParams(
    source="folder", path=".", image_size=128, channels=3, labels=8 * CLASSES, images_per_shard=128
)
EMBED = EmbedParams(source="packaged")


def write_photographs(folder: Path, count: int) -> None:
    """So many different JPEGs, in a folder a class: cuts of one canvas."""
    draw, canvas = np.random.default_rng(0), np.zeros((CANVAS, CANVAS, 3), np.float32)
    for side in SIDES:
        coarse = Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8))
        canvas += np.asarray(coarse.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC), np.float32)
    whole = Image.fromarray((canvas / len(SIDES)).astype(np.uint8))
    for number in range(count):
        left, top = draw.integers(0, (CANVAS - WIDTH, CANVAS - HEIGHT)).tolist()
        path = folder / f"class_{number % CLASSES}" / f"image_{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.crop((left, top, left + WIDTH, top + HEIGHT)).save(path, quality=QUALITY)


@dataclass(frozen=True)
class Stages:
    """The stages in a folder, over so many images; starts: seconds, by stage and workers."""

    folder: Path
    images: int
    starts: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))

    def prepare(self, workers: int) -> float:
        """Images a second."""
        begun = time.perf_counter()
        with (
            tempfile.TemporaryDirectory(dir=self.folder) as name,
            in_ray_tasks(workers, stored=True, title="prepare") as map_items,
        ):
            self.prepared(FEW, Path(name) / "few", map_items)
            started = time.perf_counter()
            self.prepared(self.images, Path(name) / "all", map_items)
            seconds = time.perf_counter() - started
        self.starts["prepare", workers].append(started - begun)
        return self.images / seconds

    def embed(self, workers: int) -> float:
        """Images a second."""
        prepared, body = self.folder / "embed" / "prepared", self.folder / "body"
        if not body.exists():
            self.prepared(self.images, prepared.parent, None)
            write_body(body, EMBED, find_body(EMBED, self.folder), prepared)
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            out = Path(name)
            work = ShardEmbedder((body,), prepared / "unlabeled", out, EMBED.batch_size)
            full = min(len(work.manifest.shards) // 2 * 2 - 2, MOST_SHARDS)  # even, all of a size
            begun = time.time()
            distributed_map(
                (work, list(range(full))),
                actors=(workers, workers),
                gpus_per_actor=1.0,
                scratch=out,
                title="embed",
            )
            ended = sorted(path.stat().st_mtime for path in out.glob("*.parquet"))
        started = ended[workers - 1]
        self.starts["embed", workers].append(started - begun)
        return DATA.images_per_shard * (full - workers) / (ended[-1] - started)

    def prepared(self, images: int, into: Path, map_items: MapItems | None) -> PrepareCounts:
        """Prepare in tasks with storage, or in this process."""
        source = self.folder / f"{images}"
        if not source.exists():
            write_photographs(source, images)
        storage = StoredFolder((into / "storage").as_uri())
        (into / "scratch").mkdir(parents=True)
        return prepare(
            open_source("folder", str(source), seed=0),
            into / "prepared",
            DATA,
            task=open_task("classification"),
            seed=0,
            scratch=into / "scratch",
            place_of=storage.__truediv__ if map_items else None,
            map_items=map_items,
        )


def measured(stages: Stages, name: str, rounds: int) -> list[Row]:
    """The comparison of a stage, and its starts."""
    rate = getattr(stages, name)
    two, one = partial(rate, 2), partial(rate, 1)
    row = compare(f"{name}, two workers", "images/s", two, one, rounds=rounds, at_least=1.8)
    starts = [statistics.median(stages.starts[name, workers]) for workers in (2, 1)]
    return [row, Row(f"{name}, start of Ray and of two workers", "s", *starts)]


def main() -> None:
    """Measure and keep the table."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--stages", nargs="+", default=["prepare", "embed"])
    parser.add_argument("--folder", type=Path, help="where the images are left for another run")
    given, rows = parser.parse_args(), list[Row]()
    with tempfile.TemporaryDirectory(prefix="workers-") as made:
        stages = Stages(given.folder or Path(made), given.images)
        for name in given.stages:
            rows += measured(stages, name, given.rounds)
    load = os.getloadavg()[2]
    say(f"load of the last 15 minutes: {load:.1f}")
    keep("workers", rows, rounds=given.rounds, about={"images": given.images, "load": load})


if __name__ == "__main__":
    main()
