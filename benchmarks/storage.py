"""Photographs stored as JPEG beside the same pixels as PNG: bytes, speed, accuracy.

python -m benchmarks.storage --data FOLDER

The protocol: the photographs of photos.parquet and eurosat.parquet, at several sides, encoded and
decoded one after the other in turns, in seconds of the process's own time, on one thread. Accuracy
is that of the logistic regression of preset photographs on features of its frozen body, from few
labels of each class, by split; the same splits for both. EuroSAT's own files are JPEGs of 64
pixels, which `prepare` stores as they are; here they are encoded anew. `as they come`: trained on
stored JPEGs, tested on pixels that never were stored, as `selftrain predict` sees them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.photos_data import SOURCES, Source, balanced_split, read_set
from benchmarks.runs import (
    PAGE,
    ROOT,
    Row,
    arguments,
    code_of,
    compare,
    data_missing,
    gain_table,
    keep,
    kept,
    put_table,
)
from pipeline.data.encoding import Pixels, encode_jpeg, encode_png
from pipeline.data.images import decode_stored
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.train.body import embedded
from pipeline.train.head import choose_l2, fit_labeled

SETS, SIDES = ("photos", "EuroSAT"), (64, 96, 128, 224)
FEWER = 200  # images whose bytes and speed are measured, evenly spaced
ROUNDS = 5
ACCURACY = {"photos": (5, None), "EuroSAT": (10, 1500)}  # labels a class; images of each split
SPLITS = 20
AS_PNG, AS_JPEG, AS_THEY_COME = "PNG", "JPEG", "JPEG, tested as they come"
CODE = ("pipeline/data", "pipeline/models", "pipeline/train", "benchmarks/photos_data.py")


def speed_rows(images: Sequence[Pixels], where: str) -> list[Row]:
    """Bytes an image, and images a second written and read: JPEG, PNG beside it."""
    files = {encode: [encode(each) for each in images] for encode in (encode_jpeg, encode_png)}
    size, other = (float(np.mean([len(data) for data in each])) for each in files.values())
    written = compare(
        f"written, {where}",
        "images/s",
        lambda: _rate(encode_jpeg, images),
        lambda: _rate(encode_png, images),
        rounds=ROUNDS,
    )
    read = compare(
        f"read, {where}",
        "images/s",
        lambda: _rate(decode_stored, files[encode_jpeg]),
        lambda: _rate(decode_stored, files[encode_png]),
        rounds=ROUNDS,
    )
    return [Row(f"bytes, {where}", "an image", size, other, size / other), written, read]


def _rate(work: Callable[[Any], object], items: Sequence[Any]) -> float:
    """Items a second of the process's own time."""
    start = time.process_time()
    for item in items:
        work(item)
    return len(items) / (time.process_time() - start)


def accuracies(folder: Path, source: Source, per_class: int) -> list[dict[str, float]]:
    """Test accuracy by how images are stored, for each split."""
    data = read_set(folder, source)
    embed = load_params(ROOT / "presets" / "photographs.yaml").embed
    parts = [data.images, stored(data.images), data.test, stored(data.test)]
    train, jpeg_train, test, jpeg_test = embedded(parts, embed.model_copy(update={"threads": 1}))
    num_classes, rows = len(data.classes), []
    for split in range(SPLITS):
        labeled, _ = balanced_split(data.labels, per_class, split)
        labels, row = data.labels[labeled], dict[str, float]()
        ways = {AS_PNG: (train, [test]), AS_JPEG: (jpeg_train, [jpeg_test, test])}
        for name, (known, tests) in ways.items():
            l2 = choose_l2(known[labeled], labels, num_classes, seed=split).l2
            head = fit_labeled(known[labeled], labels, num_classes, l2=l2)
            right = [
                float((head.log_probs(each).argmax(1) == data.test_labels).mean()) for each in tests
            ]
            row |= dict(zip((name, AS_THEY_COME), right, strict=False))
        rows.append(row)
    return rows


def stored(images: Tensor) -> Tensor:
    """Images (n, C, S, S) uint8 as they are read again from JPEGs."""
    pixels = images.permute(0, 2, 3, 1).numpy()
    read = np.stack([decode_stored(encode_jpeg(each)) for each in pixels])
    return torch.from_numpy(read).permute(0, 3, 1, 2).contiguous()


def main() -> None:
    """Measure what is not kept yet, and write results and tables."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files")
    folder = parser.parse_args().data
    if data_missing(folder, {SOURCES[name].train for name in SETS}):
        return
    torch.set_num_threads(1)
    tables, code = [], code_of((*CODE, "benchmarks/storage.py"))
    for name in SETS:
        per_class, count = ACCURACY[name]
        source = replace(SOURCES[name], num_train=count, num_test=count)
        work = partial(accuracies, folder, source, per_class)
        rows = kept(Path(__file__), name, vars(source) | {"labels": per_class}, work, code=code)
        table = gain_table(rows, (AS_PNG, AS_JPEG, AS_THEY_COME), AS_PNG)
        tables.append(
            f"{name} at {source.image_size} pixels, {per_class} labels a class:\n\n{table}"
        )
        say(tables[-1])
    put_table(PAGE, "stored_accuracy", "\n\n".join(tables))
    rows = []
    for name in SETS:
        for side in SIDES:
            images = read_set(folder, replace(SOURCES[name], image_size=side)).test
            some = images[:: max(1, len(images) // FEWER)].permute(0, 2, 3, 1).numpy()
            rows += speed_rows([np.ascontiguousarray(each) for each in some], f"{name} at {side}")
    keep("storage", rows, rounds=ROUNDS)


if __name__ == "__main__":
    main()
