"""From a source to the four prepared folders, in two passes: decode and remember, then write.

The outputs are a function of the source's images, the parameters and the seed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data.images import decode_png
from pipeline.data.preparation.assign import (
    REASONS,
    Side,
    assign_sides,
    check_classes,
    check_sides,
)
from pipeline.data.preparation.corrections import Corrected, apply_corrections, read_corrections
from pipeline.data.preparation.duplicates import Ints
from pipeline.data.preparation.ingest import ingest, stored_schema
from pipeline.data.preparation.moments import Moments
from pipeline.data.preparation.records import Records, names_of, pixels_of, spilled
from pipeline.data.preparation.shard_writer import ShardWriter, write_rows
from pipeline.data.preparation.targets import Targets
from pipeline.data.sources.rows import Source, in_words
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import upload_shards
from pipeline.files import replace_folder, write_json, written_whole
from pipeline.params import DataParams
from pipeline.params.sections import DEFAULT_TASK
from pipeline.progress import progress, say

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
MANY_COPIES = 0.01  # of the images; more are worth a warning
NAMES_SHOWN = 5
SIDES_WORDS = ("labelled", "unlabelled", "validation", "test")


@dataclass(frozen=True)
class PrepareCounts:
    """How many images went where; `quarantined` includes `conflicts`, `excluded` and `grouped`.

    seen: files and rows of the source: the four sides, quarantined, duplicates_dropped and
    other_files, which are no rows; grouped: of a group that validation or test images belong to;
    corrected, excluded, corrections_unused: what a person said, as in Corrected.
    """

    seen: int
    labeled: int
    unlabeled: int
    validation: int
    test: int
    quarantined: int
    duplicates_dropped: int
    other_files: int
    conflicts: int
    animated: int
    grouped: int = 0
    corrected: int = 0
    excluded: int = 0
    corrections_unused: int = 0

    def __str__(self) -> str:
        """In words, as `init` has them; of what there is none only left out is named."""
        sides = (self.labeled, self.unlabeled, self.validation, self.test)
        where = ", ".join(f"{count} {side}" for count, side in zip(sides, SIDES_WORDS, strict=True))
        unusable = self.quarantined - self.conflicts - self.excluded - self.grouped
        why = _counted(
            ("unusable", unusable),
            ("the same as one of another class", self.conflicts),
            ("as copies of validation or test images", self.duplicates_dropped),
            ("of a group that validation or test has", self.grouped),
            ("as corrections.csv says", self.excluded),
            ("of other kinds", self.other_files),
        )
        left_out = f"{self.seen - sum(sides)} left out" + (f" ({why})" if why else "")
        more = _counted(
            ("animated, their first frame used", self.animated),
            ("corrected", self.corrected),
            ("of corrections.csv not used", self.corrections_unused),
        )
        used = f"{self.seen} files or rows seen: {sum(sides)} used ({where}), {left_out}"
        return f"{used}; {more}" if more else used


def _counted(*kinds: tuple[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in kinds if count)


def prepare(
    source: Source,
    out: Path,
    data: DataParams,
    *,
    task: Targets,
    seed: int,
    threads: int | None = None,
    storage: StoredFolder | None = None,
    corrections: Path | None = None,
    check_source: Callable[[], None] = lambda: None,
) -> PrepareCounts:
    """Write `labeled`, `unlabeled`, `validation` and `test` under `out`, and what goes with them.

    Beside the shard folders: `unlabeled_truth.parquet` (id, target: the truth that a label budget
    hides), `quarantine.parquet` (id, reason) and, last, `dataset.json`. With `storage` the shards
    go there, and the folders hold their manifests alone. `corrections`: see read_corrections; they
    are beyond the budget. threads: None for one a core. check_source: called when all is read;
    raises SourceError where the source has changed. Raises SourceError, ParameterError or
    StorageError, and then leaves what was there before.
    """
    check_classes(source.classes)
    answers = {} if corrections is None else read_corrections(corrections, source.classes)
    with _scratch_folder(out) as scratch:
        records = ingest(source, scratch, data, task=task, threads=threads)
        check_source()
        pixels = partial(pixels_of, records)
        strata = len(source.classes) if task.image_classes else 1
        assigned = assign_sides(records, strata, data, seed, pixels)
        corrected = apply_corrections(records, assigned.sides, answers)
        records, sides = corrected.records, corrected.sides
        if source.left_out:
            say(f"prepare: left out: {in_words(source.left_out)}")
        for line in check_sides(
            records, sides, source.classes, data.held_out_fraction, task.image_classes
        ):
            say(f"prepare: warning: {line}")
        copies = _copies(records, sides, assigned.copy_of)
        mean, std = _write_sides(corrected, copies, source.left_out, scratch, data, task)
        dataset = {
            "channels": data.channels,
            "image_size": data.image_size,
            "classes": source.classes,
            "mean": mean,
            "std": std,
            "seed": seed,
            "source": source.name,
            "bits": data.bits or 16,
            **_noted(task),
        }
        if data.validation == "folds":
            dataset["folds"] = data.folds
        if corrections is not None:
            dataset["corrections"] = {"labeled": corrected.labeled, "excluded": corrected.excluded}
        for name in FOLDERS.values():
            upload_shards(scratch / name, storage, name)
        _publish(scratch, out, dataset)
    return _counts(corrected, len(source.left_out))


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


def _copies(records: Records, sides: Ints, copy_of: Ints) -> dict[int, str]:
    """The id of the held-out image that each dropped row is a copy of; warns of many, and of those
    that have another label than their copy."""
    rows = np.flatnonzero(copy_of >= 0)
    if not len(rows):
        return {}
    names = names_of(records, np.unique(np.concatenate([rows, copy_of[rows]])))
    dropped = rows[sides[rows] == Side.DUPLICATE].tolist()
    others = rows[sides[rows] != Side.DUPLICATE].tolist()

    def shown(rows: list[int]) -> str:
        pairs = [f"{names[row]!r} of {names[int(copy_of[row])]!r}" for row in rows[:NAMES_SHOWN]]
        return ", ".join(pairs) + (", …" if len(rows) > NAMES_SHOWN else "")

    if len(dropped) > MANY_COPIES * len(records):
        say(
            f"prepare: warning: {len(dropped)} of {len(records)} images are left out as copies of "
            f"held-out ones ({shown(dropped)}); data.near_duplicate_distance: 0 keeps all but "
            "exact copies"
        )
    if others:
        say(
            f"prepare: warning: {len(others)} images look the same as a held-out one of another "
            f"class ({shown(others)}); which is right?"
        )
    return {row: names[int(copy_of[row])] for row in dropped}


def _write_sides(
    corrected: Corrected,
    copies: dict[int, str],
    unused: Iterable[tuple[str, str]],
    scratch: Path,
    data: DataParams,
    task: Targets,
) -> tuple[list[float], list[float]]:
    """Write every shard and side file into `scratch`; mean and std of the labelled pixels."""
    records, target, schema = corrected.records, task.target.name, stored_schema(task)
    left_out = [*records.bad, *unused]
    moments = Moments(data.channels)
    shape = {"channels": data.channels, "image_size": data.image_size, **_noted(task)}
    with ExitStack() as stack, progress("prepare: write", len(records)) as advance:
        writers = {
            side: stack.enter_context(
                ShardWriter(
                    scratch / name,
                    schema,
                    rows_per_shard=data.images_per_shard,
                    metadata=shape,
                )
            )
            for side, name in FOLDERS.items()
        }
        for row, stored in enumerate(spilled(records)):
            side, name = Side(int(corrected.sides[row])), stored["id"]
            answer = corrected.labels.get(row, stored[target])
            if side in REASONS:
                left_out.append((name, REASONS[side]))
            elif side == Side.DUPLICATE:
                left_out.append((name, f"a copy of {copies[row]!r}"))
            else:
                known = None if side == Side.UNLABELED else answer
                writers[side].add(stored | {target: known})
            if side == Side.LABELED:
                whole = (stored["width"], stored["height"]) if task.keeps_whole else None
                moments.add(decode_png(stored["image"]), whole)
            advance()
    truth_schema = pa.schema([("id", pa.string()), task.target])
    write_rows(scratch / TRUTH_FILE, _hidden(corrected, target), truth_schema)
    quarantine = ({"id": name, "reason": reason} for name, reason in left_out)
    write_rows(scratch / QUARANTINE_FILE, quarantine, QUARANTINE_SCHEMA)
    return moments.mean_and_std()


def _hidden(corrected: Corrected, target: str) -> Iterator[dict[str, Any]]:
    """The answers of unlabelled images, which the budget hides."""
    for side, row in zip(corrected.sides, spilled(corrected.records, ["id", target]), strict=True):
        if side == Side.UNLABELED and row[target] is not None:
            yield row


def _noted(task: Targets) -> dict[str, str]:
    """What is said of a task that is not the default."""
    return {} if task.name == DEFAULT_TASK else {"task": task.name}


def _publish(scratch: Path, out: Path, dataset: dict[str, Any]) -> None:
    """Move what is finished to its place, the description last."""
    (out / DATASET_FILE).unlink(missing_ok=True)
    for name in FOLDERS.values():
        replace_folder(scratch / name, out / name)
    for name in (TRUTH_FILE, QUARANTINE_FILE):
        with written_whole(out / name) as partial:
            shutil.move(scratch / name, partial)
    write_json(out / DATASET_FILE, dataset)


def _counts(corrected: Corrected, other_files: int) -> PrepareCounts:
    count = np.bincount(corrected.sides, minlength=len(Side)).tolist()
    records = corrected.records
    return PrepareCounts(
        seen=len(records) + len(records.bad) + other_files,
        **{name: count[side] for side, name in FOLDERS.items()},
        quarantined=len(records.bad) + sum(count[side] for side in REASONS),
        duplicates_dropped=count[Side.DUPLICATE],
        other_files=other_files,
        conflicts=count[Side.CONFLICT],
        animated=records.animated,
        grouped=count[Side.GROUP],
        corrected=corrected.labeled,
        excluded=corrected.excluded,
        corrections_unused=corrected.unused,
    )
