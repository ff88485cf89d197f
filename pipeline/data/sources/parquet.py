"""Images in Parquet: columns `image`, `label` or `mask`, optionally `id`, `split` and a group's.

`path` is a file, a folder or a glob. An image is bytes, or the struct of bytes and path that
Hugging Face writes. A label is a class's number or name, null or -1 where unlabelled; a mask is as
an image is, null where unlabelled. Class names come from the schema's metadata (Hugging Face's, or
`classes`: a JSON list, or `a|b|c`), else from the labels, or the values of masks as mask_classes.py
has them; splits from the column, else from the files' names. Read by row group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from copy import copy
from pathlib import Path, PurePath
from typing import Any

import pyarrow.compute as pc

from pipeline.data.predictions import MOST_CLASSES
from pipeline.data.sources.columns import ColumnNames, missing_labels
from pipeline.data.sources.layout import part_of, split_of
from pipeline.data.sources.mask_classes import classes_of
from pipeline.data.sources.mask_files import INSTANCES
from pipeline.data.sources.parquet_files import (
    common_folder,
    find_columns,
    find_parquet,
    image_values,
    name_in,
    open_parquet,
    row_batches,
    row_name,
    text_values,
)
from pipeline.data.sources.rows import SPLITS, MaskFile, Row, listed
from pipeline.data.trees.names import Unused
from pipeline.data.trees.tree import File
from pipeline.errors import SourceError
from pipeline.files import MOST_JSON, parse_json


class ParquetSource:
    """The rows of one Parquet file or of many, in the order of their paths."""

    name = "parquet"
    of_masks = False

    def __init__(self, path: str | Path, names: ColumnNames | None = None) -> None:
        self._files, self.left_out = find_parquet(str(path))
        if not self._files:
            raise SourceError(f"data.path = {str(path)!r}: no Parquet file, folder of them or glob")
        self._root = common_folder(self._files)
        self._ranges: list[tuple[File, int, int]] = []  # of each file the rows that are read
        self._columns: dict[File, dict[str, str]] = {}
        self.rows_together = 1
        self.notes: list[str] = []
        for file in self._files:
            with open_parquet(file) as opened:
                schema = opened.schema_arrow
                self._columns[file] = find_columns(
                    schema, file, names or ColumnNames(), masks=self.of_masks
                )
                metadata = opened.metadata
                groups = map(metadata.row_group, range(metadata.num_row_groups))
                counts = [group.num_rows for group in groups]
                self._ranges.append((file, 0, sum(counts)))
                self.rows_together = max(self.rows_together, *counts, 0)
        if unused := sorted({*schema.names} - {*self._columns[self._files[-1]].values()}):
            self.notes.append(f"columns not used: {listed([*map(repr, unused)])}")
        self._splits = self._splits_of_files()
        self.classes = self._find_classes()
        if count := sum(map(self._held_out_without_label, self._files)):
            self.notes.append(f"{count} test or validation images have no label: unlabelled")

    def __len__(self) -> int:
        return sum(stop - first for _, first, stop in self._ranges)

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them, of the files that they are in."""
        part, start = copy(self), 0
        part._ranges, part._columns, part._splits = [], {}, {}
        part.notes, part.left_out = [], Unused()
        for file, low, high in self._ranges:
            rows = file, low + max(0, first - start), min(high, low + stop - start)
            if rows[1] < rows[2]:
                part._ranges.append(rows)
                part._columns[file] = self._columns[file]
                part._splits |= {file: self._splits[file]} if file in self._splits else {}
            start += high - low
        part._files = list(part._columns)
        return part

    def __iter__(self) -> Iterator[Row]:
        return self.rows()

    def rows(self) -> Iterator[Row]:
        """Every row of every file; without a column `id` its file and row make the id."""
        for file, row, stop in self._ranges:
            columns, below = self._columns[file], name_in(self._root, file)
            for batch in row_batches(file, list(columns.values()), row, stop):
                values: dict[str, Iterable[Any]] = {
                    use: _values(batch, columns.get(use), file) for use in ("id", "group", "split")
                }
                values["image"] = image_values(batch.column(columns["image"]), file)
                values["label"] = self._labels(batch, columns["label"], file)
                for row_values in zip(*values.values(), strict=True):
                    cells = dict(zip(values, row_values, strict=True))
                    if "id" not in columns:
                        cells["id"] = row_name(below, row)
                    yield self._row(cells, file, f"{file}: row {row}")
                    row += 1

    def _row(self, cells: dict[str, Any], file: File, where: str) -> Row:
        if cells["id"] is None:
            raise SourceError(f"{where}: id is null")
        label = self._label(cells["label"], where)
        split = _split(cells["split"], where)
        if "split" not in self._columns[file]:
            split = self._splits.get(file)
        return Row(
            id=str(cells["id"]),
            image=cells["image"] or b"",
            label=label,
            split=None if label is None else split,  # without a label it can't test
            problem=None if cells["image"] is not None else "no image",
            group=None if cells["group"] is None else str(cells["group"]),
        )

    def _labels(self, batch: Any, column: str, file: File) -> Iterable[Any]:
        return _values(batch, column, file)

    def _is_known(self, value: Any) -> bool:
        return self._numbers.get(value) is not None

    def _label(self, value: Any, where: str) -> Any:
        if value is not None and value not in self._numbers:
            raise SourceError(
                f"{where}: label {value!r}: not one of the {len(self.classes)} classes "
                f"(null is unlabelled)"
            )
        return self._numbers.get(value)

    def _held_out_without_label(self, file: File) -> int:
        """How many rows of a file are named for test or validation, and have no label."""
        columns, of_file = self._columns[file], self._splits.get(file)
        if "split" not in columns and of_file in (None, "train"):
            return 0
        count = 0
        used = [columns[use] for use in ("label", "split") if use in columns]
        for batch in row_batches(file, used):
            splits = _values(batch, columns.get("split"), file)
            labels = self._labels(batch, columns["label"], file)
            for label, split in zip(labels, splits, strict=True):
                held_out = part_of(split or of_file or "") in ("test", "validation")
                count += held_out and not self._is_known(label)
        return count

    def _splits_of_files(self) -> dict[File, str]:
        """What the files' names say, where they differ: train-00000-of-00001, test/0000."""
        parts = {file: split_of(PurePath(name_in(self._root, file))) for file in self._files}
        if len({*parts.values()}) < 2:
            return {}
        splits = {file: split for file, split in parts.items() if split is not None}
        for file, split in splits.items():
            self.notes.append(f"{name_in(self._root, file)}: {split}, by its name")
        return splits

    def _named_classes(self) -> list[str] | None:
        """The names of classes in the files' metadata."""
        named: list[str] | None = None
        for file, columns in self._columns.items():
            names = _class_names(file, columns["label"])
            if names is not None and named not in (None, names):
                raise SourceError("the Parquet files name different classes in their metadata")
            named = named if names is None else names
        return named

    def _find_classes(self) -> list[str]:
        """The classes' names; notes the number of each label, None for one that means none."""
        self._numbers: dict[Any, int | None]
        if (named := self._named_classes()) is not None:
            self._numbers = {name: number for number, name in enumerate(named)}
            self._numbers |= {number: number for number in range(len(named))} | {-1: None}
            return named
        labels: set[Any] = set()
        for file in self._files:
            column = self._columns[file]["label"]
            for batch in row_batches(file, [column]):
                labels.update(text_values(pc.unique(batch.column(column)), column, file))
                if len(labels) > MOST_CLASSES:
                    raise SourceError(f"{file}: more than {MOST_CLASSES} different labels")
        return self._numbered(labels - {None})

    def _numbered(self, labels: set[Any]) -> list[str]:
        """Class names from the labels alone: those that occur, in their order."""
        where = self._files[0].tree.where(self._root)
        if len({isinstance(label, str) for label in labels}) > 1:
            raise SourceError(f"{where}: labels are numbers in some files and names in others")
        missing = missing_labels(map(str, labels), where)
        classes = sorted(label for label in labels if str(label) not in missing)
        if not classes:
            raise SourceError(f"{self._files[0]}: no labelled images: every label is null")
        if isinstance(classes[0], int):
            if classes[0] < 0:
                raise SourceError(
                    f"{self._files[0]}: label {classes[0]}: numbers start at 0; null is unlabelled"
                )
            if classes != list(range(len(classes))):
                ends = f"{classes[0]} to {classes[-1]}"
                self.notes.append(f"the classes are the {len(classes)} numbers that occur, {ends}")
        if missing:
            self.notes.append(f"taken for no label: {', '.join(map(repr, sorted(missing)))}")
        self._numbers = dict.fromkeys(labels)
        self._numbers |= {label: number for number, label in enumerate(classes)}
        return list(map(str, classes))


