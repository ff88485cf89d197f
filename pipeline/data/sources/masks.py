"""Images with masks: in folders side by side, or as the rows of a table.

A folder of masks is called masks, labels, annotations, gt or the like, or instances; every other
picture is an image, whose mask has its place and name, perhaps with `_mask` or the like behind it,
also in one folder. An image without a mask is unlabelled. Splits are by folders, as in
train/images, or by a column; a table may also name each image's mask. Classes: see mask_classes.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain, repeat
from pathlib import Path

from pipeline.data.sources.columns import ColumnNames, image_column, is_split, mask_column
from pipeline.data.sources.entries import Entries, Entry, Part
from pipeline.data.sources.folder import grouped, sequences_note
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.manifest import are_splits, check_unique
from pipeline.data.sources.mask_classes import CLASS_FILES, classes_of, read_classes
from pipeline.data.sources.mask_files import INSTANCES, ByName, PairedFiles
from pipeline.data.sources.rows import SPLITS, Row, listed
from pipeline.data.sources.table import SPLIT_NAMES, TABLES, Table, known, read_table
from pipeline.data.trees import open_place
from pipeline.data.trees.local import path_text
from pipeline.data.trees.names import Index, Names, Unused
from pipeline.data.trees.tree import File
from pipeline.data.trees.walk import Walk
from pipeline.errors import ParameterError, SourceError, counted

# What init starts from, of photographs and of small or grey images, and the largest side there.
PRESETS = (("masks_photographs", 240), ("digit_scenes_segmentation", 128))
NO_PLACE = "no such folder or CSV file"
READ = "read: what it says of the images"
SEVERAL = "several files of that name"
UNREADABLE = "unreadable: No such file or directory"


REMEDY = (
    "put masks in masks/ beside images/, each with its image's name, or name them in a CSV with "
    "columns path and mask"
)


def names_masks(table: Table, files: PairedFiles, asked: str | None = None) -> bool:
    """Whether a table names masks of images; asked: the column of its answers, where a user names
    it."""
    return mask_column(table, ByName(Names(chain(files.images, files.masks))), asked) is not None


def check_pairs(files: PairedFiles) -> None:
    """Raise SourceError where folders are named for images and masks, and no more than a few of
    the latter are of one of the former: they are no two classes."""
    if files.beside is not None:
        images, masks = (f"{path_text(name)}/" for name in files.beside)
        raise SourceError(
            f"{files.walk.files.where('')}: {images} and {masks} are named for images and masks, "
            f"but {files.shown}; {REMEDY}; rename them where they are classes"
        )


class MasksSource:
    """Images sorted by path, or in the order of a table; an id is the path below the folder."""

    name = "masks"
    rows_together = 1

    def __init__(
        self, path: str | Path, names: ColumnNames | None = None, group_pattern: str | None = None
    ) -> None:
        (self._tree, table), names = open_place(path, NO_PLACE), names or ColumnNames()
        self.notes: list[str] = []
        files = PairedFiles(Walk(self._tree))
        entries, read = self._listed(table, names, files)
        if group_pattern is not None:
            entries = self._grouped(entries, group_pattern, names)
        elif not names.group:
            self.notes += sequences_note(path_text(entry.name) for entry in entries)
        self._entries = self._without_open_splits(entries)
        masked = (entry for entry in self._entries if entry.mask is not None)
        if (example := next(masked, None)) is None:
            seen = f": {files.shown}" if files.masks else ""
            raise SourceError(f"{path}: no image with a mask{seen}; {REMEDY}")
        shown = " with ".join(repr(path_text(name or "")) for name in (example.name, example.mask))
        count = 1 + sum(1 for _ in masked)
        self.notes.insert(0, f"{counted(count, 'image')} with a mask, e.g. {shown}")
        found, file = read_classes(files.walk)
        of_instances = all(map(_is_of_instances, self._masks()))
        classes = classes_of(
            found,
            str(file or self._tree.where((example.mask or "").rpartition("/")[0])),
            lambda: (data for data, _ in self._tree.reads(self._masks())),
            of_instances=of_instances,
        )
        self.classes, self._values, self._others = classes.names, classes.values, classes.others
        self.notes.append(classes.note)
        self.left_out = self._unused(files, {*read, *([file.name] if file else [])})

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read, or its mask, comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        entries = self._entries.part(first, stop)
        return Part(self._tree, entries, self._values, self._others)

    def _masks(self) -> Iterator[str]:
        """The masks of all images, one after the other."""
        return (entry.mask for entry in self._entries if entry.mask is not None)

    def _listed(
        self, given: str, names: ColumnNames, files: PairedFiles
    ) -> tuple[Entries, set[str]]:
        """The images, and the tables that were read."""
        found = [given] if given else _tables_in(files.walk)
        images = ByName(files.images if found else Names())
        tables, columns = list[Table](), list[str]()
        for name in found:
            file = File(self._tree, name)
            table = read_table(file) if given else readable(file)
            column = table and (names.path or image_column(table, images))
            if table and column and column in table.columns:
                tables.append(table)
                columns.append(column)
        if not tables and given:
            where = self._tree.where(given)
            raise SourceError(f"{where}: no column of it leads to images; name one path")
        if not tables:
            names.check([])
            return Entries.of(_entry(file, files) for file in files.images), set()
        if not are_splits(tables):
            del tables[1:]
        parts = [
            self._of_table(table, column, names, images, files, len(tables) > 1)
            for table, column in zip(tables, columns, strict=False)
        ]
        entries = Entries.joined(parts)
        paths = [table.values(column) for table, column in zip(tables, columns, strict=False)]
        check_unique(Index(entries.names()), entries, tables, paths)
        if not given:
            entries = Entries.joined([entries, _not_named(entries, files)])
        return entries, {table.file.name for table in tables}

    def _of_table(
        self,
        table: Table,
        column: str,
        names: ColumnNames,
        images: ByName,
        files: PairedFiles,
        is_of_split: bool,
    ) -> Entries:
        """Its rows; is_of_split: its name says their split, where no column does."""
        names.check(table.columns)
        table.check_cells(column)
        masks = ByName(Names(chain(files.masks, files.images)))
        masked = names.label or mask_column(table, masks)
        if masked and not any(masks.find(name) for name in table.values(masked) if name):
            example = next(filter(None, table.values(masked)), "")
            raise SourceError(
                f"{table.file}: column {masked!r} leads to no masks (e.g. {example!r}); write "
                "their paths below the folder of images and masks, or remove the column"
            )
        splits = [name for name in known(table.columns, SPLIT_NAMES) if name != column]
        split = next((name for name in splits if is_split(table, name)), None)
        used = {"path": column, "mask": masked, "split": split, "group": names.group}
        shown = ", ".join(f"{use} {name!r}" for use, name in used.items() if name)
        unused = [repr(name) for name in table.columns if name and name not in used.values()]
        shown += f"; not used: {listed(unused)}" if unused else ""
        self.notes.append(f"{table.file.own_name}: columns {shown}")
        cells = [
            table.values(each) if each else repeat("") for each in (masked, split, names.group)
        ]
        usual = part_of(table.file.stem) if is_of_split else None

        def entries() -> Iterator[Entry]:
            for row, (name, mask, part, group) in enumerate(zip(table.values(column), *cells)):  # noqa: B905
                entry = _entry_named(name, mask, images, masks, files)
                if masked and not mask:
                    entry = entry._replace(mask=None)
                if split and part:
                    entry = entry._replace(split=_split(part, table.where(row), split))
                elif usual and not split:
                    entry = entry._replace(split=usual)
                yield entry._replace(group=group or None)

        return Entries.of(entries())

    def _grouped(self, entries: Entries, pattern: str, names: ColumnNames) -> Entries:
        if names.group:
            raise ParameterError(
                f"data.group_pattern = {pattern!r}: data.group_column says it too; set one to null"
            )
        entries, note = grouped(entries, pattern)
        self.notes.append(note)
        return entries

    def _without_open_splits(self, entries: Entries) -> Entries:
        """Images of a split without a mask are unlabelled: nothing can be tested by them."""
        held = Counter(
            entry.split for entry in entries if entry.mask is None and entry.split in SPLITS[1:]
        )
        for split, count in held.items():
            self.notes.append(f"{counted(count, f'{split} image')} without a mask: unlabelled")
        return Entries.of(
            entry if entry.mask is not None else entry._replace(split=None) for entry in entries
        )

    def _unused(self, files: PairedFiles, read: set[str]) -> Unused:
        """The pictures that are no image's and no mask's, and all other files."""
        images, masks = _index_of_images(self._entries), Index(self._entries.masks())
        pictures = (
            (name, files.reason_left_out(name))
            for name in files.walk.tree.names()
            if not images.holds(name, self._entries.name)
            and not masks.holds(name, self._entries.mask)
        )
        others = ((name, READ if name in read else why) for name, why in files.walk.unused)
        left = merge(pictures, others, key=lambda file: file[0].split("/"))
        return Unused((path_text(name), reason) for name, reason in left)


def _entry(file: str, files: PairedFiles) -> Entry:
    return Entry(file, mask=files.mask_of(file), split=files.split_of(file))


def _entry_named(name: str, mask: str, images: ByName, masks: ByName, files: PairedFiles) -> Entry:
    """That of a table's row, by what it calls the image and its mask."""
    found = images.find(name)
    if len(found) != 1:
        entry = Entry(name, problem=f"{SEVERAL} ({name})" if found else UNREADABLE)
    else:
        entry = _entry(found[0], files)
    if mask:
        paths = masks.find(mask)
        entry = entry._replace(mask=paths[0] if paths else None)
        entry = entry if paths else entry._replace(problem=f"mask: {UNREADABLE}")
    return entry


