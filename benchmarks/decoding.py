"""Images a second into the training cache, against bare `torchvision.io.decode_image` in threads.

python -m benchmarks.decoding [--rounds 5] [--images 16384] [--threads 1]

Ours opens a prepared folder, whose shards' SHA-256 and PNG checksums it checks; the reference has
the files' bytes in memory already. Seconds are the process's own.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.ingest import write_pictures
from benchmarks.measure import Row, compare, keep, rate
from pipeline.data.shards import read_manifest, read_shard
from pipeline.data.tensors import column_bytes, decode_op, load_images

TASK = 256  # images of a thread at a time


def row_of(side: int, count: int, threads: int, rounds: int) -> Row:
    """The comparison at one size."""
    with tempfile.TemporaryDirectory(prefix="decoding-") as name:
        folder = Path(name)
        write_pictures(folder, count, side)
        files = [folder / entry.file for entry in read_manifest(folder).shards]
        items = [item for file in files for item in column_bytes(read_shard(file, ["image"]))]
        data = [torch.from_numpy(item.copy()) for item in items]
        decode_image = decode_op()

        def bare() -> None:
            out = torch.empty((count, 3, side, side), dtype=torch.uint8)

            def decode(start: int) -> None:
                for place in range(start, min(start + TASK, count)):
                    out[place] = decode_image(data[place], 3)

            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(decode, range(0, count, TASK)))

        def loaded() -> None:
            load_images(folder, threads=threads, cache_gib=64.0)

        return compare(
            f"{side}×{side}",
            "images/s",
            lambda: rate(loaded, count, own=True),
            lambda: rate(bare, count, own=True),
            rounds=rounds,
            at_least=0.9,
        )


def main() -> None:
    """Measure both sizes and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=16384, help="at 32×32; fewer of larger ones")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    rows = [
        row_of(side, max(256, args.images * 32**2 // side**2), args.threads, args.rounds)
        for side in (32, 224)
    ]
    keep("decode", rows, rounds=args.rounds, threads=args.threads, about={"images": args.images})


if __name__ == "__main__":
    main()
