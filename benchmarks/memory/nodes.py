"""What `prepare` and a teacher's predictions take over several Ray nodes, by the number of images.

python -m benchmarks.memory.nodes [--images 200000] [--nodes 2]

Generated images of 8×8 pixels in one Parquet file, prepared into storage on this machine by as many
Ray nodes of one CPU each, on loopback, and predicted by an actor on each: a tenth of the images,
half of them, then all. Printed are the memory of the driver, which in a run is the stage's own
process (see benchmarks.memory), the seconds, the start of Ray's workers among them, and what the
images between one number and the next take.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory.measure import bytes_an_image, measured
from benchmarks.runs import arguments
from cluster.local import local_cluster
from pipeline.progress import say

SIDE, LABELED_EVERY, ROWS_AT_ONCE, STARTED = 8, 100, 10_000, 5_000
CLASSES = [f"class {number}" for number in range(10)]


def write_source(path: Path, count: int) -> None:
    """Noise as PNG, no two images alike, one in LABELED_EVERY with a label."""
    from pipeline.data.encoding import encode_png

    draw = np.random.default_rng(0)
    names = {"classes": "|".join(CLASSES)}
    schema = pa.schema(
        {"id": pa.string(), "image": pa.binary(), "label": pa.int32()}, metadata=names
    )
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for start in range(0, count, ROWS_AT_ONCE):
            rows = range(start, min(start + ROWS_AT_ONCE, count))
            pixels = draw.integers(0, 256, (len(rows), SIDE, SIDE, 1), np.uint8)
            labels = [
                row // LABELED_EVERY % 10 if row % LABELED_EVERY == 0 else None for row in rows
            ]
            columns = [[f"image_{row:09d}" for row in rows], [*map(encode_png, pixels)], labels]
            writer.write_table(pa.table(columns, schema=schema))


def prepare_images(at: Path) -> None:
    """Prepare the images of `at`/source.parquet, in a Ray task on each node."""
    from pipeline.data.preparation.prepare import prepare
    from pipeline.data.sources import open_source
    from pipeline.data.storage import StoredFolder
    from pipeline.params import DataParams
    from pipeline.ray.map_shards import in_ray_tasks
    from pipeline.tasks.classification import TASK

    path = str(at / "source.parquet")
    data = DataParams(source="parquet", path=path, image_size=SIDE, channels=1)
    storage = StoredFolder((at / "storage").as_uri())
    nodes = int(os.environ["NODES"])
    with in_ray_tasks(nodes, stored=True, title="prepare", reads=path) as map_items:
        prepare(
            open_source("parquet", path, seed=0),
            at / "prepared",
            data,
            task=TASK,
            seed=0,
            scratch=at / "scratch",
            place_of=storage.__truediv__,
            map_items=map_items,
        )


def predict_images(at: Path) -> None:
    """Predict what was prepared with a small network, an actor on each node."""
    from pipeline.data.storage import StoredFolder
    from pipeline.labels.predict import ShardPredictor
    from pipeline.models.checkpoint import network_of, save_checkpoint
    from pipeline.models.spec import ModelSpec
    from pipeline.params import ModelParams, PredictParams
    from pipeline.ray.map_shards import distributed_map

    spec = ModelSpec(
        ModelParams(name="resnet_small", width=4).network, CLASSES, SIDE, 1, [0.5], [0.25], "0"
    )
    save_checkpoint(at / "model", network_of(spec).state_dict(), spec)
    out = StoredFolder((at / "storage" / "predictions").as_uri())
    params = PredictParams(views="centre", batch_size=512, device="cpu", precision="float32")
    work = ShardPredictor((at / "model",), at / "prepared" / "unlabeled", out, params, seed=0)
    nodes = int(os.environ["NODES"])
    distributed_map(
        (work, list(range(len(work.manifest.shards)))),
        actors=(nodes, nodes),
        gpus_per_actor=1.0,
        scratch=at / "scratch",
        title="predict",
    )


def compare(step: Callable[[Path], None], folder: Path, sizes: Sequence[int]) -> None:
    """Print what the step takes of each number of images."""
    taken = [measured(step, folder / str(count)) for count in sizes]
    peaks = ", ".join(f"{(each.before + each.bytes) / 1e6:.0f}" for each in taken)
    walls = ", ".join(f"{each.wall:.0f}" for each in taken)
    pairs = list(zip(pairwise(taken), pairwise(sizes), strict=True))
    more = [1e6 * (b.wall - a.wall) / (n - m) for (a, b), (m, n) in pairs]
    grown = [bytes_an_image(a, b, (m, n)) for (a, b), (m, n) in pairs]
    say(
        f"{step.__name__} of {', '.join(map(str, sizes))}: driver {peaks} MB; {walls} s; of each "
        f"more {', '.join(f'{each:.0f}' for each in grown)} bytes, and of a million more "
        f"{', '.join(f'{each:.0f}' for each in more)} s"
    )


def main() -> None:
    """Measure and print."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--nodes", type=int, default=2)
    given = parser.parse_args()
    sizes = (given.images // 10, given.images // 2, given.images)
    with tempfile.TemporaryDirectory() as made, local_cluster(given.nodes, head_cpus=0) as cluster:
        os.environ |= cluster.environment | {"NODES": str(given.nodes)}
        for count in (STARTED, *sizes):
            (Path(made) / str(count)).mkdir()
            write_source(Path(made) / str(count) / "source.parquet", count)
        for step in (prepare_images, predict_images):
            measured(step, Path(made) / str(STARTED))  # workers have imported what they need
            compare(step, Path(made), sizes)


if __name__ == "__main__":
    main()
