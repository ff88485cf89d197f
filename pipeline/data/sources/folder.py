"""Images in folders, one a class: `labeled/<class>/*` and `unlabeled/**`.

Optional: `validation/<class>/*` and `test/<class>/*`. Hidden files and files of other kinds are
left out. A link is followed to a file, and where a class or one of the four folders is one; any
other link to a folder, and an image in no class's folder, comes as a row with its problem.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError

EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
CLASS_FOLDERS = {"labeled": None, "validation": "validation", "test": "test"}
UNLABELED_FOLDER = "unlabeled"
LARGEST_FILE = 512 << 20  # bytes; a file is read whole


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
        self._class_names = subfolders(labeled)
        if not self._class_names:
            raise SourceError(f"{labeled}: holds no folders; put images in labeled/<class>/")
        self._check_other_folders()
        self._check_apart()
        self._files = list(self._find())
        if not any(label is not None for _, label, _ in self._files):
            raise SourceError(f"{labeled}: no images ({', '.join(sorted(EXTENSIONS))}) in it")
        self._strays = [path for folder in CLASS_FOLDERS for path in _strays(self._root / folder)]

    @property
    def classes(self) -> list[str]:
        """The names of the folders in `labeled`, sorted."""
        return [path_text(name) for name in self._class_names]

    def __len__(self) -> int:
        return len(self._files) + len(self._strays)

    def rows(self) -> Iterator[Row]:
        """Every image file, sorted; one that can't be read comes with its problem."""
        for path, label, split in self._files:
            image, problem = read_image(path)
            yield Row(self._id(path), image, label, split, problem)
        for path in self._strays:
            yield Row(self._id(path), b"", problem="in no class's folder")

    def _id(self, path: Path) -> str:
        return path_text(path.relative_to(self._root).as_posix())

    def _check_other_folders(self) -> None:
        for folder in (*CLASS_FOLDERS, UNLABELED_FOLDER):
            path = self._root / folder
            if os.path.lexists(path) and not path.is_dir():
                raise SourceError(f"{path}: not a folder; make it one, or remove it")
            for name in subfolders(path) if folder in CLASS_FOLDERS else ():
                if name not in self._class_names:
                    raise SourceError(f"{path / name}: no class of that name in labeled/")

    def _check_apart(self) -> None:
        """No image may come twice by a link: refuse folders that are, or lie in, one another."""
        folders = [self._root / part / name for part in CLASS_FOLDERS for name in self._class_names]
        folders.append(self._root / UNLABELED_FOLDER)
        real = sorted((path.resolve(), path) for path in folders if path.is_dir())
        for (one, first), (other, second) in pairwise(real):
            if other.is_relative_to(one):
                raise SourceError(f"{second}: holds images of {first} too; remove one of the links")

    def _find(self) -> Iterator[tuple[Path, int | None, str | None]]:
        for folder, split in CLASS_FOLDERS.items():
            for label, name in enumerate(self._class_names):
                for path in image_files(self._root / folder / name):
                    yield path, label, split
        for path in image_files(self._root / UNLABELED_FOLDER):
            yield path, None, None


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted, hidden ones left out; none where it is none."""
    return [path.name for path in _listed(folder) if path.is_dir()]


def image_files(folder: Path) -> Iterator[Path]:
    """Image files, and links to folders, under `folder`, sorted; hidden ones left out.

    Raises SourceError where a folder can't be listed.
    """

    def refuse(error: OSError) -> None:
        raise _unlisted(error)

    if not folder.is_dir():
        return
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(parent, name).is_symlink():
                yield Path(parent, name)
        for name in sorted(files):
            if not name.startswith(".") and _is_image(name):
                yield Path(parent, name)


def _strays(folder: Path) -> list[Path]:
    """Images and broken links that lie beside the class folders in `folder`."""
    return [
        path
        for path in _listed(folder)
        if not path.is_dir() and (_is_image(path.name) or path.is_symlink())
    ]


def _listed(folder: Path) -> list[Path]:
    """What is in `folder`, sorted, hidden entries left out; nothing where there is no folder."""
    if not folder.is_dir():
        return []
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise _unlisted(error) from None


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS


def _unlisted(error: OSError) -> SourceError:
    return SourceError(f"{error.filename}: can't be read ({error.strerror}); give access to it")


def read_image(path: Path) -> tuple[bytes, str | None]:
    """The bytes of a regular file, or the problem that kept them away."""
    try:
        if path.is_symlink() and path.is_dir():
            return b"", "a link to a folder, not followed"
        if path.exists() and not path.is_file():
            return b"", "not a regular file"
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        return b"", f"unreadable: {error.strerror}"
    if len(data) > LARGEST_FILE:
        return b"", f"larger than {LARGEST_FILE >> 20} MiB"
    return data, None


def path_text(name: str) -> str:
    """A file name as text, bytes that are not UTF-8 written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
