"""Images in folders, one a class: `labeled/<class>/*` and `unlabeled/**`.

Optional: `validation/<class>/*` and `test/<class>/*`. Hidden files and files of other kinds are
left out. A link is followed to a file, and where a class or one of the four folders is one; any
other link to a folder, and what lies in no class's folder, comes as a row with its problem.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError

EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
CLASS_FOLDERS = {"labeled": None, "validation": "validation", "test": "test"}
UNLABELED_FOLDER = "unlabeled"
LARGEST_FILE = 512 << 20  # bytes; a file is read whole


@dataclass(frozen=True)
class _Found:
    """A file that looks like an image; problem: why it is not read, None where it is."""

    path: Path
    label: int | None = None
    split: str | None = None
    problem: str | None = None


class FolderSource:
    """The images under a folder; an id is the path below it, with forward slashes."""

    name = "folder"

    def __init__(self, path: str | Path) -> None:
        self._root = Path(path)
        if not self._root.is_dir():
            raise SourceError(f"data.path = {str(path)!r}: no such folder")
        labeled = self._root / "labeled"
        if not labeled.is_dir():
            raise SourceError(f"{labeled}: missing; put labelled images in labeled/<class>/")
        self._class_names = [path.name for path in _listed(labeled) if path.is_dir()]
        if not self._class_names:
            raise SourceError(f"{labeled}: holds no folders; put images in labeled/<class>/")
        self._check_other_folders()
        self._check_apart()
        self._found = list(self._find())
        if not any(found.label is not None for found in self._found):
            raise SourceError(f"{labeled}: no images ({', '.join(sorted(EXTENSIONS))}) in it")

    @property
    def classes(self) -> list[str]:
        """The names of the folders in `labeled`, sorted."""
        return [_text(name) for name in self._class_names]

    def __len__(self) -> int:
        return len(self._found)

    def rows(self) -> Iterator[Row]:
        """Every image file, sorted; one that can't be read comes with its problem."""
        for found in self._found:
            image, problem = (b"", found.problem) if found.problem else _read(found.path)
            name = _text(found.path.relative_to(self._root).as_posix())
            yield Row(name, image, found.label, found.split, problem)

    def _check_other_folders(self) -> None:
        for folder in (*CLASS_FOLDERS, UNLABELED_FOLDER):
            path = self._root / folder
            if os.path.lexists(path) and not path.is_dir():
                raise SourceError(f"{path}: not a folder; make it one, or remove it")
            for item in _listed(path) if folder in CLASS_FOLDERS else ():
                if item.is_dir() and item.name not in self._class_names:
                    raise SourceError(f"{item}: no class of that name in labeled/")

    def _check_apart(self) -> None:
        """No image may come twice by a link: refuse folders that are, or lie in, one another."""
        folders = [self._root / part / name for part in CLASS_FOLDERS for name in self._class_names]
        folders.append(self._root / UNLABELED_FOLDER)
        real = sorted((path.resolve(), path) for path in folders if path.is_dir())
        for (one, first), (other, second) in pairwise(real):
            if other.is_relative_to(one):
                raise SourceError(f"{second}: holds images of {first} too; remove one of the links")

    def _find(self) -> Iterator[_Found]:
        for folder, split in CLASS_FOLDERS.items():
            for label, name in enumerate(self._class_names):
                for found in _images(self._root / folder / name):
                    yield found if found.problem else replace(found, label=label, split=split)
            yield from _outside_classes(self._root / folder)
        yield from _images(self._root / UNLABELED_FOLDER)


def _listed(folder: Path) -> list[Path]:
    """What is in `folder`, sorted, hidden entries left out; nothing where there is no folder."""
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise _unlisted(error) from None


def _images(folder: Path) -> Iterator[_Found]:
    """Image files and links to folders under `folder`, sorted; SourceError where one is closed."""

    def refuse(error: OSError) -> None:
        raise _unlisted(error)

    if not folder.is_dir():
        return
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(parent, name).is_symlink():
                yield _Found(Path(parent, name), problem="a link to a folder, not followed")
        for name in sorted(files):
            if not name.startswith(".") and _is_image(name):
                yield _Found(Path(parent, name))


def _outside_classes(folder: Path) -> Iterator[_Found]:
    """What lies in a folder of class folders and is in none of them."""
    for path in _listed(folder):
        if path.is_symlink() and not path.exists():
            yield _Found(path, problem="broken link")
        elif not path.is_dir() and _is_image(path.name):
            yield _Found(path, problem="in no class's folder")


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def _unlisted(error: OSError) -> SourceError:
    return SourceError(f"{error.filename}: can't be read ({error.strerror}); give access to it")


def _read(path: Path) -> tuple[bytes, str | None]:
    """The bytes of a regular file, or the problem that kept them away."""
    try:
        if path.exists() and not path.is_file():
            return b"", "not a regular file"
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        return b"", f"unreadable: {error.strerror}"
    if len(data) > LARGEST_FILE:
        return b"", f"larger than {LARGEST_FILE >> 20} MiB"
    return data, None


def _text(name: str) -> str:
    """A file name as text, bytes that are not UTF-8 written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
