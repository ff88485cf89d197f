"""From a source to the four prepared folders, in two passes: decode and remember, then write.

The outputs are a function of the source's images, the parameters and the seed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.data.assign import Side, SplitRules, assign_sides
from pipeline.data.corrections import Corrected, apply_corrections, read_corrections
from pipeline.data.images import decode_png
from pipeline.data.ingest import Records, ingest, spilled
from pipeline.data.shard_writer import ShardWriter
from pipeline.data.shards import IMAGE_SCHEMA, write_shard
from pipeline.data.sources.rows import Source
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import upload_shards
from pipeline.errors import SourceError
from pipeline.files import replace_folder, write_json, written_whole
from pipeline.progress import progress, say

TRUTH_SCHEMA = pa.schema([("id", pa.string()), ("label", pa.int32())])
QUARANTINE_SCHEMA = pa.schema([("id", pa.string()), ("reason", pa.string())])
FOLDERS = {
    Side.LABELED: "labeled",
    Side.UNLABELED: "unlabeled",
    Side.VALIDATION: "validation",
    Side.TEST: "test",
}
TRUTH_FILE, QUARANTINE_FILE = "unlabeled_truth.parquet", "quarantine.parquet"
DATASET_FILE = "dataset.json"
SCRATCH_NAME = ".prepare"
REASONS = {Side.CONFLICT: "conflicting labels", Side.EXCLUDED: "a person: none of the classes"}
NAMES_SHOWN = 5
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what neither UTF-8 nor HTML can hold


@dataclass(frozen=True)
class PrepareCounts:
    """How many images went where; `quarantined` includes the `conflicts` and the `excluded`.

    corrected, excluded, corrections_unused: what a person said, as in Corrected.
    """

    labeled: int
    unlabeled: int
    validation: int
    test: int
    quarantined: int
    duplicates_dropped: int
    conflicts: int
    animated: int
    corrected: int = 0
    excluded: int = 0
    corrections_unused: int = 0


def prepare(
    source: Source,
    out: Path,
    *,
    image_size: int,
    channels: int,
    labels: int | None,
    validation_fraction: float,
    test_fraction: float,
    max_pixels: int,
    max_bad_fraction: float,
    near_duplicate_distance: float,
    images_per_shard: int,
    seed: int,
    threads: int | None = None,
    storage: StoredFolder | None = None,
    corrections: Path | None = None,
    folds: int | None = None,
) -> PrepareCounts:
    """Write `labeled`, `unlabeled`, `validation` and `test` under `out`, and what goes with them.

    Beside the shard folders: `unlabeled_truth.parquet` (id, label: the truth that a label budget
    hides), `quarantine.parquet` (id, reason) and, last, `dataset.json`. With `storage` the shards
    go there, and the folders hold their manifests alone. `corrections`: see read_corrections; they
    are beyond the budget. `folds`: parts of the cross-validation that training is to make
    of the labelled images, noted for it. Raises SourceError, ParameterError or
    StorageError, and then leaves what was there before.
    """
    _check_classes(source)
    said = {} if corrections is None else read_corrections(corrections, source.classes)
    with _scratch_folder(out) as scratch:
        records = ingest(
            source,
            scratch,
            image_size=image_size,
            channels=channels,
            max_pixels=max_pixels,
            max_bad_fraction=max_bad_fraction,
            threads=threads,
        )
        rules = SplitRules(
            len(source.classes),
            labels,
            validation_fraction,
            test_fraction,
            near_duplicate_distance,
            seed,
        )
        if not (records.labels >= 0).any():
            raise SourceError("the source holds no usable labelled images")
        corrected = apply_corrections(records, assign_sides(records, rules), said)
        records, sides = corrected.records, corrected.sides
        _check_sides(records, sides, source.classes, validation_fraction)
        shape = {"channels": channels, "image_size": image_size}
        mean, std = _write_sides(records, sides, scratch, images_per_shard, shape)
        dataset = shape | {
            "classes": source.classes,
            "mean": mean,
            "std": std,
            "seed": seed,
            "source": source.name,
        }
        if folds is not None:
            dataset["folds"] = folds
        if corrections is not None:
            dataset["corrections"] = {"labeled": corrected.labeled, "excluded": corrected.excluded}
        for name in FOLDERS.values():
            upload_shards(scratch / name, storage, name)
        _publish(scratch, out, dataset)
    return _counts(corrected)


@contextmanager
def _scratch_folder(out: Path) -> Iterator[Path]:
    """An empty folder on the file system of `out`, removed at the end, or by the next run."""
    scratch = out / SCRATCH_NAME
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_classes(source: Source) -> None:
    names = source.classes
    if len(names) < 2:
        raise SourceError(f"the source has {len(names)} class(es); at least 2 are needed")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"there are two classes named {twice!r}; rename one")
    for name in names:
        if not name.strip() or NO_TEXT.search(name):
            raise SourceError(f"class name {name!r}: must be text, and not empty; rename it")


def _check_sides(
    records: Records, sides: NDArray[np.int64], classes: list[str], validation_fraction: float
) -> None:
    """Refuse what can't be trained or tested; warn, a line each, of what can but is short."""
    if missing := _missing(records.labels[sides == Side.LABELED], classes):
        raise SourceError(
            f"no labelled training image left of {missing}; "
            f"add labelled images, or remove the class"
        )
    if not (sides == Side.TEST).any():
        raise SourceError(
            "no test images, so nothing could be measured; raise data.test_fraction, or add some"
        )
    if not (sides == Side.UNLABELED).any():
        say("prepare: warning: no unlabelled images, so only the labels can teach")
    if missing := _missing(records.labels[sides == Side.TEST], classes):
        say(f"prepare: warning: no test image of {missing}: its accuracy stays unknown")
    if not validation_fraction:
        return
    if not (sides == Side.VALIDATION).any():
        say("prepare: warning: no validation images, so choices that need them are off")
    elif missing := _missing(records.labels[sides == Side.VALIDATION], classes):
        say(f"prepare: warning: no validation image of {missing}: choices don't heed it")


