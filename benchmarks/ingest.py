"""Images a second that training is fed: streamed from shards, and kept in memory.

python -m benchmarks.ingest [--rounds 5] [--images 16384] [--threads 1] [--side 32 224]

Generated pictures are written as the stage `prepare` does, in shards of 4,096. Ours is a pass over
them in the order of training, in batches, from a stream that may hold an eighth of them; the
reference reads the shards one after the other with pyarrow and decodes what it reads with the same
threads. Beside them: batches of images that are kept decoded in memory, which smaller data gets.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from benchmarks.measure import Row, compared, in_turn, keep, rate
from pipeline.data.batches import batch_rows
from pipeline.data.png import encode_png
from pipeline.data.shard_writer import write_shards
from pipeline.data.shards import IMAGE_SCHEMA, read_manifest
from pipeline.data.streamed import ShardStream
from pipeline.data.tensors import column_bytes, decode_into, load_images

BATCH, SHARD, SHARE_HELD, SEED = 512, 4096, 8, 0
DISTINCT = 256


def pictures(count: int, side: int) -> Iterator[dict[str, object]]:
    """Rows of prepared images: smooth colours and some noise, as PNGs of photographs are."""
    draw = np.random.default_rng(side)
    encoded = []
    for _ in range(DISTINCT):
        coarse = torch.from_numpy(draw.uniform(0, 255, (1, 3, 8, 8)).astype(np.float32))
        smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
        noisy = smooth[0].permute(1, 2, 0).numpy() + draw.normal(0, 4, (side, side, 3))
        encoded.append(encode_png(np.clip(noisy, 0, 255).astype(np.uint8)))
    for place in range(count):
        yield {"id": f"image_{place}", "image": encoded[place % DISTINCT], "label": place % 10}


def write_pictures(folder: Path, count: int, side: int, rows_per_shard: int = SHARD) -> None:
    """A prepared folder of `count` generated pictures."""
    shape = {"channels": 3, "image_size": side}
    write_shards(
        folder, pictures(count, side), IMAGE_SCHEMA, rows_per_shard=rows_per_shard, metadata=shape
    )


def streamed(folder: Path, count: int, threads: int) -> float:
    """Images a second of one pass over a stream."""
    stream = ShardStream(folder, window=count // SHARE_HELD // 2, threads=threads)

    def work() -> None:
        for step in range(count // BATCH):
            stream.draw(step, BATCH, SEED, slice(0, None, 1))

    return rate(work, count // BATCH * BATCH)


def bare(folder: Path, side: int, count: int, threads: int) -> float:
    """Images a second of reading every shard in order and decoding what it holds."""
    files = [folder / entry.file for entry in read_manifest(folder).shards]
    size = max(1, BATCH // threads)

    def work() -> None:
        with ThreadPoolExecutor(threads) as pool:
            for file in files:
                data = column_bytes(pq.read_table(file, columns=["image"], use_threads=False))
                for start in range(0, len(data), BATCH):
                    part = data[start : start + BATCH]
                    out = torch.empty((len(part), 3, side, side), dtype=torch.uint8)
                    cuts = [slice(at, at + size) for at in range(0, len(part), size)]
                    for task in [pool.submit(decode_into, part[cut], out[cut]) for cut in cuts]:
                        task.result()

    return rate(work, count)


def kept_in_memory(images: torch.Tensor) -> float:
    """Images a second of one pass of batches out of memory, once they are decoded."""
    count = len(images)

    def work() -> None:
        for step in range(count // BATCH):
            images[torch.from_numpy(batch_rows(step, BATCH, count, SEED))].sum()

    return rate(work, count // BATCH * BATCH)


def rows_of(side: int, count: int, threads: int, rounds: int) -> list[Row]:
    """The comparisons at one size."""
    with tempfile.TemporaryDirectory(prefix="ingest-") as name:
        folder = Path(name)
        write_pictures(folder, count, side)
        images = load_images(folder, threads=threads, cache_gib=64.0).images
        answers = in_turn(
            {
                "ours": lambda: streamed(folder, count, threads),
                "reference": lambda: bare(folder, side, count, threads),
                "kept": lambda: kept_in_memory(images),
            },
            rounds,
        )
        title = f"{side}×{side}"
        cached = {"ours": answers["ours"], "reference": answers["kept"]}
        return [
            compared(f"{title}: streamed against a bare read", "images/s", answers, at_least=0.8),
            compared(f"{title}: streamed against kept in memory", "images/s", cached),
        ]


def main() -> None:
    """Measure each size and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=16384, help="at 32×32; fewer of larger ones")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--side", type=int, nargs="+", default=[32, 224])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for side in args.side:
        count = max(2048, args.images * 32 * 32 // side**2)
        rows += rows_of(side, count, args.threads, args.rounds)
    about = {"batch": BATCH, "share_held": 1 / SHARE_HELD}
    keep("ingest", rows, rounds=args.rounds, threads=args.threads, about=about)


if __name__ == "__main__":
    main()
