"""Images in folders, one a class: `<class>/*`, or in parts as `train/<class>/*`.

Parts are train, validation, test, labeled and unlabeled in any usual spelling, one in another too;
images in `unlabeled`, loose in the folder or in a part without classes are unlabelled. A single
folder around everything is gone into. All other files are left out, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.sources.files import LINK_TO_FOLDER, Walk, name_below, path_text, read_image
from pipeline.data.sources.layout import Layout
from pipeline.data.sources.rows import Row
from pipeline.errors import ParameterError, SourceError, counted


@dataclass(frozen=True)
class _Part:
    """Images below `root`: (path, label, split) each."""

    root: Path
    files: list[tuple[Path, int | None, str | None]]
    pattern: re.Pattern[str] | None

    def __iter__(self) -> Iterator[Row]:
        for path, label, split in self.files:
            image, problem = read_image(path)
            name = name_below(self.root, path)
            group = None if self.pattern is None else group_of(self.pattern, name)
            yield Row(name, image, label, split, problem, group)


class FolderSource:
    """The images under a folder; an id is the path below it, with forward slashes."""

    name = "folder"
    rows_together = 1

    def __init__(self, path: str | Path, group_pattern: str | None = None) -> None:
        root = Path(path)
        if not root.is_dir():
            raise SourceError(f"data.path = {str(path)!r}: no such folder")
        self._walk = Walk(root)
        layout = Layout.of(self._walk.tree)
        _check_links(self._walk, layout)
        layout.check(root, self._walk.unused)
        numbers = {name: number for number, name in enumerate(sorted(layout.folders))}
        self.classes = [path_text(name) for name in numbers]
        self._files: list[tuple[Path, int | None, str | None]] = sorted(
            [(path, numbers[name], split) for path, name, split in layout.labeled]
            + [(path, None, None) for path in layout.unlabeled],
            key=lambda entry: entry[0],
        )
        self._walk.unused += layout.left_out
        self.left_out = self._walk.left_out
        self.notes = layout.notes
        self._pattern = None if group_pattern is None else compiled_groups(group_pattern)
        if self._pattern is not None:
            names = [self._walk.name(path) for path, _, _ in self._files]
            self.notes.append(groups_note(self._pattern, names))

    def __len__(self) -> int:
        return len(self._files)

    def rows(self) -> Iterator[Row]:
        """Every image file, sorted by path; one that can't be read comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        return _Part(self._walk.root, self._files[first:stop], self._pattern)


def _check_links(walk: Walk, layout: Layout) -> None:
    """No class may be a link to images that are read already; raises SourceError."""
    beside = {path.parent for places in layout.folders.values() for path, _ in places}
    for path, reason in walk.unused:
        if reason == LINK_TO_FOLDER and path.parent in beside:
            target = path.resolve()
            raise SourceError(f"{path}: holds images of {target} too; remove one of the links")


def group_of(pattern: re.Pattern[str], name: str) -> str | None:
    """What an image of that name belongs to; None: it stands alone."""
    match = pattern.search(name)
    return match[1] if match else None


def groups_note(pattern: re.Pattern[str], names: Sequence[str]) -> str:
    """How many groups there are among images, in words; raises ParameterError for none."""
    groups = [group_of(pattern, name) for name in names]
    alone = groups.count(None)
    if alone == len(groups):
        raise ParameterError(
            f"data.group_pattern = {pattern.pattern!r}: matches no image, as {names[0]!r}"
        )
    found = counted(len({*groups} - {None}), "group")
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
