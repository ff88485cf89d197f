"""Which columns of a table are paths, labels, splits and groups, and which labels mean none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.data.sources.layout import part_of
from pipeline.data.sources.mask_files import ByName
from pipeline.data.sources.named_files import LEADING, Lead, NamedFiles
from pipeline.data.sources.rows import listed
from pipeline.data.sources.table import (
    LABEL_NAMES,
    MASK_NAMES,
    PATH_NAMES,
    SPLIT_NAMES,
    Table,
    known,
    plain,
)
from pipeline.data.trees.tree import ending_of
from pipeline.errors import ParameterError, SourceError

NUMBERED = 10  # rows from which labels that all differ are the rows' numbers
NO_LABEL = {"", "na", "nan", "null", "n/a", "#n/a", "<na>", "nil", "nolabel", "missing"}
NO_LABEL_OR_CLASS = {"none", "-1", "-1.0"}  # of other classes the names, where these are few
SEPARATOR = re.compile("[|;,]")
IMAGE_NAMES = (*PATH_NAMES, "name")  # beside masks
SURELY_MASKS = re.compile("mask|segmentation")
ENDINGS = {".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg"}  # of a file's name


@dataclass(frozen=True)
class ColumnNames:
    """The columns that a user names; None: to be found."""

    path: str | None = None
    label: str | None = None
    group: str | None = None

    def check(self, columns: Sequence[str]) -> None:
        """Raise ParameterError for one that is not there."""
        for use, name in vars(self).items():
            if name is not None and name not in columns:
                raise ParameterError(
                    f"data.{use}_column = {name!r}: no such column; {_listed(columns)}"
                )


@dataclass(frozen=True)
class Columns:
    """The columns of use; prefix: what is taken off the paths."""

    path: Lead
    label: str
    split: str | None
    group: str | None
    unused: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Which is what, in a line."""
        uses = {
            "path": self.path.column,
            "label": self.label,
            "split": self.split,
            "group": self.group,
        }
        line = "columns: " + ", ".join(f"{use} {name!r}" for use, name in uses.items() if name)
        if self.unused:
            line += f"; not used: {listed([*map(repr, self.unused)])}"
        if self.path.prefix:
            line += f"; paths without {self.path.prefix!r}, which all begin with"
        return line


def has_label_columns(table: Table, names: ColumnNames) -> bool:
    """Whether a table has columns named as paths and as labels, or those of `names`; or two
    without names, not of paths and of their numbers."""
    if not table.headed:
        different = [len({*table.values(column)}) for column in table.columns]
        repeats = table.length < NUMBERED or min(different) < table.length
        return names.label in table.columns or (len(table.columns) == 2 and repeats)
    paths = [names.path] if names.path else known(table.columns, PATH_NAMES)
    labels = [names.label] if names.label else known(table.columns, LABEL_NAMES)
    return all(any(name in table.columns for name in either) for either in (paths, labels))


def choose_columns(table: Table, files: NamedFiles, names: ColumnNames) -> Columns:
    """Find the columns; raises SourceError for none, ParameterError for an unknown name."""
    if twice := [name for name in table.columns if name and table.columns.count(name) > 1]:
        raise SourceError(f"{table.file}: there are two columns {twice[0]!r}; rename one")
    names.check(table.columns)
    paths = [names.path] if names.path else known(table.columns, PATH_NAMES)
    path = files.lead(table, paths or None) or (Lead(paths[0]) if paths else None)
    if path is None:
        raise SourceError(
            f"{table.file}: needs columns path and label; {_listed(table.columns)}, and none "
            "leads to files; name the one of paths with data.path_column (init: --path-column)"
        )
    label = names.label or _label(table, path.column)
    split = next((c for c in known(table.columns, SPLIT_NAMES) if is_split(table, c)), None)
    split = None if split in (path.column, label) else split
    used = {path.column, label, split, names.group}
    unused = tuple(name for name in table.columns if name and name not in used)
    return Columns(path, label, split, names.group, unused)


