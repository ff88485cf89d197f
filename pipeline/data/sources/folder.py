"""Images in folders, one a class: `<class>/*`, or in parts as `train/<class>/*`.

Parts are train, validation, test, labeled and unlabeled in any usual spelling, one in another too;
images in `unlabeled`, loose in the folder or in a part without classes are unlabelled. A single
folder around everything is gone into. All other files are left out, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from heapq import merge
from pathlib import Path

from pipeline.data.sources.entries import Entries, Entry, Part
from pipeline.data.sources.layout import Layout
from pipeline.data.sources.rows import Row
from pipeline.data.trees import open_tree
from pipeline.data.trees.local import path_text
from pipeline.data.trees.names import Unused
from pipeline.data.trees.walk import LINK_TO_FOLDER, Walk
from pipeline.errors import ParameterError, SourceError, counted

FRAME = re.compile(r"([^/]+)[ ._-][a-zA-Z]{0,6}[0-9]+[.][^./]+$")
SURE_FRAMES, FRAMES_A_SEQUENCE = 0.9, 10  # share of the images; frames on average


class FolderSource:
    """The images under a folder; an id is the path below it, with forward slashes."""

    name = "folder"
    rows_together = 1

    def __init__(self, path: str | Path, group_pattern: str | None = None) -> None:
        self._tree = open_tree(path)
        walk = Walk(self._tree)
        layout = Layout.of(walk.tree)
        _check_links(walk, layout)
        layout.check(walk)
        numbers = {name: number for number, name in enumerate(sorted(layout.folders))}
        self.classes = [path_text(name) for name in numbers]
        self._entries = Entries.of(_entries(walk, layout, numbers))
        self.left_out = _left_out(walk, layout)
        self.notes = layout.notes
        if group_pattern is not None:
            self._entries, note = grouped(self._entries, group_pattern)
            self.notes.append(note)

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> Iterator[Row]:
        """Every image file, sorted by path; one that can't be read comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        return Part(self._tree, self._entries.part(first, stop))


def _entries(walk: Walk, layout: Layout, numbers: dict[str, int]) -> Iterator[Entry]:
    """The pictures that are read, in order; numbers: of the classes."""
    labels: dict[int, tuple[int | None, str | None]] = {
        id(folder): (numbers[name], split) for folder, name, split in layout.labeled
    } | {id(folder): (None, None) for folder in layout.unlabeled}
    for folder, name in walk.tree.pictures():
        if id(folder) in labels:
            label, split = labels[id(folder)]
            yield Entry(folder.below(name), label, split=split)


def _left_out(walk: Walk, layout: Layout) -> Unused:
    """The pictures that are not read, and all other files, in order."""
    reasons = {id(folder): reason for folder, reason in layout.left_out}
    pictures = (
        (folder.below(name), reasons[id(folder)])
        for folder, name in walk.tree.pictures()
        if id(folder) in reasons
    )
    files = merge(pictures, walk.unused, key=lambda file: file[0].split("/"))
    return Unused((path_text(name), reason) for name, reason in files)


def _check_links(walk: Walk, layout: Layout) -> None:
    """No class may be a link to images that are read already; raises SourceError."""
    beside = {
        folder.name.rpartition("/")[0] for places in layout.folders.values() for folder, _ in places
    }
    for name, reason in walk.unused:
        if reason == LINK_TO_FOLDER and name.rpartition("/")[0] in beside:
            path = Path(walk.files.where(name))
            raise SourceError(
                f"{path}: holds images of {path.resolve()} too; remove one of the links"
            )


def grouped(entries: Entries, pattern: str) -> tuple[Entries, str]:
    """The same, each with its group by its name; and how many groups there are."""
    compiled = compiled_groups(pattern)
    note = groups_note(compiled, (path_text(entry.name) for entry in entries))
    return Entries.of(
        entry._replace(group=group_of(compiled, path_text(entry.name))) for entry in entries
    ), note


def group_of(pattern: re.Pattern[str], name: str) -> str | None:
    """What an image of that name belongs to; None: it stands alone."""
    match = pattern.search(name)
    return match[1] if match else None


def groups_note(pattern: re.Pattern[str], names: Iterable[str]) -> str:
    """How many groups there are among images, in words; raises ParameterError for none."""
    first, alone, groups = "", 0, set[str]()
    for name in names:
        first, group = first or name, group_of(pattern, name)
        groups.update(() if group is None else (group,))
        alone += group is None
    if not groups:
        raise ParameterError(
            f"data.group_pattern = {pattern.pattern!r}: matches no image, as {first!r}"
        )
    found = counted(len(groups), "group")
    return f"{found}; {counted(alone, 'image')} of none"


def compiled_groups(pattern: str) -> re.Pattern[str]:
    """The expression of one group; raises ParameterError."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ParameterError(
            f"data.group_pattern = {pattern!r}: no regular expression ({error})"
        ) from None
    if compiled.groups != 1:
        raise ParameterError(
            f"data.group_pattern = {pattern!r}: has {compiled.groups} groups; put what names the "
            r"group, and nothing else, in brackets, as in (patient_\d+)"
        )
    return compiled


def sequences_note(ids: Iterable[str]) -> list[str]:
    """What to say where nearly all images have names of frames of a few sequences."""
    total, found, names = 0, 0, dict[str, None]()
    for name in ids:
        total += 1
        if match := FRAME.search(name):
            found += 1
            names[match[1]] = None
    if found < SURE_FRAMES * total or not 1 < len(names) <= found / FRAMES_A_SEQUENCE:
        return []
    return [
        f"names as of frames of {len(names)} sequences, e.g. {next(iter(names))!r}; frames next to "
        f"each other on both sides of a split flatter a model: --group-pattern '{FRAME.pattern}' "
        "keeps each sequence on one"
    ]
