"""Images with masks: in folders side by side, or as the rows of a table.

A folder of masks is called masks, labels, annotations, gt or the like, or instances; every other
picture is an image, whose mask has its place and name, perhaps with `_mask` or the like behind it,
also in one folder. An image without a mask is unlabelled. Splits are by folders, as in
train/images, or by a column; a table may also name each image's mask. Classes: see mask_classes.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.sources.columns import ColumnNames, is_split
from pipeline.data.sources.files import Walk, name_below, read_image
from pipeline.data.sources.folder import compiled_groups, group_of, groups_note
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.mask_classes import CLASS_FILES, classes_of, read_classes
from pipeline.data.sources.mask_files import INSTANCES, PairedFiles, sequences_note
from pipeline.data.sources.rows import SPLITS, MaskFile, Row, listed
from pipeline.data.sources.table import (
    MASK_NAMES,
    PATH_NAMES,
    SPLIT_NAMES,
    TABLES,
    Table,
    known,
    read_table,
)
from pipeline.errors import ParameterError, SourceError, counted

IMAGE_NAMES = (*PATH_NAMES, "name")
# What init starts from, of photographs and of small or grey images, and the largest side there.
PRESETS = (("masks_photographs", 240), ("digit_scenes_segmentation", 128))
LEADING = 0.5  # share of a column's names that lead to images
NO_IMAGE, READ = "a mask of no image", "read: what it says of the images"
UNREADABLE = "unreadable: No such file or directory"


@dataclass(frozen=True)
class _Entry:
    """An image: its id, its file and its mask's; problem: why there is no file."""

    id: str
    path: Path | None
    mask: Path | None = None
    split: str | None = None
    group: str | None = None
    problem: str | None = None


def has_masks(path: Path, walk: Walk | None = None) -> bool:
    """Whether a folder holds images with masks, or a table names them; walk: a finished one, which
    serves where it is of that folder."""
    root = path if path.is_dir() else path.parent
    files = PairedFiles.of(walk if walk is not None and walk.root == root else Walk(root))
    if path.is_dir():
        return files.are_pairs
    pictures = files.by_name([*files.images, *files.masks.values()])
    table = _readable(path)
    return table is not None and _leading(table, None, pictures, MASK_NAMES) is not None


@dataclass(frozen=True)
class _Part:
    """Some of the images; values, others: as MaskFile has them."""

    entries: list[_Entry]
    values: tuple[tuple[int, int], ...]
    others: int | None

    def __iter__(self) -> Iterator[Row]:
        for entry in self.entries:
            image, problem, label = b"", entry.problem, None
            if entry.path is not None and problem is None:
                image, problem = read_image(entry.path)
            if entry.mask is not None:
                mask, wrong = read_image(entry.mask)
                problem = problem or (wrong and f"mask: {wrong}")
                label = MaskFile(mask, self.values, self.others)
            yield Row(entry.id, image, label, entry.split, problem, entry.group)