def with_header(table: Table, files: NamedFiles, names: ColumnNames) -> Table:
    """The table, its first row among the others where that names no columns but leads to a file,
    as rows of as many cells do."""
    usual = (*PATH_NAMES, *LABEL_NAMES, plain(names.path or ""), plain(names.label or ""))
    if known(table.columns, usual) or not table.even:
        return table
    headless = table.without_header()
    lead = files.lead(headless)
    leads = lead and files.leads_to_file(lead.names(headless)[0], headless)
    return headless if leads else table


def _listed(columns: Sequence[str]) -> str:
    return f"there are {listed([*map(repr, columns)])}"


def _label(table: Table, path: str) -> str:
    labels = [name for name in known(table.columns, LABEL_NAMES) if name != path]
    if not table.headed and len(table.columns) == 2:
        labels = [name for name in table.columns if name != path]
    if labels:
        return labels[0]
    flags = {"0", "1", "0.0", "1.0"}
    hot = [name for name in table.columns if table.length and {*table.values(name)} <= flags]
    if len(hot) > 1:
        raise SourceError(
            f"{table.file}: columns {', '.join(map(repr, hot[:3]))} hold 0 and 1, one a class; "
            "write one column label with the class's name (pandas: idxmax(axis=1))"
        )
    raise SourceError(
        f"{table.file}: needs columns path and label; no column of labels known by name: "
        f"{_listed(table.columns)}; name it with data.label_column (init: --label-column)"
    )


def is_split(table: Table, column: str) -> bool:
    """Whether a column is one of splits: by its very name, or by what it holds."""
    values = {value for value in table.values(column) if value}
    return bool(values) and (plain(column) == "split" or all(map(part_of, values)))


def missing_labels(values: Iterable[str], where: object) -> set[str]:
    """The values that mean that there is no label.

    "none" and "-1" do, but where empty ones do already, or fewer than two classes were left.
    Raises SourceError, which `where` opens, for one that names several of the others, as "cat|dog"
    beside "cat".
    """
    labels = set(values)
    for value in sorted(labels):
        classes = [name.strip() for name in SEPARATOR.split(value)]
        if len(classes) > 1 and all(name in labels for name in classes if name):
            raise SourceError(
                f"{where}: label {value!r} names several classes; an image has one: "
                "keep the rows of one label, or split the column"
            )
    empty = {value for value in labels if _means_none(value)}
    doubtful = {value for value in labels if value.strip().lower() in NO_LABEL_OR_CLASS}
    named_none = any(value.strip().lower() == "none" for value in doubtful)
    if (empty and named_none) or len(labels - empty - doubtful) < 2:
        return empty
    return empty | doubtful


def _means_none(value: str) -> bool:
    return value.strip().lower() in NO_LABEL or part_of(value) == "unlabeled"


def image_column(table: Table, files: ByName) -> str | None:
    """The first column of a usual name that leads to images: at least half of it does, or some
    where half are written as files' names; files: the images."""
    for column in known(table.columns, IMAGE_NAMES):
        rows, leading, written = _leading(table, column, files)
        if leading and max(leading, written) >= LEADING * rows:
            return column
    return None


def mask_column(table: Table, files: ByName, asked: str | None = None) -> str | None:
    """The first column that names masks, there or not, among those of usual names, or the one
    that a user asks for; files: those that may be masks."""
    for column in [asked] if asked else known(table.columns, MASK_NAMES):
        if column in table.columns:
            rows, leading, written = _leading(table, column, files)
            sure = leading and (column == asked or SURELY_MASKS.search(plain(column)))
            if rows and (sure or written >= LEADING * rows):
                return column
    return None


def _leading(table: Table, column: str, files: ByName) -> tuple[int, int, int]:
    """Of a column's rows with a name how many there are, lead to files, and do or are written as
    files' names."""
    values = [value for value in table.values(column) if value]
    leads = [bool(files.find(value)) for value in values]
    either = zip(leads, values, strict=True)
    written = sum(lead or ending_of(value) in ENDINGS for lead, value in either)
    return len(values), sum(leads), written
