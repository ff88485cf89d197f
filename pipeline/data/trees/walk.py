"""The files of a tree: pictures, and what is left out, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.data.trees.names import Unused
from pipeline.data.trees.tree import (
    DEEPEST,
    SYSTEM,
    FolderEntries,
    Tree,
    below,
    ending_of,
    is_system,
)
from pipeline.errors import SourceError

LINK_TO_FOLDER = "a link to a folder, not followed"
TEXTS = {
    *(".csv", ".htm", ".html", ".json", ".jsonl", ".log", ".md", ".rst", ".tsv", ".txt", ".xlsx"),
    *(".xml", ".yaml", ".yml"),
}


@dataclass(eq=False)
class Folder:
    """A folder's pictures, its other files, and its folders by name, all by their own names,
    sorted; name: below the root; where: for messages."""

    name: str
    where: str
    files: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)
    others: int = 0
    texts: int = 0  # of the others

    def below(self, name: str) -> str:
        """The name below the root of a file in it."""
        return below(self.name, name)

    def all(self) -> Iterator[Folder]:
        """Itself and all folders below it."""
        yield self
        for folder in self.folders.values():
            yield from folder.all()

    @property
    def has_pictures(self) -> bool:
        """Whether there is one in it or below it."""
        return any(folder.files for folder in self.all())

    def pictures(self) -> Iterator[tuple[Folder, str]]:
        """Its pictures and those below it, each with its folder, sorted by the parts of their
        paths."""
        files = iter(self.files)
        file = next(files, None)
        for name, folder in self.folders.items():
            while file is not None and file <= name:
                yield self, file
                file = next(files, None)
            yield from folder.pictures()
        while file is not None:
            yield self, file
            file = next(files, None)

    def names(self) -> Iterator[str]:
        """Those of all pictures below the root, sorted by the parts of their paths."""
        for folder, name in self.pictures():
            yield folder.below(name)

    @property
    def is_of_texts(self) -> bool:
        """Whether there are files in it or below it, and each is a text or a table."""
        if self.files or not (self.others or self.folders) or self.others > self.texts:
            return False
        return all(folder.is_of_texts for folder in self.folders.values())


class Walk:
    """The pictures of a tree, and `unused`: (name, reason) of all other files, both sorted by the
    parts of their paths.

    A link to a folder elsewhere is followed, one to a folder under or above the root is left out.
    Raises SourceError where a folder can't be listed, or two links lead to the same images.
    """

    def __init__(self, files: Tree) -> None:
        self.files, self.unused = files, Unused()
        self._links: dict[str, str] = {}  # by the folder that is linked
        self._listed = files.lister()
        self.tree = self._folder("")

    def others_in(self, folder: Folder, endings: Sequence[str]) -> list[str]:
        """The other files of these endings that are directly in a folder and not hidden, sorted."""
        start = folder.below("")
        return sorted(
            name
            for name, reason in self.unused
            if reason != SYSTEM
            and name.startswith(start)
            and "/" not in name[len(start) :]
            and ending_of(name) in endings
        )

    def _folder(self, path: str, depth: int = 0) -> Folder:
        where = self.files.where(path)
        if depth > DEEPEST:
            raise SourceError(f"{where}: over {DEEPEST} folders in each other; move it further up")
        tree, entries = Folder(path, where), self._listed(path)
        for name in entries.names:
            inner = tree.below(name)
            if is_system(name):
                self.unused.extend((file, SYSTEM) for file in self._hidden(inner, name, entries))
            elif name in entries.folders:
                if self._is_followed(inner, name, entries):
                    tree.folders[name] = self._folder(inner, depth + 1)
                else:
                    self.unused.extend([(inner, LINK_TO_FOLDER)])
            elif reason := self.files.reason_left_out(inner):
                self.unused.extend([(inner, reason)])
                tree.others += 1
                tree.texts += ending_of(name) in TEXTS
            else:
                tree.files.append(name)
        return tree

    def _hidden(self, path: str, name: str, entries: FolderEntries) -> list[str]:
        if name not in entries.folders - entries.links:
            return [path]
        return sorted(self.files.files_below(path), key=lambda file: file.split("/"))

    def _is_followed(self, folder: str, name: str, entries: FolderEntries) -> bool:
        return name not in entries.links or self.files.leads_elsewhere(folder, self._links)