class ParquetMasksSource(ParquetSource):
    """The same with a column of masks in place of labels."""

    of_masks = True

    def _labels(self, batch: Any, column: str, file: File) -> Iterable[Any]:
        return image_values(batch.column(column), file)

    def _is_known(self, value: Any) -> bool:
        return value is not None

    def _label(self, value: Any, where: str) -> MaskFile | None:
        return None if value is None else MaskFile(value, self._values, self._others)

    def _find_classes(self) -> list[str]:
        self._values: tuple[tuple[int, int], ...] = ()
        self._others: int | None = None
        if next(iter(self._masks()), None) is None:
            raise SourceError(f"{self._files[0]}: no image with a mask: every mask is null")
        named = self._named_classes()
        columns = {columns["label"] for columns in self._columns.values()}
        classes = classes_of(
            None if named is None else list(enumerate(named)),
            str(self._files[0]),
            self._masks,
            of_instances=all(map(INSTANCES.search, columns)),
        )
        self._values, self._others = classes.values, classes.others
        self.notes.append(classes.note)
        return classes.names

    def _masks(self) -> Iterator[bytes]:
        """The files of all masks."""
        for file, columns in self._columns.items():
            for batch in row_batches(file, [columns["label"]]):
                masks = self._labels(batch, columns["label"], file)
                yield from (mask for mask in masks if mask is not None)


