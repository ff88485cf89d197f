"""What a source asks of the files below a folder, wherever that is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from pipeline.addresses import BUCKETS, storage_problem, without_secrets
from pipeline.errors import ParameterError

DEEPEST = 100  # folders in each other
SYSTEM = "a hidden or a system's file"
SYSTEM_NAMES = {
    *("$recycle.bin", "@eadir", "#recycle", "__macosx", "__pycache__", "desktop.ini"),
    *("ehthumbs.db", "icon\r", "lost+found", "system volume information", "thumbs.db"),
}
REASONS = {
    "HEIC: pip install pillow-heif, or export as JPEG": "heic heif hif",
    "a camera's raw file: export it as JPEG": "arw cr2 cr3 crw dng nef nrw orf pef raf raw rw2 srw",
    "a video: export frames as images": "avi flv m4v mkv mov mp4 mpeg mpg webm wmv",
    "a document: export its pages as images": "doc docx pdf ppt pptx",
    "a drawing of vectors: export it as PNG": "ai emf eps ps svg wmf",
    "a table, not read as one of labels": "csv json psv tab tsv xls xlsx",
    "an archive: unpack it": "7z bz2 gz rar tar tgz xz zip zst",
    "an array: save each image as PNG": "h5 hdf5 mat npy npz pt tfrecord",
    "a medical volume: export its slices as PNG": "dcm dicom nii mha mhd nrrd",
}
REASON_OF = {f".{end}": reason for reason, ends in REASONS.items() for end in ends.split()}


@dataclass(frozen=True)
class FolderEntries:
    """What is in a folder: names, sorted; folders: those of folders, links to them among them;
    links: those of these that are links."""

    names: list[str]
    folders: frozenset[str] = frozenset()
    links: frozenset[str] = frozenset()


class Tree(Protocol):
    """Files below a root, by their names relative to it with slashes; "" is the root.

    It travels to other processes by its root alone, so that each reads files by itself.
    """

    def where(self, name: str) -> str:
        """The whole name of a file or folder, for messages."""

    def lister(self) -> Callable[[str], FolderEntries]:
        """What lists folders, each from the root on; raises SourceError where one can't be."""

    def files_below(self, folder: str) -> Iterator[str]:
        """All files below a folder that is not walked through."""

    def leads_elsewhere(self, folder: str, others: dict[str, str]) -> bool:
        """Whether a linked folder is one to read: not in the root, nor holding it.

        others: the linked folders so far by where they lead, to which it is added. Raises
        SourceError where it holds images of one of them.
        """

    def reason_left_out(self, name: str) -> str | None:
        """Why a file is no picture, None where it is one."""

    def read(self, name: str) -> tuple[bytes, str | None]:
        """The bytes of a file, or the problem that kept them away; raises StorageError where
        storage does not answer."""

    def opened(self, name: str) -> AbstractContextManager[tuple[Any, int]]:
        """A file, to seek and read in, and its size; raises OSError, and StorageError as read."""

    def reads(self, names: Iterable[str]) -> Iterator[tuple[bytes, str | None]]:
        """What `read` gives of each, in order; in storage several are fetched at once."""

    def inside(self, folder: str, name: str) -> str | None:
        """The name of a file that a text in a folder calls `name`, whichever way its slashes lean;
        None outside the root."""

    def source(self, name: str) -> Any:
        """What Arrow may read a file from; raises as opened, and OSError for an empty file."""


@dataclass(frozen=True)
class File:
    """One file of a tree; shown as its whole name."""

    tree: Tree
    name: str

    def __str__(self) -> str:
        return self.tree.where(self.name)

    @property
    def own_name(self) -> str:
        """Its name in its folder."""
        return self.name.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """Its name in its folder without the ending."""
        return PurePosixPath(self.name).stem

    @property
    def folder(self) -> str:
        """The folder that it is in."""
        return self.name.rpartition("/")[0]


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden or an operating system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def not_an_image(ending: str) -> str:
    """The reason for a file of that ending, which is no image's."""
    kind = f"{ending} file" if ending else "a file without ending"
    return REASON_OF.get(ending, f"{kind}, not an image")


def ending_of(name: str) -> str:
    """A name's ending with its dot, in lower case."""
    return PurePosixPath(name).suffix.lower()


def is_remote(path: str) -> bool:
    """Whether a source's path is an address in storage of objects."""
    return path.startswith(tuple(f"{scheme}://" for scheme in BUCKETS))


def local_path(path: str) -> str:
    """A source's path on this machine, where it is file://; another as it is.

    Raises ParameterError for an address that is none of a folder.
    """
    scheme, mark, _ = path.partition("://")
    if not mark or not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme, re.ASCII):
        return path
    if problem := storage_problem(path):
        raise ParameterError(f"data.path = {without_secrets(path)!r}: {problem}")
    return unquote(urlsplit(path).path) if scheme == "file" else path


def below(folder: str, name: str) -> str:
    """The name below the root of what is called `name` in a folder."""
    return f"{folder}/{name}" if folder else name


def parent_and_name(address: str) -> tuple[str, str]:
    """The address of the folder that an object is in, and the object's own name."""
    before, mark, query = address.partition("?")
    folder, _, name = before.rstrip("/").rpartition("/")
    return f"{folder}{mark}{query}", unquote(name)
