"""Images with annotations in COCO's JSON: polygons and runs (RLE) are drawn as masks.

`path` is a JSON file with images beside or below it, or a folder with such files anywhere in it.
Class 0 is the background; categories that annotations have follow by their numbers. The smaller of
two annotations lies above the larger; a crowd (`iscrowd`) is ignored. Images without annotations
are unlabelled, whether a file lists them or not: most tools list those that nobody has looked at
too. Splits are by the images' folders or the files' names, where these differ.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.data.masks import IGNORED, MOST_CLASSES
from pipeline.data.sources.coco_masks import rasterized
from pipeline.data.sources.folder import compiled_groups, group_of, groups_note, sequences_note
from pipeline.data.sources.layout import split_of
from pipeline.data.sources.mask_classes import VOID
from pipeline.data.sources.mask_files import ByName
from pipeline.data.sources.masks import READ, SEVERAL, UNREADABLE
from pipeline.data.sources.rows import MaskFile, Row, listed
from pipeline.data.trees import Tree, open_place
from pipeline.data.trees.local import path_text
from pipeline.data.trees.names import Names, Unused
from pipeline.data.trees.tree import SYSTEM, File, ending_of
from pipeline.data.trees.walk import Walk
from pipeline.errors import SourceError, counted
from pipeline.files import parse_json
from pipeline.memory import memory_limited

LISTS = ("images", "annotations", "categories")
MEMORY = 8 << 30  # for one file, once it is parsed
BACKGROUND = "background"
NO_PLACE = "no such folder or JSON file"


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
    file: str | None
    split: str | None = None
    size: tuple[Any, Any] = (0, 0)
    annotations: list[_Annotation] = field(default_factory=list)
    problem: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class _Part:
    """Some of the images; numbers: those of the classes, by name; values: as MaskFile has them."""

    tree: Tree
    entries: list[_Entry]
    numbers: Mapping[str, int]
    values: tuple[tuple[int, int], ...]

    def __iter__(self) -> Iterator[Row]:
        files = self.tree.reads(entry.file for entry in self.entries if entry.file is not None)
        for entry in self.entries:
            image, problem, label = b"", entry.problem, None
            if entry.file is not None:
                image, problem = next(files)
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


def coco_files(walk: Walk) -> list[str]:
    """The JSON files in a tree that look like COCO's, sorted."""
    files = (name for name, reason in walk.unused if reason != SYSTEM)
    return [name for name in files if ending_of(name) == ".json" and is_coco(walk.files, name)]


def is_coco(tree: Tree, name: str) -> bool:
    """Whether a JSON file names the lists that COCO's have, and runs or polygons."""
    data, _ = tree.read(name)
    return all(f'"{name}"'.encode() in data for name in (*LISTS, "segmentation"))


