"""From a source to the four prepared folders, in two passes: decode and remember, then write.

Both are done in tasks, over slices of the source and over shards; sides are decided between them.

The outputs are a function of the source's images, the parameters and the seed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.preparation.assign import (
    REASONS,
    Side,
    assign_sides,
    check_classes,
    check_sides,
)
from pipeline.data.preparation.copies import CopySearch
from pipeline.data.preparation.corrections import Corrected, apply_corrections, task_corrections
from pipeline.data.preparation.ingest import ingest
from pipeline.data.preparation.leftover import Leftover
from pipeline.data.preparation.moments import Moments
from pipeline.data.preparation.side_shards import SideShards, side_shards
from pipeline.data.preparation.slices import Slices
from pipeline.data.preparation.targets import Targets
from pipeline.data.shards import ShardEntry, write_manifest
from pipeline.data.sources.rows import Source, in_words
from pipeline.data.storage import StoredFolder
from pipeline.files import remove_partials, replace_folder, write_json, written_whole
from pipeline.mapping import MapItems, in_threads
from pipeline.params import DataParams
from pipeline.params.sections import DEFAULT_TASK
from pipeline.progress import progress, say

FOLDERS = {
    Side.LABELED: "labeled",
    Side.UNLABELED: "unlabeled",
    Side.VALIDATION: "validation",
    Side.TEST: "test",
}
TRUTH_FILE, QUARANTINE_FILE = "unlabeled_truth.parquet", "quarantine.parquet"
DATASET_FILE = "dataset.json"
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
    scratch: Path,
    place_of: Callable[[str], Path | StoredFolder] | None = None,
    map_items: MapItems | None = None,
    corrections: Path | None = None,
    check_source: Callable[[], None] = lambda: None,
) -> PrepareCounts:
    """Write `labeled`, `unlabeled`, `validation` and `test` under `out`, and what goes with them.

    Beside the shard folders: `unlabeled_truth.parquet` (id, target: the truth that a label budget
    hides), `quarantine.parquet` (id, reason) and, last, `dataset.json`. scratch: a folder on the
    file system of `out`, of which what a killed call of the same left is taken up. place_of: where
    the shards of each of the four, and the "slices", lie: in storage, or below `scratch`, as by
    default; of those in storage the folders hold the manifests alone. map_items: who works on
    slices and shards; the result is the same. corrections: see read_corrections; they are beyond
    the budget. check_source: called when all is read; raises SourceError where the source has
    changed. Raises SourceError, ParameterError or StorageError, and then leaves what was there
    before.
    """
    check_classes(source.classes)
    answers = {} if corrections is None else task_corrections(corrections, task, source.classes)
    map_items = map_items or in_threads(os.cpu_count() or 1)
    place_of = place_of or scratch.joinpath
    for name in ("slices", *FOLDERS.values()):  # of a killed call
        remove_partials(scratch / name)
    records, slices = ingest(source, place_of("slices"), data, task=task, map_items=map_items)
    check_source()
    find_copies = CopySearch(records.digests, slices, data.near_duplicate_distance, map_items)
    classes = len(source.classes)
    strata = classes if task.image_classes else 1
    assigned = assign_sides(records, strata, data, seed, find_copies)
    corrected = apply_corrections(records, assigned.sides, answers, slices, task, data, classes)
    records, sides = corrected.records, corrected.sides
    if source.left_out:
        say(f"prepare: left out: {in_words(source.left_out)}")
    for line in check_sides(
        records, sides, source.classes, data.held_out_fraction, task.image_classes
    ):
        say(f"prepare: warning: {line}")
    leftover = Leftover(corrected, assigned.copy_of, slices)
    for line in leftover.warnings():
        say(f"prepare: warning: {line}")
    places = {name: place_of(name) for name in FOLDERS.values()}
    moments = _write_sides(corrected, slices, scratch, places, data, task, map_items)
    leftover.write_truth(scratch / TRUTH_FILE, task)
    leftover.write_quarantine(scratch / QUARANTINE_FILE, task, source.left_out)
    dataset = _dataset(source, data, task, seed, moments)
    if corrections is not None:
        dataset["corrections"] = {"labeled": corrected.labeled, "excluded": corrected.excluded}
    _publish(scratch, out, dataset)
    return _counts(corrected, len(source.left_out))


def _dataset(
    source: Source, data: DataParams, task: Targets, seed: int, moments: Moments
) -> dict[str, Any]:
    """What dataset.json says."""
    mean, std = moments.mean_and_std()
    folds = {"folds": data.folds} if data.validation == "folds" else {}
    return {
        "channels": data.channels,
        "image_size": data.image_size,
        "classes": source.classes,
        "mean": mean,
        "std": std,
        "seed": seed,
        "source": source.name,
        "bits": data.bits or 16,
        **_noted(task),
        **folds,
    }


def _write_sides(
    corrected: Corrected,
    slices: Slices,
    scratch: Path,
    places: Mapping[str, Path | StoredFolder],
    data: DataParams,
    task: Targets,
    map_items: MapItems,
) -> Moments:
    """Write every shard, and the manifests into `scratch`; the moments of the labelled pixels."""
    notes = {
        name: scratch / "notes" / name if isinstance(place, Path) else place
        for name, place in places.items()
    }
    moments, entries = Moments.none(data.channels), {name: list[ShardEntry]() for name in places}
    rows = {name: np.flatnonzero(corrected.sides == side) for side, name in FOLDERS.items()}
    shards = (
        shard
        for name in FOLDERS.values()
        for shard in side_shards(
            name,
            rows[name],
            slices,
            data.images_per_shard,
            corrected.labels,
            known=name != FOLDERS[Side.UNLABELED],
            counted=name == FOLDERS[Side.LABELED],
        )
    )
    write = SideShards(slices, places, notes, task, data.channels)
    with progress("prepare: write", sum(map(len, rows.values()))) as advance:
        for written in map_items(write, shards):
            entries[written.folder].append(written.entry)
            moments += written.moments
            advance(written.entry.rows)
    shape = {"channels": data.channels, "image_size": data.image_size, **_noted(task)}
    for name, found in entries.items():
        write_manifest(scratch / name, found, shape)
    return moments


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