class MasksSource:
    """Images sorted by path, or in the order of a table; an id is the path below the folder."""

    name = "masks"
    rows_together = 1

    def __init__(
        self, path: str | Path, names: ColumnNames | None = None, group_pattern: str | None = None
    ) -> None:
        given, names = Path(path), names or ColumnNames()
        if not given.exists():
            raise SourceError(f"data.path = {str(path)!r}: no such folder or CSV file")
        self._root = given if given.is_dir() else given.parent
        self._files = PairedFiles.of(Walk(self._root))
        self.notes: list[str] = []
        self._entries, read = self._listed(given, names)
        if group_pattern is not None:
            self._group(group_pattern, names)
        elif not names.group:
            self.notes += sequences_note([entry.id for entry in self._entries])
        self._drop_open_splits()
        pairs = [entry.mask for entry in self._entries if entry.mask]
        if not pairs:
            raise SourceError(
                f"{path}: no image with a mask; put masks in masks/ beside images/, each with its "
                "image's name, or name them in a CSV with columns path and mask"
            )
        self.notes.insert(0, f"{counted(len(pairs), 'image')} with a mask, e.g. {self._shown()}")
        of_instances = all(map(self._is_of_instances, pairs))
        found, file = read_classes(self._root)
        classes = classes_of(
            found,
            str(file or pairs[0].parent),
            lambda: (read_image(path)[0] for path in pairs),
            of_instances=of_instances,
        )
        self.classes, self._values, self._others = classes.names, classes.values, classes.others
        self.notes.append(classes.note)
        read = {*read, *([file] if file else [])}
        self.left_out = self._unused({*pairs}, read)

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read, or its mask, comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        return _Part(self._entries[first:stop], self._values, self._others)

    def _listed(self, given: Path, names: ColumnNames) -> tuple[list[_Entry], set[Path]]:
        """The images, and the tables that were read."""
        images = self._files.by_name(self._files.images)
        tables = [given] if not given.is_dir() else _tables_in(given)
        for path in tables:
            table = read_table(path) if path == given else _readable(path)
            column = None if table is None else _leading(table, names.path, images)
            if table is not None and column is not None:
                return self._of_table(table, column, names, images, given.is_dir()), {path}
        if not given.is_dir():
            raise SourceError(f"{given}: no column of it leads to images; name one path")
        names.check([])
        return [self._entry(path) for path in self._files.images], set()

    def _entry(self, path: Path) -> _Entry:
        files = self._files
        return _Entry(files.walk.name(path), path, files.mask_of(path), files.split_of(path))

    def _of_table(
        self,
        table: Table,
        column: str,
        names: ColumnNames,
        images: dict[str, list[Path]],
        and_others: bool,
    ) -> list[_Entry]:
        """Its rows, and (and_others) the images that it does not name, by path."""
        names.check(table.columns)
        table.check_cells(column)
        masks = self._files.by_name([*self._files.masks.values(), *self._files.images])
        masked = names.label or _leading(table, None, masks, MASK_NAMES)
        splits = [name for name in known(table.columns, SPLIT_NAMES) if name != column]
        split = next((name for name in splits if is_split(table, name)), None)
        used = {"path": column, "mask": masked, "split": split, "group": names.group}
        shown = ", ".join(f"{use} {name!r}" for use, name in used.items() if name)
        unused = [repr(name) for name in table.columns if name and name not in used.values()]
        shown += f"; not used: {listed(unused)}" if unused else ""
        self.notes.append(f"{table.path.name}: columns {shown}")
        entries: dict[str, _Entry] = {}
        for row, name in enumerate(table.values(column)):
            found = _found(images, name)
            entry = self._entry(found[0]) if len(found) == 1 else _Entry(name, None)
            if len(found) != 1:
                problem = f"several files of that name ({name})" if found else UNREADABLE
                entry = replace(entry, problem=problem)
            if masked and (value := table.values(masked)[row]):
                paths = _found(masks, value)
                entry = replace(entry, mask=paths[0] if paths else None)
                entry = entry if paths else replace(entry, problem=f"mask: {UNREADABLE}")
            if split and (value := table.values(split)[row]):
                entry = replace(entry, split=_split(value, table.where(row), split))
            if names.group:
                entry = replace(entry, group=table.values(names.group)[row] or None)
            if entry.id in entries:
                raise SourceError(f"{table.where(row)}: {name!r} is named twice; keep one")
            entries[entry.id] = entry
        taken = {entry.mask for entry in entries.values()}
        others = [self._entry(path) for path in self._files.images if path not in taken]
        for entry in sorted(others, key=lambda entry: entry.id) if and_others else []:
            entries.setdefault(entry.id, entry)
        return list(entries.values())

    def _group(self, pattern: str, names: ColumnNames) -> None:
        if names.group:
            raise ParameterError(
                f"data.group_pattern = {pattern!r}: data.group_column says it too; set one to null"
            )
        compiled, ids = compiled_groups(pattern), [entry.id for entry in self._entries]
        self.notes.append(groups_note(compiled, ids))
        self._entries = [
            replace(entry, group=group_of(compiled, entry.id)) for entry in self._entries
        ]

    def _drop_open_splits(self) -> None:
        """Images of a split without a mask are unlabelled: nothing can be tested by them."""
        held = Counter(
            entry.split for entry in self._entries if not entry.mask and entry.split in SPLITS[1:]
        )
        for split, count in held.items():
            self.notes.append(f"{counted(count, f'{split} image')} without a mask: unlabelled")
        self._entries = [
            entry if entry.mask else replace(entry, split=None) for entry in self._entries
        ]

    def _shown(self) -> str:
        entry = next(entry for entry in self._entries if entry.mask)
        return f"{entry.id!r} with {self._name(entry.mask or self._root)!r}"

    def _name(self, path: Path) -> str:
        return name_below(self._root, path) if path.is_relative_to(self._root) else str(path)

    def _is_of_instances(self, path: Path) -> bool:
        inside = path.relative_to(self._root).parts if path.is_relative_to(self._root) else ()
        return any(map(INSTANCES.search, inside[:-1]))

    def _unused(self, used: set[Path], read: set[Path]) -> list[tuple[str, str]]:
        files = self._files
        images = {entry.path for entry in self._entries}
        others = {*files.masks.values(), *files.spare, *files.images} - used - images
        left = [(path, NO_IMAGE) for path in others]
        left += [(p, READ if p in read else reason) for p, reason in files.walk.unused]
        return [(self._name(path), reason) for path, reason in sorted(left)]


def _tables_in(folder: Path) -> list[Path]:
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in TABLES]
    return [path for path in paths if path.is_file() and path.name.lower() not in CLASS_FILES]


def _readable(path: Path) -> Table | None:
    try:
        return read_table(path)
    except SourceError:
        return None  # named among the files left out


def _found(paths: dict[str, list[Path]], name: str) -> list[Path]:
    return paths.get(name.replace("\\", "/").removeprefix("./"), [])


def _leading(
    table: Table,
    given: str | None,
    paths: dict[str, list[Path]],
    usual: Sequence[str] = IMAGE_NAMES,
) -> str | None:
    """The first column whose names lead to files; `given` where a user has named it."""
    if given is not None:
        return given if given in table.columns else None
    for column in known(table.columns, usual):
        values = [value for value in table.values(column) if value]
        if values and sum(bool(_found(paths, v)) for v in values) >= LEADING * len(values):
            return column
    return None


def _split(value: str, where: str, column: str) -> str | None:
    part = part_of(value)
    if part not in SPLITS and part != "unlabeled":
        raise SourceError(f"{where}: {column} = {value!r}: must be train, validation or test")
    return part if part in SPLITS else None
