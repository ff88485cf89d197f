"""Images in Parquet: columns `image`, `label`, and optionally `id`, `split` and a group's.

`path` is a file, a folder or a glob. An image is bytes, or the struct of bytes and path that
Hugging Face writes. A label is a class's number or name, null or -1 where unlabelled. Class names
come from the schema's metadata (Hugging Face's, or `classes`: a JSON list, or `a|b|c`), else from
the labels; splits from the column, else from the files' names. Read by row group.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipeline.data.sources.columns import Wanted
from pipeline.data.sources.files import SYSTEM, Walk
from pipeline.data.sources.layout import SPLITS, part_of
from pipeline.data.sources.no_label import several_classes, without_label
from pipeline.data.sources.parquet_files import (
    find_columns,
    image_values,
    open_parquet,
    row_batches,
)
from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError

MOST_CLASSES = 100_000
BESIDE = "beside Parquet files, which alone are read"


class ParquetSource:
    """The rows of one Parquet file or of many, in the order of their paths."""

    name = "parquet"

    def __init__(self, path: str | Path, wanted: Wanted | None = None) -> None:
        self._files, self.left_out = find_parquet(str(path))
        if not self._files:
            raise SourceError(f"data.path = {str(path)!r}: no Parquet file, folder of them or glob")
        self._root = Path(os.path.commonpath([file.parent for file in self._files]))
        self._rows = 0
        self._columns: dict[Path, dict[str, str]] = {}
        self.notes: list[str] = []
        for file in self._files:
            with open_parquet(file) as opened:
                schema = opened.schema_arrow
                self._columns[file] = find_columns(schema, file, wanted or Wanted())
                self._rows += opened.metadata.num_rows
        unused = sorted({*schema.names} - {*self._columns[self._files[-1]].values()})
        if unused:
            self.notes.append(f"columns not used: {', '.join(map(repr, unused))}")
        self._splits = self._splits_of_files()
        self._numbers, self._classes = self._find_classes()
        if count := sum(map(self._held_out_without_label, self._files)):
            self.notes.append(f"{count} test or validation images have no label: unlabelled")

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""
        return list(self._classes)

    def __len__(self) -> int:
        return self._rows

    def rows(self) -> Iterator[Row]:
        """Every row of every file; without a column `id` its file and row make the id."""
        for file in self._files:
            first = 0
            for batch in row_batches(file, list(self._columns[file].values())):
                yield from self._batch_rows(batch, file, first)
                first += batch.num_rows

    def _batch_rows(self, batch: Any, file: Path, first: int) -> Iterator[Row]:
        columns = self._columns[file]
        images = image_values(batch.column(columns["image"]), file)
        ids, labels, splits, groups = (
            _values(batch, columns.get(use)) for use in ("id", "label", "split", "group")
        )
        for place in range(batch.num_rows):
            row = f"{file.relative_to(self._root).as_posix()}:{first + place}"
            name = ids[place] if "id" in columns else row
            if name is None:
                raise SourceError(f"{file}: row {first + place}: id is null")
            label = self._label(labels[place], f"{file}: row {first + place}")
            split = _split(splits[place], f"{file}: row {first + place}")
            split = split if "split" in columns else self._splits.get(file)
            yield Row(
                id=str(name),
                image=images[place] or b"",
                label=label,
                split=None if label is None else split,  # without a label it can't test
                problem=None if images[place] is not None else "no image",
                group=None if groups[place] is None else str(groups[place]),
            )

    def _label(self, value: Any, where: str) -> int | None:
        if value is None:
            return None
        if value not in self._numbers:
            raise SourceError(
                f"{where}: label {value!r}: not one of the {len(self._classes)} classes "
                f"(null is unlabelled)"
            )
        return self._numbers[value]

    def _held_out_without_label(self, file: Path) -> int:
        """How many rows of a file are named for test or validation, and have no label."""
        columns, of_file = self._columns[file], self._splits.get(file)
        if "split" not in columns and of_file in (None, "train"):
            return 0
        count = 0
        for batch in row_batches(
            file, [columns[use] for use in ("label", "split") if use in columns]
        ):
            splits = _values(batch, columns.get("split"))
            labels = _values(batch, columns["label"])
            for label, split in zip(labels, splits, strict=True):
                held = part_of(split or of_file or "") in ("test", "validation")
                count += held and self._numbers.get(label) is None
        return count

    def _splits_of_files(self) -> dict[Path, str]:
        """What the files' names say, where they differ: train-00000-of-00001, test/0000."""
        found = {file: _split_of(file.relative_to(self._root)) for file in self._files}
        if len({*found.values()}) < 2:
            return {}
        splits = {file: split for file, split in found.items() if split is not None}
        for file, split in splits.items():
            self.notes.append(f"{file.relative_to(self._root)}: {split}, by its name")
        return splits

    def _find_classes(self) -> tuple[dict[Any, int | None], list[str]]:
        """The class's number of each label, None for one that means none; the classes' names."""
        named = {
            file: _named_classes(file, columns["label"]) for file, columns in self._columns.items()
        }
        found = [names for names in named.values() if names is not None]
        if found and any(names != found[0] for names in found):
            raise SourceError("the Parquet files name different classes in their metadata")
        if found:
            numbers: dict[Any, int | None] = {name: n for n, name in enumerate(found[0])}
            return numbers | {n: n for n in range(len(found[0]))} | {-1: None}, found[0]
        values: set[Any] = set()
        for file in self._files:
            label = self._columns[file]["label"]
            for batch in row_batches(file, [label]):
                values.update(pc.unique(batch.column(label)).to_pylist())
                if len(values) > MOST_CLASSES:
                    raise SourceError(f"{file}: more than {MOST_CLASSES} different labels")
        return self._numbered(values - {None})

    def _numbered(self, labels: set[Any]) -> tuple[dict[Any, int | None], list[str]]:
        """Class names where only the labels tell: those that occur, in their order."""
        if len({isinstance(label, str) for label in labels}) > 1:
            raise SourceError(f"{self._root}: labels are numbers in some files and names in others")
        if (several := several_classes(map(str, labels))) is not None:
            raise SourceError(
                f"{self._root}: label {several!r} names several classes; an image has one: "
                "keep the rows of one label, or split the column"
            )
        none = without_label(map(str, labels))
        classes = sorted(label for label in labels if str(label) not in none)
        if not classes:
            raise SourceError(f"{self._files[0]}: no labelled images: every label is null")
        if isinstance(classes[0], int):
            _check_numbers(classes, self._files[0])
            if classes != list(range(len(classes))):
                shown = f"{classes[0]} to {classes[-1]}"
                self.notes.append(f"the classes are the {len(classes)} numbers that occur, {shown}")
        if none:
            self.notes.append(f"taken for no label: {', '.join(map(repr, sorted(none)))}")
        numbers: dict[Any, int | None] = {label: n for n, label in enumerate(classes)}
        empty = dict.fromkeys((label for label in labels if str(label) in none), None)
        return numbers | empty, [str(label) for label in classes]