def _values(batch: Any, column: str | None, file: File) -> list[Any]:
    return [None] * batch.num_rows if column is None else text_values(batch[column], column, file)


def _split(value: str | None, where: str) -> str | None:
    """A cell of a column of splits, in any usual spelling; raises SourceError."""
    part = part_of(value) if value else None
    if value and part not in (*SPLITS, "unlabeled"):
        raise SourceError(f"{where}: split {value!r}: must be one of {', '.join(SPLITS)}")
    return part if part in SPLITS else None


def _class_names(file: File, label: str) -> list[str] | None:
    """The class names in the schema's metadata, None where there are none."""
    with open_parquet(file) as opened:
        metadata = opened.schema_arrow.metadata or {}
    for key in (b"classes", b"huggingface"):
        if len(metadata.get(key, b"")) > MOST_JSON:
            raise SourceError(f"{file}: metadata {key.decode()!r}: over {MOST_JSON >> 20} MiB")
    names: list[str] | None = None
    text = metadata.get(b"classes")
    if text is None:  # a ClassLabel of Hugging Face's datasets
        with suppress(ValueError, KeyError, TypeError):
            features = parse_json(metadata.get(b"huggingface", b""))["info"]["features"]
            names = features[label]["names"]
        names = names if _are_names(names) else None
    else:
        with suppress(ValueError):
            names = parse_json(text) if text.lstrip().startswith(b"[") else text.decode().split("|")
        if names is None or not _are_names(names) or len(names) < 2:
            raise SourceError(f"{file}: metadata 'classes' is not a JSON list of names, or a|b|c")
        if len(set(names)) != len(names):
            raise SourceError(f"{file}: metadata 'classes' names a class twice")
    if names is not None and len(names) > MOST_CLASSES:
        raise SourceError(f"{file}: {len(names):,} classes in its metadata, over {MOST_CLASSES:,}")
    return names


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