def _missing(labels: NDArray[np.int64], classes: list[str]) -> str:
    """The classes that `labels` has none of, as a list of a few names; "" where it has all."""
    counts = np.bincount(labels, minlength=len(classes))
    names = [repr(name) for name, count in zip(classes, counts, strict=True) if count == 0]
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")


def _write_sides(
    records: Records,
    sides: NDArray[np.int64],
    scratch: Path,
    images_per_shard: int,
    shape: dict[str, int],
) -> tuple[list[float], list[float]]:
    """Write every shard and side file into `scratch`; mean and std of the labelled pixels."""
    truth: list[dict[str, Any]] = []
    left_out: list[tuple[str, str]] = []
    moments = _Moments(shape["channels"])
    with ExitStack() as stack, progress("prepare: write", len(records)) as advance:
        writers = {
            side: stack.enter_context(
                ShardWriter(
                    scratch / name, IMAGE_SCHEMA, rows_per_shard=images_per_shard, metadata=shape
                )
            )
            for side, name in FOLDERS.items()
        }
        for name, data, label, side in _rows(records, sides):
            if side in REASONS:
                left_out.append((name, REASONS[side]))
            elif side != Side.DUPLICATE:
                shown = None if side == Side.UNLABELED else label
                writers[side].add({"id": name, "image": data, "label": shown})
            if side == Side.LABELED:
                moments.add(decode_png(data))
            if side == Side.UNLABELED and label is not None:
                truth.append({"id": name, "label": label})
            advance()
    write_shard(scratch / TRUTH_FILE, pa.Table.from_pylist(truth, schema=TRUTH_SCHEMA))
    _write_quarantine(scratch / QUARANTINE_FILE, [*records.bad, *left_out])
    return moments.mean_and_std()


def _rows(
    records: Records, sides: NDArray[np.int64]
) -> Iterator[tuple[str, bytes, int | None, Side]]:
    for row, (name, data) in enumerate(spilled(records)):
        label = int(records.labels[row])
        yield name, data, None if label < 0 else label, Side(int(sides[row]))


def _write_quarantine(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    table = [{"id": name, "reason": reason} for name, reason in rows]
    write_shard(path, pa.Table.from_pylist(table, schema=QUARANTINE_SCHEMA))


class _Moments:
    """Sums of pixels and of their squares, exact, per channel."""

    def __init__(self, channels: int) -> None:
        self._pixels = 0
        self._sums, self._squares = np.zeros(channels, np.int64), np.zeros(channels, np.int64)

    def add(self, pixels: NDArray[np.uint8]) -> None:
        values = pixels.reshape(-1, pixels.shape[2]).astype(np.int64)
        self._pixels += len(values)
        self._sums += values.sum(axis=0)
        self._squares += (values * values).sum(axis=0)

    def mean_and_std(self) -> tuple[list[float], list[float]]:
        """Per channel, of pixels in 0..1; a constant channel gets the std of one grey level."""
        mean = self._sums / self._pixels
        variance = np.maximum(self._squares / self._pixels - mean**2, 1.0)
        return [float(m) / 255 for m in mean], [float(s) / 255 for s in np.sqrt(variance)]


def _publish(scratch: Path, out: Path, dataset: dict[str, Any]) -> None:
    """Move what is finished to its place, the description last."""
    (out / DATASET_FILE).unlink(missing_ok=True)
    for name in FOLDERS.values():
        replace_folder(scratch / name, out / name)
    for name in (TRUTH_FILE, QUARANTINE_FILE):
        with written_whole(out / name) as partial:
            shutil.move(scratch / name, partial)
    write_json(out / DATASET_FILE, dataset)


def _counts(corrected: Corrected) -> PrepareCounts:
    count = np.bincount(corrected.sides, minlength=len(Side)).tolist()
    return PrepareCounts(
        labeled=count[Side.LABELED],
        unlabeled=count[Side.UNLABELED],
        validation=count[Side.VALIDATION],
        test=count[Side.TEST],
        quarantined=len(corrected.records.bad) + count[Side.CONFLICT] + count[Side.EXCLUDED],
        duplicates_dropped=count[Side.DUPLICATE],
        conflicts=count[Side.CONFLICT],
        animated=corrected.records.animated,
        corrected=corrected.labeled,
        excluded=corrected.excluded,
        corrections_unused=corrected.unused,
    )
