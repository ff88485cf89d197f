"""Images with annotations in COCO's JSON: polygons and runs (RLE) are drawn as masks.

`path` is a JSON file with images beside or below it, or a folder with such files anywhere in it.
Class 0 is the background; categories that annotations have follow by their numbers. The smaller of
two annotations lies above the larger; a crowd (`iscrowd`) is ignored. Images without annotations
are unlabelled, whether a file lists them or not: most tools list those that nobody has looked at
too. Splits are by the images' folders or the files' names, where these differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.data.masks import IGNORED, MOST_CLASSES
from pipeline.data.sources.coco_masks import rasterized
from pipeline.data.sources.files import SYSTEM, Walk, name_below, read_image
from pipeline.data.sources.folder import compiled_groups, group_of, groups_note
from pipeline.data.sources.layout import split_of
from pipeline.data.sources.mask_classes import VOID
from pipeline.data.sources.mask_files import PairedFiles, sequences_note
from pipeline.data.sources.masks import READ, UNREADABLE
from pipeline.data.sources.rows import MaskFile, Row, listed
from pipeline.errors import SourceError, counted
from pipeline.files import LARGEST_FILE, parse_json, read_bytes
from pipeline.memory import memory_limited

LISTS = ("images", "annotations", "categories")
MEMORY = 8 << 30  # for one file, once it is parsed
BACKGROUND = "background"


@dataclass(frozen=True)
class _Annotation:
    """What is drawn; category: None for one that its file does not have."""

    category: str | None
    crowd: bool
    segmentation: Any


@dataclass
class _Entry:
    """An image: its id, its file, and what is drawn of it on (height, width)."""

    id: str
    path: Path | None
    split: str | None = None
    size: tuple[Any, Any] = (0, 0)
    annotations: list[_Annotation] = field(default_factory=list)
    problem: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class _Part:
    """Some of the images; numbers: those of the classes, by name; values: as MaskFile has them."""

    entries: list[_Entry]
    numbers: Mapping[str, int]
    values: tuple[tuple[int, int], ...]

    def __iter__(self) -> Iterator[Row]:
        for entry in self.entries:
            image, problem, label = b"", entry.problem, None
            if entry.path is not None and problem is None:
                image, problem = read_image(entry.path)
            if entry.annotations:
                try:
                    mask = b"" if problem else rasterized(entry.size, self._labelled(entry))
                except ValueError as error:
                    problem, mask = f"mask: {error}", b""
                label = MaskFile(mask, self.values)
            yield Row(entry.id, image, label, entry.split, problem, entry.group)

    def _labelled(self, entry: _Entry) -> list[tuple[int | None, Any]]:
        """(class, segmentation) of each annotation; None of a crowd."""
        pairs: list[tuple[int | None, Any]] = []
        for each in entry.annotations:
            if each.category is None:
                raise ValueError("an annotation of no category that the file has")
            pairs.append((None if each.crowd else self.numbers[each.category], each.segmentation))
        return pairs


def coco_files(walk: Walk) -> list[Path]:
    """The JSON files in a tree that look like COCO's, sorted."""
    files = [path for path, reason in walk.unused if reason != SYSTEM]
    return sorted(path for path in files if path.suffix.lower() == ".json" and is_coco(path))


def is_coco(path: Path) -> bool:
    """Whether a JSON file names the lists that COCO's have, and runs or polygons."""
    try:
        data = read_bytes(path)
    except OSError:
        return False
    return all(f'"{name}"'.encode() in data for name in (*LISTS, "segmentation"))


