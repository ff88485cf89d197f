"""Which pictures of a tree of folders are labelled, and what for: parts and classes by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import PurePath

from pipeline.data.sources.rows import SPLITS, in_words
from pipeline.data.trees.local import path_text
from pipeline.data.trees.walk import Folder, Walk
from pipeline.errors import SourceError, counted

PARTS = {
    "train": "train(ing|val)?|trn",
    "validation": "val|valid(ation)?|validate|dev(elopment)?|eval(uation)?",
    "test": "test(ing)?|tst|holdout",
    "labeled": "l[abel]{3,}d|annotated",
    "unlabeled": "un_?l[abel]{3,}d?|(no|not|without)l[abel]{3,}(s|d)?|unannotated|unsupervised",
}
SPELLINGS = {kind: re.compile(pattern) for kind, pattern in PARTS.items()}
LONGEST_NAME = 255  # of a file
# No two of these are a third: names that are made of many would take exponential time.
ADDED = "set|split|part|data|images?|imgs?|pictures?|pics?|photos?|samples?|folder|files?"
GENERIC = re.compile(f"({ADDED}|jpe?g|png|all|raw)+")
BEFORE, AFTER = re.compile(f"^({ADDED})+(?=.)"), re.compile(f"(?<=.)({ADDED}|[0-9]++)+$")
NO_CLASS = "in no class's folder"


@dataclass(frozen=True)
class Place:
    """What the folders above say: below `labeled` or not, and the split, None where open."""

    labeled: bool = False
    split: str | None = None

    @property
    def trains(self) -> bool:
        """Whether images are to be learned from, unless a fraction of them is to be tested on."""
        return self.split in (None, "train")


@cache
def part_of(name: str) -> str | None:
    """The part that a folder's name stands for, in any usual spelling; None for others."""
    if len(name) > LONGEST_NAME:  # some cell of a table
        return None
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    for spelling in (plain, AFTER.sub("", plain), BEFORE.sub("", AFTER.sub("", plain))):
        for kind, pattern in SPELLINGS.items():
            if pattern.fullmatch(spelling):
                return kind
    return None


def split_of(file: PurePath) -> str | None:
    """The one split that the words of a file's name and folders stand for."""
    words = re.split(r"[^a-zA-Z0-9]", file.with_suffix("").as_posix())
    splits = {part_of(word) for word in words if word} & {*SPLITS}
    return splits.pop() if len(splits) == 1 else None


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """The parts among the names of one folder's folders, by name.

    Names that differ in the words of parts alone are parts too, as pets_train beside pets_test.
    """
    parts = {name: part for name in names if (part := part_of(name))}
    similar: dict[tuple[str, ...], dict[str, str]] = {}
    for name in set(names) - parts.keys():
        words = [word for word in re.split(r"[^a-zA-Z0-9]+", name) if word]
        named = [part for word in words if (part := part_of(word))]
        if len(named) == 1:
            rest = tuple("" if part_of(word) else word for word in words)
            similar.setdefault(rest, {})[name] = named[0]
    for several in similar.values():
        if len(several) > 1:
            parts |= several
    return parts