def find_parquet(path: str) -> tuple[list[Path], list[tuple[str, str]]]:
    """The Parquet files of a file, folder or glob, sorted; (name, reason) of a folder's others."""
    where = Path(path)
    if where.is_file():
        return [where], []
    if not where.is_dir():
        return sorted(Path(item) for item in glob.glob(path, recursive=True)), []  # noqa: PTH207
    walk = Walk(where)
    files = [
        file
        for file, reason in walk.unused
        if file.suffix.lower() == ".parquet" and reason != SYSTEM
    ]
    others = [(file, reason) for file, reason in walk.unused if file not in set(files)]
    others += [(file, BESIDE) for file in walk.tree.pictures()]
    return sorted(files), [(walk.name(file), reason) for file, reason in others]


def _split(value: str | None, where: str) -> str | None:
    """A cell of a column of splits, in any usual spelling; raises SourceError."""
    part = part_of(value) if value else None
    if value and part not in (*SPLITS, "unlabeled"):
        raise SourceError(f"{where}: split {value!r}: must be one of {', '.join(SPLITS)}")
    return part if part in SPLITS else None


def _split_of(file: Path) -> str | None:
    """The one split that the words of a file's name and folders stand for."""
    words = [
        word for part in file.with_suffix("").parts for word in re.split(r"[^a-zA-Z0-9]", part)
    ]
    found = {part_of(word) for word in words if word} & {*SPLITS}
    return found.pop() if len(found) == 1 else None


def _values(batch: Any, name: str | None) -> list[Any]:
    if name is None:
        return [None] * batch.num_rows
    values: list[Any] = batch.column(name).to_pylist()
    return values


def _named_classes(file: Path, label: str) -> list[str] | None:
    """The class names in the schema's metadata, None where there are none."""
    with open_parquet(file) as opened:
        metadata = opened.schema_arrow.metadata or {}
    text = metadata.get(b"classes")
    if text is None:
        return _hub_classes(metadata.get(b"huggingface"), label)
    names: list[str] = []
    with suppress(ValueError, RecursionError):
        names = json.loads(text) if text.lstrip().startswith(b"[") else text.decode().split("|")
    if len(names) < 2 or not _are_names(names):
        raise SourceError(f"{file}: metadata 'classes' is not a JSON list of names, or a|b|c")
    if len(set(names)) != len(names):
        raise SourceError(f"{file}: metadata 'classes' names a class twice")
    return names


def _hub_classes(text: bytes | None, label: str) -> list[str] | None:
    """The names of a ClassLabel in what Hugging Face's datasets write; None where it isn't one."""
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        names: Any = json.loads(text or b"")["info"]["features"][label]["names"]
        if isinstance(names, list) and _are_names(names):
            return names
    return None


def _are_names(names: list[Any]) -> bool:
    return all(isinstance(name, str) for name in names)


def _check_numbers(classes: list[int], file: Path) -> None:
    if classes[0] < 0:
        raise SourceError(f"{file}: label {classes[0]}: numbers start at 0; null is unlabelled")
