"""Images in folders, one a class: `labeled/<class>/*` and `unlabeled/**`.

Optional: `validation/<class>/*` and `test/<class>/*`. Hidden files and other files are left out;
a link is followed to a file, never to a folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError

EXTENSIONS = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
CLASS_FOLDERS = {"labeled": None, "validation": "validation", "test": "test"}
UNLABELED_FOLDER = "unlabeled"


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
        self._check_other_classes()
        self._files = list(self._find())
        if not any(label is not None for _, label, _ in self._files):
            raise SourceError(f"{labeled}: no images ({', '.join(sorted(EXTENSIONS))}) in it")

    @property
    def classes(self) -> list[str]:
        """The names of the folders in `labeled`, sorted."""
        return [path_text(name) for name in self._class_names]

    def __len__(self) -> int:
        return len(self._files)

    def rows(self) -> Iterator[Row]:
        """Every image file, sorted; one that can't be read comes with its problem."""
        for path, label, split in self._files:
            image, problem = read_image(path)
            name = path_text(path.relative_to(self._root).as_posix())
            yield Row(name, image, label, split, problem)

    def _check_other_classes(self) -> None:
        for folder in ("validation", "test"):
            for name in subfolders(self._root / folder):
                if name not in self._class_names:
                    raise SourceError(
                        f"{self._root / folder / name!s}: no class of that name in labeled/"
                    )

    def _find(self) -> Iterator[tuple[Path, int | None, str | None]]:
        for folder, split in CLASS_FOLDERS.items():
            for label, name in enumerate(self._class_names):
                for path in image_files(self._root / folder / name):
                    yield path, label, split
        for path in image_files(self._root / UNLABELED_FOLDER):
            yield path, None, None


def subfolders(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted, hidden ones left out; none where it is none."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def image_files(folder: Path) -> Iterator[Path]:
    """Image files under `folder`, sorted by path; hidden files and folders left out."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in EXTENSIONS:
                yield Path(parent, name)


def read_image(path: Path) -> tuple[bytes, str | None]:
    """The bytes of a regular file, or the problem that kept them away."""
    try:
        if path.exists() and not path.is_file():
            return b"", "not a regular file"
        return path.read_bytes(), None
    except OSError as error:
        return b"", f"unreadable: {error.strerror}"


def path_text(name: str) -> str:
    """A file name as text, bytes that are not UTF-8 written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