class CocoSource:
    """Images in the order of the files, then others by path; an id is the path below the folder."""

    name = "coco"
    rows_together = 1

    def __init__(self, path: str | Path, group_pattern: str | None = None) -> None:
        self._tree, given = open_place(path, NO_PLACE)
        walk, self.notes = Walk(self._tree), list[str]()
        files = [given] if given else coco_files(walk)
        if not files:
            raise SourceError(
                f"{path}: no JSON file of COCO in it, with images, annotations and categories"
            )
        pictures = Names(walk.tree.names())
        self._names = ByName(pictures)
        self._entries: dict[str, _Entry] = {}
        self._lost = 0  # annotations of no image
        categories = dict.fromkeys(name for file in files for name in self._read(file))
        first = self._tree.where(files[0])
        self._numbers, self.classes = self._find_classes(list(categories), first)
        taken = {entry.file for entry in self._entries.values()}
        for picture in pictures:
            if picture not in taken:
                name = path_text(picture)
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
        self.left_out = Unused(
            (path_text(name), READ if name in files else reason) for name, reason in walk.unused
        )

    def __len__(self) -> int:
        return len(self._entries)

    def rows(self) -> Iterator[Row]:
        """Every image; one that can't be read or drawn comes with its problem."""
        return iter(self.part(0, len(self)))

    def part(self, first: int, stop: int) -> Iterable[Row]:
        """Some of them."""
        entries = list(islice(self._entries.values(), first, stop))
        return _Part(self._tree, entries, self._numbers, self._values)

    def _read(self, name_of_file: str) -> list[str]:
        """Note the images of a file; the names of its categories that annotations have."""
        file = File(self._tree, name_of_file)
        data, problem = self._tree.read(name_of_file)
        if problem is not None:
            raise SourceError(f"{file}: can't be read as COCO's JSON ({problem})")
        images, annotations, categories = coco_lists(data, file)
        names: dict[Any, str] = {}
        for place, each in enumerate(categories):
            key, name = each.get("id"), each.get("name")
            if not is_key(key) or not isinstance(name, str) or not name or key in names:
                raise SourceError(
                    f"{file}: categories[{place}]: needs a name, and an id that no other has"
                )
            names[key] = name
        entries: dict[Any, _Entry] = {}
        for place, each in enumerate(images):
            key, name = each.get("id"), each.get("file_name")
            if not is_key(key) or not isinstance(name, str) or key in entries:
                raise SourceError(
                    f"{file}: images[{place}]: needs a file_name, and an id that no other has"
                )
            entries[key] = entry = self._entry(name, name_of_file)
            entry.size = each.get("height"), each.get("width")
            if entry.id in self._entries:
                raise SourceError(f"{file}: {name!r} is named twice; keep one, or give one file")
            self._entries[entry.id] = entry
        lost, used = 0, set[Any]()
        image_of, category_of = key_finder(entries), key_finder(names)
        for each in annotations:
            image, known = image_of(each.get("image_id")), category_of(each.get("category_id"))
            if image is None:
                lost += 1
                continue
            used.add(known)
            crowd, drawing = is_crowd(each), each.get("segmentation")
            name = None if known is None else names[known]
            entries[image].annotations.append(_Annotation(name, crowd, drawing))
        count = sum(not entry.annotations for entry in entries.values())
        note = f"{path_text(name_of_file)}: {counted(len(entries), 'image')}"
        note += f", {count} of them without annotations: unlabelled" if count else ""
        self._lost += lost
        note += f"; {counted(lost, 'annotation')} of no image" if lost else ""
        shown = {names[key] for key in used - {None}}
        if unused := [name for name in dict.fromkeys(names.values()) if name not in shown]:
            note += f"; of categories {listed([*map(repr, unused)])} there is no annotation"
        self.notes.append(note)
        return [names[key] for key in sorted(used - {None}, key=lambda key: (str(type(key)), key))]

    def _entry(self, name: str, file: str) -> _Entry:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        tails = ("/".join(parts[place:]) for place in range(len(parts)))  # another machine's path
        found = next((files for tail in tails if (files := self._names.find(tail))), [])
        if len(found) > 1:
            folder = file[: file.rfind("/") + 1]
            beside = [each for each in found if each.startswith(folder)]
            alike = [each for each in found if _split_of_folders(each) == _split(file)]
            found = next((each for each in (beside, alike) if len(each) == 1), found)
        if len(found) == 1:
            split = _split_of_folders(found[0]) or _split(file)
            return _Entry(path_text(found[0]), found[0], split)
        problem = f"{SEVERAL} ({name})" if found else UNREADABLE
        return _Entry(f"{path_text(file)}: {name}", None, problem=problem)

    def _find_classes(
        self, categories: Sequence[str], file: str
    ) -> tuple[dict[str, int], list[str]]:
        """The number of each category, IGNORED of one called void or ignore; the classes."""
        numbers = {name: IGNORED for name in categories if VOID.fullmatch(name.lower())}
        numbers |= {name: 0 for name in categories if name.lower() == BACKGROUND}
        kept = [name for name in categories if name not in numbers]
        if not categories and self._lost:
            lost = counted(self._lost, "annotation")
            raise SourceError(
                f"{file}: none of {lost} names an image that is there; an image_id is an image's id"
            )
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


def _split(name: str) -> str | None:
    return split_of(PurePosixPath(name))


def _split_of_folders(name: str) -> str | None:
    return _split(f"{name[: name.rfind('/') + 1]}image")


def coco_lists(data: bytes, file: object) -> list[list[dict[str, Any]]]:
    """The three lists of a file's bytes, checked to hold mappings; raises SourceError."""
    try:
        with memory_limited(MEMORY):
            value = parse_json(data.removeprefix(BOM_UTF8))
    except (ValueError, MemoryError) as error:
        reason = str(error) or f"over {MEMORY >> 30} GiB"
        raise SourceError(f"{file}: can't be read as COCO's JSON ({reason})") from None
    lists = [value.get(name) if isinstance(value, dict) else None for name in LISTS]
    for name, items in zip(LISTS, lists, strict=True):
        if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
            raise SourceError(f"{file}: {name!r} is not a list of objects, as COCO's JSON has it")
    return [items or [] for items in lists]


def key_finder(keys: Mapping[Any, object]) -> Callable[[Any], Any]:
    """What finds the one of these ids that a value names, also as text of the same; None: none."""
    texts = {str(key): key for key in keys}

    def find(value: Any) -> Any:
        if not is_key(value):
            return None
        return value if value in keys else texts.get(str(value))

    return find


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is of a crowd; "0" is what some tools write for 0."""
    return str(annotation.get("iscrowd") or 0).lower() not in ("0", "false")


def is_key(value: Any) -> bool:
    """Whether it can be an id."""
    return isinstance(value, int | str)
