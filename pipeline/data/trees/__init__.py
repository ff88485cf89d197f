"""Trees of files, in a folder of this machine or in a bucket: listed, opened and read by name."""

from __future__ import annotations

from pathlib import Path

from pipeline.data.trees.local import LocalTree
from pipeline.data.trees.tree import Tree, is_remote, local_path
from pipeline.errors import SourceError

__all__ = ["Tree", "open_place", "open_tree"]


def open_place(path: str | Path, missing: str = "no such folder") -> tuple[Tree, str]:
    """The tree of a folder and "", or that of the folder that a file is in and the file's name.

    path: also an address s3://, gs:// or file://. Raises SourceError where there is neither, with
    `missing`, ParameterError for an address that is none, StorageError where storage does not
    answer.
    """
    path = local_path(str(path))
    if is_remote(path):
        from pipeline.data.trees.remote import RemoteTree

        return RemoteTree(path).place()
    place = Path(path)
    if place.is_dir():
        return LocalTree(place), ""
    if not place.exists():
        raise SourceError(f"data.path = {path!r}: {missing}")
    return LocalTree(place.parent), place.name


def open_tree(path: str | Path) -> Tree:
    """The tree of a folder; raises as open_place, also for a file."""
    tree, name = open_place(path)
    if name:
        raise SourceError(f"data.path = {str(path)!r}: no such folder")
    return tree
