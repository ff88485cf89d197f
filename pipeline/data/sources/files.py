"""The files under a folder: pictures, and what is left out, each with its reason."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.data.decoding import is_image
from pipeline.data.images import endings
from pipeline.errors import SourceError
from pipeline.files import open_regular, read_bytes

DEEPEST = 100  # folders in each other
SYSTEM = "a hidden or a system's file"
LINK_TO_FOLDER = "a link to a folder, not followed"
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
TEXTS = {
    *(".csv", ".htm", ".html", ".json", ".jsonl", ".log", ".md", ".rst", ".tsv", ".txt", ".xlsx"),
    *(".xml", ".yaml", ".yml"),
}
REASON_OF = {f".{end}": reason for reason, ends in REASONS.items() for end in ends.split()}
NEVER_OPENED = {end for end, reason in REASON_OF.items() if "raw file" in reason}


@dataclass
class Folder:
    """A folder's pictures, its other files, and its folders by name, sorted."""

    path: Path
    files: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def pictures(self) -> Iterator[Path]:
        """Its pictures and those of all folders below it, its own first."""
        yield from self.files
        for folder in self.folders.values():
            yield from folder.pictures()

    @property
    def is_of_texts(self) -> bool:
        """Whether there are files in it or below it, and each is a text or a table."""
        if self.files or not (self.others or self.folders):
            return False
        texts = all(path.suffix.lower() in TEXTS for path in self.others)
        return texts and all(folder.is_of_texts for folder in self.folders.values())


class Walk:
    """The tree of pictures under `root`, and `unused`: (path, reason) of all other files.

    A link to a folder elsewhere is followed, one to a folder under or above `root` is left out.
    Raises SourceError where a folder can't be listed, or two links lead to the same images.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.unused = root, list[tuple[Path, str]]()
        self._links: dict[Path, Path] = {}  # by the folder that is linked
        self.tree = self._folder(root)

    def name(self, path: Path) -> str:
        """The path below the root, as text, with forward slashes: an id."""
        return name_below(self.root, path)

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """The unused files, by their names below the root."""
        return [(self.name(path), reason) for path, reason in sorted(self.unused)]

    def _folder(self, path: Path, depth: int = 0) -> Folder:
        if depth > DEEPEST:
            raise SourceError(f"{path}: over {DEEPEST} folders in each other; move it further up")
        tree = Folder(path)
        for entry in _entries(path):
            inner = Path(entry.path)
            if is_system(entry.name):
                self.unused += [(file, SYSTEM) for file in _files_of(entry)]
            elif _is_folder(entry) and self._is_followed(entry):
                tree.folders[entry.name] = self._folder(inner, depth + 1)
            elif _is_folder(entry):
                self.unused.append((inner, LINK_TO_FOLDER))
            elif reason := reason_left_out(inner):
                self.unused.append((inner, reason))
                tree.others.append(inner)
            else:
                tree.files.append(inner)
        return tree

    def _is_followed(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():
            return True
        path = Path(entry.path)
        target = path.resolve()
        if _overlap(target, self.root.resolve()):
            return False
        for other, first in self._links.items():
            if _overlap(target, other):
                raise SourceError(f"{path}: holds images of {first} too; remove one of the links")
        self._links[target] = path
        return True


def _overlap(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SourceError(
            f"{error.filename}: can't be read ({error.strerror}); give access to it"
        ) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _files_of(entry: os.DirEntry[str]) -> list[Path]:
    """A file, or the files below a folder that can be listed."""
    if not entry.is_dir(follow_symlinks=False):
        return [Path(entry.path)]
    return [Path(parent, name) for parent, _, files in os.walk(entry.path) for name in files]


def is_system(name: str) -> bool:
    """Whether a file or folder of this name is hidden or an operating system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def reason_left_out(path: Path) -> str | None:
    """Why a file is no picture; None for one by its ending, or by its content."""
    ending = path_text(path.suffix.lower())
    if ending in endings():
        return None
    try:
        with open_regular(path):
            pass
        if ending not in NEVER_OPENED and is_image(path):
            return None
    except OSError as error:
        return _problem(error)
    kind = f"{ending} file" if ending else "a file without ending"
    return REASON_OF.get(ending, f"{kind}, not an image")


def read_image(path: Path) -> tuple[bytes, str | None]:
    """The bytes of a regular file, or the problem that kept them away."""
    try:
        return read_bytes(path), None
    except OSError as error:
        return b"", _problem(error)


def _problem(error: OSError) -> str:
    own = error.errno in (errno.EINVAL, errno.EFBIG)  # open_regular's and read_bytes' words
    return str(error.strerror) if own else f"unreadable: {error.strerror}"


def name_below(root: Path, path: Path) -> str:
    """The path below a folder, as text, with forward slashes: an id."""
    return path_text(path.relative_to(root).as_posix())


def path_text(name: str) -> str:
    """A file name as text, bytes that are not UTF-8 written as escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
