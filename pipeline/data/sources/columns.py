"""Which columns of a table are paths, labels, splits and groups: as asked for, or by name."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.data.sources.layout import part_of
from pipeline.data.sources.named_files import NamedFiles, without
from pipeline.data.sources.table import LABEL_NAMES, PATH_NAMES, SPLIT_NAMES, Table, known, plain
from pipeline.errors import ParameterError, SourceError

NUMBERED = 10  # rows from which labels that all differ are the rows' numbers


@dataclass(frozen=True)
class Wanted:
    """The columns that a user names; None: to be found."""

    path: str | None = None
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of use."""

    path: str
    label: str
    split: str | None
    group: str | None
    unused: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def summary(self) -> str:
        """Which is what, in a line."""
        used = {"path": self.path, "label": self.label, "split": self.split, "group": self.group}
        told = ", ".join(f"{use} {name!r}" for use, name in used.items() if name)
        rest = f"; not used: {', '.join(map(repr, self.unused))}" if self.unused else ""
        rest += f"; paths without {self.prefix!r}, which all begin with" if self.prefix else ""
        return f"columns: {told}{rest}"


def looks_like_labels(table: Table, wanted: Wanted) -> bool:
    """Whether a table has columns named as paths and as labels, or those asked for; or two
    without names."""
    if not table.headed:
        return wanted.label in table.columns or (len(table.columns) == 2 and _repeats(table))
    paths = [wanted.path] if wanted.path else known(table.columns, PATH_NAMES)
    labels = [wanted.label] if wanted.label else known(table.columns, LABEL_NAMES)
    return all(any(name in table.columns for name in names) for names in (paths, labels))


def choose_columns(table: Table, files: NamedFiles, wanted: Wanted) -> Columns:
    """Find the columns; raises SourceError for none, ParameterError for an unknown name."""
    if twice := [name for name in table.columns if name and table.columns.count(name) > 1]:
        raise SourceError(f"{table.path}: there are two columns {twice[0]!r}; rename one")
    for parameter, name in vars(wanted).items():
        if name is not None:
            check_named(name, f"data.{parameter}_column", table.columns)
    named = [wanted.path] if wanted.path else known(table.columns, PATH_NAMES)
    lead = files.leads(table, named or None)
    path = lead.column if lead else next(iter(named), None)
    if path is None:
        raise SourceError(
            f"{table.path}: needs columns path and label; {_there_are(table.columns)}, and none "
            "leads to files; name the one of paths with data.path_column (init: --path-column)"
        )
    label = wanted.label or _label(table, path)
    split = next((c for c in known(table.columns, SPLIT_NAMES) if _is_split(table, c)), None)
    split = None if split in (path, label) else split
    used = {path, label, split, wanted.group}
    unused = tuple(name for name in table.columns if name and name not in used)
    return Columns(path, label, split, wanted.group, unused, lead.prefix if lead else "")


def with_columns(table: Table, files: NamedFiles, wanted: Wanted) -> Table:
    """The table, its first row among the others where that names no columns but leads to a file,
    as rows of as many cells do."""
    names = (*PATH_NAMES, *LABEL_NAMES, plain(wanted.path or ""), plain(wanted.label or ""))
    widths = {len(row) for row in [table.columns, *table.rows]}
    if known(table.columns, names) or len(widths) > 1:
        return table
    first = table.without_header()
    lead = files.leads(first)
    leads = lead and files.leads_to_file(without(lead.prefix, first.values(lead.column)[0]))
    return first if leads else table


def _repeats(table: Table) -> bool:
    """Whether two columns may be of paths and labels: not of paths and of their numbers."""
    kinds = [len({*table.values(column)}) for column in table.columns]
    return len(table.rows) < NUMBERED or min(kinds) < len(table.rows)


def check_named(name: str, parameter: str, columns: list[str]) -> None:
    """Raise ParameterError where a column that a user names is not there."""
    if name not in columns:
        raise ParameterError(f"{parameter} = {name!r}: no such column; {_there_are(columns)}")


def _there_are(columns: list[str]) -> str:
    return f"there are {', '.join(map(repr, columns))}"


def _label(table: Table, path: str) -> str:
    found = [name for name in known(table.columns, LABEL_NAMES) if name != path]
    if not table.headed and len(table.columns) == 2:
        found = [name for name in table.columns if name != path]
    if found:
        return found[0]
    if len(hot := [name for name in table.columns if _is_hot(table, name)]) > 1:
        raise SourceError(
            f"{table.path}: columns {', '.join(map(repr, hot[:3]))} hold 0 and 1, one a class; "
            "write one column label with the class's name (pandas: idxmax(axis=1))"
        )
    raise SourceError(
        f"{table.path}: needs columns path and label; no column of labels known by name: "
        f"{_there_are(table.columns)}; name it with data.label_column (init: --label-column)"
    )


def _is_hot(table: Table, column: str) -> bool:
    return {*table.values(column)} <= {"0", "1", "0.0", "1.0"} and bool(table.rows)


def _is_split(table: Table, column: str) -> bool:
    """Whether a column is one of splits: by its very name, or by what it holds."""
    values = {value for value in table.values(column) if value}
    return bool(values) and (plain(column) == "split" or all(map(part_of, values)))