def _index_of_images(entries: Entries) -> Index:
    """Those of entries that have a file."""
    return Index(
        (entry.name, place)
        for place, entry in enumerate(entries)
        if not entry.problem or entry.problem.startswith("mask: ")
    )


def _not_named(entries: Entries, files: PairedFiles) -> Entries:
    """The images that are neither an entry nor the mask of one, by name."""
    names, masks = Index(entries.names()), Index(entries.masks())
    others = (
        file
        for file in files.images
        if not masks.holds(file, entries.mask) and not names.holds(file, entries.name)
    )
    return Entries.of(_entry(file, files) for file in sorted(others, key=path_text))


def _is_of_instances(mask: str) -> bool:
    return any(map(INSTANCES.search, mask.split("/")[:-1]))


def _tables_in(walk: Walk) -> list[str]:
    names = walk.others_in(walk.tree, TABLES)
    return [name for name in names if name.lower() not in CLASS_FILES]


def readable(file: File) -> Table | None:
    """A table, None where it can't be read as one."""
    try:
        return read_table(file)
    except SourceError:
        return None  # named among the files left out


def _split(value: str, where: str, column: str) -> str | None:
    part = part_of(value)
    if part not in SPLITS and part != "unlabeled":
        raise SourceError(f"{where}: {column} = {value!r}: must be train, validation or test")
    return part if part in SPLITS else None
