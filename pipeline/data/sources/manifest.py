"""Images that a CSV names: columns `path`, `label`, and optionally `split`.

A path is relative to the CSV's folder and stays in it; an empty label is unlabelled. Where
`data.path` is the CSV, what it lists is all there is; where it is the folder that holds the one
CSV, all other images below the folder are unlabelled. Columns go by their usual names: `file`,
`filename`, `image` for the path, `class`, `category`, `target` for the label.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.sources.folder import image_files, path_text, read_image
from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError

PATH_NAMES = ("path", "file", "filename", "file_name", "image", "image_path")
LABEL_NAMES = ("label", "class", "category", "target")
SPLIT_NAMES = ("split",)


class ManifestSource:
    """The rows of a CSV in its order, then what lies beside it; an id is the path as written."""

    name = "manifest"

    def __init__(self, path: str | Path) -> None:
        given = Path(path)
        self._csv = find_csv(given) if given.is_dir() else given
        self._root = self._csv.parent
        self._entries = _entries(self._csv)
        named = {label for _, label, _ in self._entries if label}
        if not named:
            raise SourceError(f"{self._csv}: no labelled images: every label is empty")
        self._classes = sorted(named)
        self._others = self._unlisted() if given.is_dir() else []

    @property
    def classes(self) -> list[str]:
        """The labels, sorted."""
        return list(self._classes)

    def __len__(self) -> int:
        return len(self._entries) + len(self._others)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read comes with its problem."""
        numbers = {label: number for number, label in enumerate(self._classes)}
        for name, label, split in self._entries:
            image, problem = read_image(self._root / name)
            yield Row(name, image, numbers.get(label), split or None, problem)
        for path in self._others:
            image, problem = read_image(path)
            yield Row(path_text(path.relative_to(self._root).as_posix()), image, problem=problem)

    def _unlisted(self) -> list[Path]:
        listed = {(self._root / name).resolve() for name, _, _ in self._entries}
        return [path for path in image_files(self._root) if path.resolve() not in listed]


def find_csv(folder: Path) -> Path:
    """The one CSV in `folder` that names images; raises SourceError for none, or several."""
    found = [path for path in sorted(folder.glob("*.csv")) if _columns(path) is not None]
    if not found:
        raise SourceError(f"{folder}: no CSV with columns path and label in it")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise SourceError(f"{folder}: several CSV files name images ({names}); give one of them")
    return found[0]


def names_images(folder: Path) -> bool:
    """Whether a CSV in `folder` has a column of paths and one of labels."""
    return any(_columns(path) is not None for path in folder.glob("*.csv"))


def _columns(path: Path) -> tuple[str, str, str | None] | None:
    """The CSV's names for path, label and split; None where it has no path or label."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            header = next(csv.reader(text), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    path_name, label_name, split_name = (
        next((name for name in header if name.strip().lower() in names), None)
        for names in (PATH_NAMES, LABEL_NAMES, SPLIT_NAMES)
    )
    return None if path_name is None or label_name is None else (path_name, label_name, split_name)


def _within(folder: Path, name: str) -> bool:
    """Whether the path `name`, as written, is one below `folder`; links may lead elsewhere."""
    inside = os.path.relpath(folder / name, folder)
    return "\0" not in name and not Path(inside).is_absolute() and Path(inside).parts[0] != ".."


def _entries(path: Path) -> list[tuple[str, str, str]]:
    """(path, label, split) of each row, empty where the CSV says nothing; raises SourceError."""
    if not path.is_file():
        raise SourceError(f"data.path = {str(path)!r}: no such CSV file")
    columns = _columns(path)
    if columns is None:
        raise SourceError(f"{path}: needs columns path and label, in UTF-8")
    entries = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            for number, row in enumerate(csv.DictReader(text), start=2):
                name, label, split = ((row.get(key or "") or "").strip() for key in columns)
                if not name:
                    raise SourceError(f"{path}: row {number}: no path")
                if not _within(path.parent, name):
                    raise SourceError(
                        f"{path}: row {number}: path = {name!r} lies outside the CSV's folder; "
                        "move the CSV to a folder that holds all images"
                    )
                entries.append((name, label, split))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{path}: can't be read ({error})") from None
    return entries
