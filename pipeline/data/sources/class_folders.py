"""Images in one folder a class: `<class>/*`, or `train/<class>/*` with others beside it.

Beside `train`: `val`, `valid` or `validation`, and `test`, with the same classes. Unlabelled are
the images in `unlabeled/` and those that lie directly in the folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.data.sources.folder import (
    EXTENSIONS,
    UNLABELED_FOLDER,
    image_files,
    path_text,
    read_image,
    subfolders,
)
from pipeline.data.sources.rows import Row
from pipeline.errors import SourceError

TRAINING_FOLDER = "train"
OTHER_FOLDERS = {
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


class ClassFoldersSource:
    """The images under a folder; an id is the path below it, with forward slashes."""

    name = "class_folders"

    def __init__(self, path: str | Path) -> None:
        self._root = Path(path)
        if not self._root.is_dir():
            raise SourceError(f"data.path = {str(path)!r}: no such folder")
        self._class_names = class_names(self._root)
        if not self._class_names:
            raise SourceError(f"{self._root}: holds no folders; put images in <class>/")
        self._files = list(self._find())
        if not any(label is not None for _, label, _ in self._files):
            raise SourceError(
                f"{self._root}: no images ({', '.join(sorted(EXTENSIONS))}) in its folders"
            )

    @property
    def classes(self) -> list[str]:
        """The names of the folders, sorted."""
        return [path_text(name) for name in self._class_names]

    def __len__(self) -> int:
        return len(self._files)

    def rows(self) -> Iterator[Row]:
        """Every image file, sorted; one that can't be read comes with its problem."""
        for path, label, split in self._files:
            image, problem = read_image(path)
            yield Row(
                path_text(path.relative_to(self._root).as_posix()), image, label, split, problem
            )

    def _find(self) -> Iterator[tuple[Path, int | None, str | None]]:
        if has_parts(self._root):
            yield from self._labeled(self._root / TRAINING_FOLDER, None)
            for folder, split in OTHER_FOLDERS.items():
                for name in subfolders(self._root / folder):
                    if name not in self._class_names:
                        raise SourceError(
                            f"{self._root / folder / name!s}: no class of that name in train/"
                        )
                yield from self._labeled(self._root / folder, split)
        else:
            yield from self._labeled(self._root, None)
        for path in (*_loose(self._root), *image_files(self._root / UNLABELED_FOLDER)):
            yield path, None, None

    def _labeled(self, folder: Path, split: str | None) -> Iterator[tuple[Path, int, str | None]]:
        for label, name in enumerate(self._class_names):
            for path in image_files(folder / name):
                yield path, label, split


def has_parts(root: Path) -> bool:
    """Whether classes lie under `train`, and not directly under `root`."""
    return bool(subfolders(root / TRAINING_FOLDER))


def class_names(root: Path) -> list[str]:
    """The names of the class folders, sorted."""
    names = subfolders(root / TRAINING_FOLDER) if has_parts(root) else subfolders(root)
    return [name for name in names if name != UNLABELED_FOLDER]


def _loose(root: Path) -> list[Path]:
    """The image files directly in `root`, sorted, hidden ones left out."""
    return sorted(
        path
        for path in root.iterdir()
        if path.suffix.lower() in EXTENSIONS and path.name[0] != "." and not path.is_dir()
    )