class CocoSource:
    """Images in the order of the files, then others by path; an id is the path below the folder."""

    name = "coco"
    rows_together = 1

    def __init__(self, path: str | Path, group_pattern: str | None = None) -> None:
        given = Path(path)
        if not given.exists():
            raise SourceError(f"data.path = {str(path)!r}: no such folder or JSON file")
        self._walk = Walk(given if given.is_dir() else given.parent)
        self.notes: list[str] = []
        files = coco_files(self._walk) if given.is_dir() else [given]
        if not files:
            raise SourceError(
                f"{path}: no JSON file of COCO in it, with images, annotations and categories"
            )
        self._pictures = sorted(self._walk.tree.pictures())
        self._names = PairedFiles(self._walk).by_name(self._pictures)
        self._entries: dict[str, _Entry] = {}
        categories = dict.fromkeys(name for file in files for name in self._read(file))
        self._numbers, self.classes = self._find_classes(list(categories), files[0])
        taken = {entry.path for entry in self._entries.values()}
        for picture in self._pictures:
            if picture not in taken:
                name = self._walk.name(picture)
                self._entries[name] = _Entry(name, picture)
        self._keep_splits()
        self._values = tuple((number, number) for number in [*range(len(self.classes)), IGNORED])
        if group_pattern is not None:
            compiled = compiled_groups(group_pattern)
            self.notes.append(groups_note(compiled, list(self._entries)))
            for entry in self._entries.values():
                entry.group = group_of(compiled, entry.id)
        else:
            self.notes += sequences_note(list(self._entries))
        read = {*files}
        unused = [(path, READ if path in read else why) for path, why in self._walk.unused]
        self.left_out = [(self._walk.name(path), reason) for path, reason in sorted(unused)]

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read or drawn comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        entries = list(islice(self._entries.values(), first, stop))
        return _Part(entries, self._numbers, self._values)

    def _read(self, file: Path) -> list[str]:
        """Note the images of a file; the names of its categories that annotations have."""
        images, annotations, categories = _lists(file)
        names: dict[Any, str] = {}
        for place, each in enumerate(categories):
            key, name = each.get("id"), each.get("name")
            if not _is_key(key) or not isinstance(name, str) or not name or key in names:
                raise SourceError(
                    f"{file}: categories[{place}]: needs a name, and an id that no other has"
                )
            names[key] = name
        entries: dict[Any, _Entry] = {}
        for place, each in enumerate(images):
            key, name = each.get("id"), each.get("file_name")
            if not _is_key(key) or not isinstance(name, str) or key in entries:
                raise SourceError(
                    f"{file}: images[{place}]: needs a file_name, and an id that no other has"
                )
            entries[key] = entry = self._entry(name, file)
            entry.size = each.get("height"), each.get("width")
            if entry.id in self._entries:
                raise SourceError(f"{file}: {name!r} is named twice; keep one, or give one file")
            self._entries[entry.id] = entry
        lost, used = 0, set[Any]()
        for each in annotations:
            category, image = each.get("category_id"), each.get("image_id")
            if not _is_key(image) or image not in entries:
                lost += 1
                continue
            known = category if _is_key(category) and category in names else None
            used.add(known)
            crowd, drawing = bool(each.get("iscrowd")), each.get("segmentation")
            name = None if known is None else names[known]
            entries[image].annotations.append(_Annotation(name, crowd, drawing))
        count = sum(not entry.annotations for entry in entries.values())
        note = f"{name_below(self._walk.root, file)}: {counted(len(entries), 'image')}"
        note += f", {count} of them without annotations: unlabelled" if count else ""
        note += f"; {counted(lost, 'annotation')} of no image" if lost else ""
        if unused := [repr(name) for key, name in names.items() if key not in used]:
            note += f"; of categories {listed(unused)} there is no annotation"
        self.notes.append(note)
        return [names[key] for key in sorted(used - {None}, key=lambda key: (str(type(key)), key))]

    def _entry(self, name: str, file: Path) -> _Entry:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        tails = ("/".join(parts[place:]) for place in range(len(parts)))  # another machine's path
        found = next((self._names[tail] for tail in tails if tail in self._names), [])
        if len(found) > 1:
            beside = [path for path in found if path.is_relative_to(file.parent)]
            named = self._split(file)
            alike = [path for path in found if self._split(path.with_name("image")) == named]
            found = next((each for each in (beside, alike) if len(each) == 1), found)
        if len(found) == 1:
            split = self._split(found[0].with_name("image")) or self._split(file)
            return _Entry(self._walk.name(found[0]), found[0], split)
        problem = f"several files of that name ({name})" if found else UNREADABLE
        return _Entry(f"{name_below(self._walk.root, file)}: {name}", None, problem=problem)

    def _split(self, path: Path) -> str | None:
        return split_of(path.relative_to(self._walk.root))

    def _find_classes(
        self, categories: Sequence[str], file: Path
    ) -> tuple[dict[str, int], list[str]]:
        """The number of each category, IGNORED of one called void or ignore; the classes."""
        numbers = {name: IGNORED for name in categories if VOID.fullmatch(name.lower())}
        numbers |= {name: 0 for name in categories if name.lower() == BACKGROUND}
        kept = [name for name in categories if name not in numbers]
        if not kept:
            raise SourceError(f"{file}: no annotation of an image and a category; draw some")
        if len(kept) >= MOST_CLASSES:
            raise SourceError(f"{file}: {len(kept)} categories, over {MOST_CLASSES - 1}")
        return numbers | {name: n for n, name in enumerate(kept, 1)}, [BACKGROUND, *kept]

    def _keep_splits(self) -> None:
        """By files or folders where they differ; what has no annotations can't be tested by."""
        labelled = [entry for entry in self._entries.values() if entry.annotations]
        if len({entry.split for entry in labelled}) < 2:
            labelled = []
        for entry in self._entries.values():
            entry.split = entry.split if entry.annotations and labelled else None


def _lists(file: Path) -> list[list[dict[str, Any]]]:
    """The three lists of a file, checked to hold mappings; raises SourceError."""
    try:
        with memory_limited(MEMORY):
            value = parse_json(read_bytes(file, LARGEST_FILE))
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or f"over {MEMORY >> 30} GiB"
        raise SourceError(f"{file}: can't be read as COCO's JSON ({reason})") from None
    lists = [value.get(name) if isinstance(value, dict) else None for name in LISTS]
    for name, items in zip(LISTS, lists, strict=True):
        if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
            raise SourceError(f"{file}: {name!r} is not a list of objects, as COCO's JSON has it")
    return [items or [] for items in lists]


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str)