@dataclass
class Layout:
    """What becomes of a tree's pictures; notes: what was taken for what, in lines.

    labeled: (folder, class, split) of the pictures directly in it; unlabeled: folders of such;
    left_out: (folder, reason); folders: those of each class.
    """

    labeled: list[tuple[Folder, str, str | None]] = field(default_factory=list)
    unlabeled: list[Folder] = field(default_factory=list)
    left_out: list[tuple[Folder, str]] = field(default_factory=list)
    folders: dict[str, list[tuple[Folder, Place]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, tree: Folder) -> Layout:
        """Read the layout of a tree, below single folders around everything."""
        layout, inner = cls(), tree
        while wrapped := _wrapped(inner):
            inner = wrapped
        if inner is not tree:
            layout.notes.append(
                f"{inner.where}: taken for the folder of images; nothing else is around it"
            )
        layout._read(inner, Place())
        return layout

    def _read(self, folder: Folder, place: Place) -> None:
        """Take what is in a folder of parts or classes."""
        kinds = parts_of(folder.folders)
        parts, others = self._parts_and_others(folder, kinds)
        name = next(iter(others), "")
        if len(others) == 1 and (
            GENERIC.fullmatch(name.lower()) or name == PurePath(folder.where).name
        ):
            self._read(others.popitem()[1], place)
        for name, inner in parts.items():
            self._read_part(inner, kinds[name], place)
        if any(_is_of_classes(inner, kinds[name]) for name, inner in parts.items()):
            for name, inner in others.items():
                self._leave_out(name, inner, parts)
        else:
            self.notes += _doubts(others)
            for name, inner in others.items():
                self.folders.setdefault(name, []).append((inner, place))
                self._read_class(name, inner, place.split)
        self._read_loose(folder, place, bool(others))

    def _parts_and_others(
        self, folder: Folder, kinds: Mapping[str, str]
    ) -> tuple[dict[str, Folder], dict[str, Folder]]:
        """The folders whose names are parts' (kinds), and those that may be classes."""
        parts = {name: inner for name, inner in folder.folders.items() if name in kinds}
        others = {name: inner for name, inner in folder.folders.items() if name not in parts}
        if not any(inner.has_pictures for inner in others.values()):
            return parts, others
        for name in [name for name, inner in others.items() if inner.is_of_texts]:
            where = others.pop(name).where
            self.notes.append(f"{where}: holds texts or tables alone, so it is no class")
        splits = [name for name in parts if kinds[name] in SPLITS]
        if len(splits) == 1 and splits[0].lower() == "train":
            train = parts[splits[0]]
            if train.files and not train.folders:
                others[splits[0]] = parts.pop(splits[0])
                self.notes.append(f"{train.where}: taken for a class, as the folders beside it")
        return parts, others

    def _read_part(self, folder: Folder, kind: str, place: Place) -> None:
        if kind == "unlabeled":
            self.unlabeled += folder.all()
        elif kind == "labeled":
            self._read(folder, replace(place, labeled=True))
        else:
            self._read(folder, replace(place, split=place.split or kind))

    def _leave_out(self, name: str, folder: Folder, parts: Iterable[str]) -> None:
        """Leave out a folder that lies beside `parts`."""
        beside = _shown(list(parts))
        reason = f"in {path_text(name)}/, which is neither a part nor a class; beside it: {beside}"
        self.left_out += [(inner, reason) for inner in folder.all()]

    def _read_class(self, name: str, folder: Folder, split: str | None) -> None:
        """Take the pictures of a class; where it has several parts, of these alone."""
        inner = {sub: each for sub, each in folder.folders.items() if each.has_pictures}
        kinds = {sub: part for sub, part in parts_of(inner).items() if part != "labeled"}
        parted = bool(inner) and (len(kinds) == len(inner) or len({*kinds.values()}) > 1)
        self.labeled += [(folder, name, split)] if folder.files else []
        for sub, each in inner.items():
            part = kinds.get(sub) if parted else None
            if parted and part is None:
                self._leave_out(sub, each, kinds)
            elif part == "unlabeled":
                self.unlabeled += each.all()
            else:
                self._read_class(name, each, split or part)

    def _read_loose(self, folder: Folder, place: Place, classes: bool) -> None:
        """Take the pictures that lie directly in a folder of parts or classes."""
        if not folder.files:
            return
        if place.labeled or (place.split and classes):
            self.left_out.append((folder, NO_CLASS))
            return
        self.unlabeled.append(folder)
        if place.split:
            use = {"test": "test", "validation": "be chosen by"}.get(place.split)
            why = f": without labels they can't {use}" if use else ""
            count = len(folder.files)
            self.notes.append(f"{folder.where}: {counted(count, 'image')}, used as unlabelled{why}")

    def check(self, walk: Walk) -> None:
        """Raise SourceError where a class has no image to learn from, or its name is in doubt.

        walk: whose tree this is the layout of.
        """
        trained = {
            name for name, places in self.folders.items() if any(p.trains for _, p in places)
        }
        labeled = {name for _, name, split in self.labeled if split in (None, "train")}
        for name, ((folder, _), *_) in self.folders.items():
            if not trained:
                raise SourceError(
                    f"{walk.tree.where}: only folders to test or validate with; name the one to "
                    "learn from train"
                )
            if name not in trained:
                raise SourceError(
                    f"{folder.where}: no class of that name in the folders to learn from; "
                    "rename or remove it"
                )
            if name not in labeled:
                raise SourceError(
                    f"{folder.where}: no labelled images to learn from in it"
                    f"{_others_in(folder, walk)}; "
                    "add some, or move the folder out of the data's"
                )
        if not self.labeled:
            folders = [*self.unlabeled, *(folder for folder, _ in self.left_out)]
            count = sum(len(folder.files) for folder in folders)
            what = "no images in it"
            if count:
                what = (
                    f"{counted(count, 'image')} without labels; put some in <class>/ and the "
                    "others in unlabeled/, or add a CSV with columns path and label, or masks in "
                    "masks/ beside images/"
                )
            raise SourceError(f"{walk.tree.where}: {what}{_others_in(walk.tree, walk)}")


def _wrapped(folder: Folder) -> Folder | None:
    """The one folder in `folder` that is no part, where it holds folders and nothing is beside."""
    if folder.files or len(folder.folders) != 1:
        return None
    name, inner = next(iter(folder.folders.items()))
    return inner if part_of(name) is None and inner.folders else None


def _is_of_classes(folder: Folder, kind: str | None) -> bool:
    """Whether a part to learn from holds folders of classes itself, or in parts of its own."""
    if kind not in ("train", "labeled"):
        return False
    return any(
        (part := part_of(name)) is None or _is_of_classes(inner, part)
        for name, inner in folder.folders.items()
    )


def _doubts(classes: Mapping[str, Folder]) -> list[str]:
    """What to say of folders that are taken for classes and may be something else."""
    notes, similar = [], dict[tuple[str, ...], list[str]]()
    for name, folder in classes.items():
        while len(folder.folders) == 1 and not folder.files:
            folder = next(iter(folder.folders.values()))
        inside = tuple(inner for inner, each in folder.folders.items() if each.has_pictures)
        similar.setdefault(inside, []).append(name)
        if len(classes) > 1 and GENERIC.fullmatch(name.lower()):
            notes.append(
                f"{name}/ is taken for a class, as the folders beside it; where one of these holds "
                "masks of images, name it masks"
            )
    for inside, names in similar.items():
        if len(inside) > 1 and len(names) > 1:
            notes.append(
                f"{_shown(names)} hold the same folders, {_shown(inside)}: the former are taken "
                "for the classes; where the latter are, name the former train, test or unlabeled"
            )
    return notes


def _shown(names: Sequence[str]) -> str:
    return ", ".join(f"{path_text(name)}/" for name in names[:3]) + (
        ", …" if len(names) > 3 else ""
    )


def _others_in(folder: Folder, walk: Walk) -> str:
    """What there is in a folder in place of pictures."""
    files = ((name, why) for name, why in walk.unused if name.startswith(folder.below("")))
    inside = [(walk.files.where(name), why) for name, why in files]
    return f" (of other files: {in_words(inside, 2)})" if inside else ""
