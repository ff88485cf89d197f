"""Which pictures of a tree of folders are labelled, and what for: parts and classes by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from pipeline.data.sources.files import Folder
from pipeline.data.sources.rows import in_words
from pipeline.errors import SourceError

PARTS = {
    "train": "train(ing|val)?|trn",
    "validation": "val|valid(ation)?|validate|dev(elopment)?|eval(uation)?",
    "test": "test(ing)?|tst|holdout",
    "labeled": "l[abel]{3,}d|annotated",
    "unlabeled": "un_?l[abel]{3,}d?|(no|not|without)l[abel]{3,}(s|d)?|unannotated|unsupervised",
}
SPELLINGS = {kind: re.compile(pattern) for kind, pattern in PARTS.items()}
ADDED = "set|split|part|data|dataset|images?|imgs?|pictures?|pics?|photos?|samples?|folder|files?"
GENERIC = re.compile(f"({ADDED}|jpe?g|jpegimages|png|all|raw)+")
BEFORE, AFTER = re.compile(f"^({ADDED})+(?=.)"), re.compile(f"(?<=.)({ADDED}|[0-9]+)+$")
NO_CLASS = "in no class's folder"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Place:
    """What the folders above say: below `labeled` or not, and the split, None where open."""

    labeled: bool = False
    split: str | None = None

    @property
    def trains(self) -> bool:
        """Whether images are to be learned from, unless a fraction of them is to be tested on."""
        return self.split in (None, "train")


@dataclass
class Layout:
    """What becomes of a tree's pictures; notes: what was taken for what, in lines.

    labeled: (path, class, split); left_out: (path, reason); folders: those of each class.
    """

    labeled: list[tuple[Path, str, str | None]] = field(default_factory=list)
    unlabeled: list[Path] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    folders: dict[str, list[tuple[Path, Place]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@cache
def part_of(name: str) -> str | None:
    """The part that a folder's name stands for, in any usual spelling; None for others."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    for spelling in (plain, AFTER.sub("", plain), BEFORE.sub("", AFTER.sub("", plain))):
        for kind, pattern in SPELLINGS.items():
            if pattern.fullmatch(spelling):
                return kind
    return None


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """The parts among the names of one folder's folders, by name.

    Names that differ in the words of parts alone are parts too, as pets_train beside pets_test.
    """
    found = {name: part for name in names if (part := part_of(name))}
    alike: dict[tuple[str, ...], dict[str, str]] = {}
    for name in set(names) - found.keys():
        words = [word for word in re.split(r"[^a-zA-Z0-9]+", name) if word]
        parts = [part for word in words if (part := part_of(word))]
        if len(parts) == 1:
            rest = tuple("" if part_of(word) else word for word in words)
            alike.setdefault(rest, {})[name] = parts[0]
    return found | {n: p for same in alike.values() if len(same) > 1 for n, p in same.items()}


def lay_out(tree: Folder) -> Layout:
    """Read the layout of a tree; raises SourceError where there are labels in no folder."""
    found = Layout()
    _read(unwrapped(tree, found.notes), Place(), found)
    return found


def unwrapped(folder: Folder, notes: list[str]) -> Folder:
    """The folder that holds the parts or classes: below single folders around everything."""
    inner = folder
    while wrapped := _wrapped(inner):
        inner = wrapped
    if inner is not folder:
        notes.append(f"{inner.path}: taken for the folder of images; nothing else is around it")
    return inner


def _wrapped(folder: Folder) -> Folder | None:
    """The one folder in `folder` that is no part, where it holds folders and nothing is beside."""
    if folder.files or len(folder.folders) != 1:
        return None
    name, inner = next(iter(folder.folders.items()))
    return inner if part_of(name) is None and inner.folders else None


def _read(folder: Folder, place: Place, found: Layout) -> None:
    """Take what is in a folder of parts or classes."""
    kinds = parts_of(folder.folders)
    parts, others = _parts_and_others(folder, kinds, found.notes)
    name = next(iter(others), "")
    if len(others) == 1 and (GENERIC.fullmatch(name.lower()) or name == folder.path.name):
        _read(others.popitem()[1], place, found)
    for name, inner in parts.items():
        _read_part(inner, kinds[name], place, found)
    if any(_is_of_classes(inner, kinds[name]) for name, inner in parts.items()):
        for name, inner in others.items():
            found.left_out += [(path, _beside(name, list(parts))) for path in inner.pictures()]
    else:
        found.notes += _doubts(others)
        for name, inner in others.items():
            _read_class(name, inner, place, found)
    _read_loose(folder, place, bool(others), found)


def _parts_and_others(
    folder: Folder, kinds: dict[str, str], notes: list[str]
) -> tuple[dict[str, Folder], dict[str, Folder]]:
    """The folders whose names are parts' (kinds), and those that may be classes."""
    parts = {name: inner for name, inner in folder.folders.items() if name in kinds}
    others = {name: inner for name, inner in folder.folders.items() if name not in parts}
    pictured = any(any(inner.pictures()) for inner in others.values())
    for name in [name for name, inner in others.items() if pictured and inner.is_of_texts]:
        notes.append(f"{others.pop(name).path}: holds texts or tables alone, so it is no class")
    splits = [name for name in parts if kinds[name] in SPLITS]
    if len(splits) == 1 and splits[0].lower() == "train" and pictured:
        name = splits[0]
        if folder.folders[name].files and not folder.folders[name].folders:
            others[name] = parts.pop(name)
            notes.append(f"{others[name].path}: taken for a class, as the folders beside it")
    return parts, others


def _read_part(folder: Folder, kind: str, place: Place, found: Layout) -> None:
    if kind == "unlabeled":
        found.unlabeled += folder.pictures()
    elif kind == "labeled":
        _read(folder, replace(place, labeled=True), found)
    else:
        split = kind if place.split is None else place.split
        _read(folder, replace(place, split=split), found)


def _is_of_classes(folder: Folder, kind: str | None) -> bool:
    """Whether a part to learn from holds folders of classes itself, or in parts of its own."""
    if kind not in ("train", "labeled"):
        return False
    return any(
        _is_of_classes(inner, part) if (part := part_of(name)) in ("train", "labeled") else not part
        for name, inner in folder.folders.items()
    )


def _beside(name: str, parts: Sequence[str]) -> str:
    return f"in {name}/, which is neither a part nor a class; beside it: {_shown(parts)}"


def _read_class(name: str, folder: Folder, place: Place, found: Layout) -> None:
    """Take the pictures of a class, in parts of its own where all its folders are parts."""
    found.folders.setdefault(name, []).append((folder.path, place))
    for path, split in _of_class(folder, place.split, found):
        if split == "unlabeled":
            found.unlabeled.append(path)
        else:
            found.labeled.append((path, name, split))


def _of_class(
    folder: Folder, split: str | None, found: Layout
) -> Iterator[tuple[Path, str | None]]:
    """The pictures of a class and their splits; where it has several parts, of these alone."""
    inner = {name: each for name, each in folder.folders.items() if any(each.pictures())}
    kinds = {name: part for name, part in parts_of(inner).items() if part != "labeled"}
    parted = bool(inner) and (len(kinds) == len(inner) or len({*kinds.values()}) > 1)
    for path in folder.files:
        yield path, split
    for name, each in inner.items():
        part = kinds.get(name) if parted else None
        if parted and part is None:
            found.left_out += [(path, _beside(name, list(kinds))) for path in each.pictures()]
        elif part == "unlabeled":
            yield from ((path, part) for path in each.pictures())
        else:
            yield from _of_class(each, split or part, found)


def _doubts(classes: dict[str, Folder]) -> list[str]:
    """What to say of folders that are taken for classes and may be something else."""
    notes, alike = [], dict[tuple[str, ...], list[str]]()
    for name, folder in classes.items():
        while len(folder.folders) == 1 and not folder.files:
            folder = next(iter(folder.folders.values()))
        inside = tuple(inner for inner, each in folder.folders.items() if any(each.pictures()))
        alike.setdefault(inside, []).append(name)
        if len(classes) > 1 and GENERIC.fullmatch(name.lower()):
            notes.append(f"{name}/ is taken for a class, as the folders beside it")
    for inside, names in alike.items():
        if len(inside) > 1 and len(names) > 1:
            notes.append(
                f"{_shown(names)} hold the same folders, {_shown(inside)}: the former are taken "
                "for the classes; where the latter are, name the former train, test or unlabeled"
            )
    return notes


def _shown(names: Sequence[str]) -> str:
    return ", ".join(f"{name}/" for name in names[:3]) + (", …" if len(names) > 3 else "")


def _read_loose(folder: Folder, place: Place, classes: bool, found: Layout) -> None:
    """Take the pictures that lie directly in a folder of parts or classes."""
    if not folder.files:
        return
    if place.labeled or (place.split and classes):
        found.left_out += [(path, NO_CLASS) for path in folder.files]
        return
    found.unlabeled += folder.files
    if place.split:
        use = {"test": "test", "validation": "be chosen by"}.get(place.split)
        why = f": without labels they can't {use}" if use else ""
        found.notes.append(f"{folder.path}: {len(folder.files)} images, used as unlabelled{why}")


def check_layout(found: Layout, root: Path, unused: list[tuple[Path, str]]) -> None:
    """Raise SourceError where a class has no image to learn from, or its name is in doubt.

    unused: (path, reason) of the files that are no pictures.
    """
    learned = {name for name, places in found.folders.items() if any(p.trains for _, p in places)}
    taught = {name for _, name, split in found.labeled if split in (None, "train")}
    for name, places in found.folders.items():
        path = places[0][0]
        if not learned:
            raise SourceError(
                f"{root}: only folders to test or validate with; name the one to learn from train"
            )
        if name not in learned:
            raise SourceError(
                f"{path}: no class of that name in the folders to learn from; rename or remove it"
            )
        if name not in taught:
            raise SourceError(
                f"{path}: no labelled images to learn from in it{_beside_them(path, unused)}; "
                "add some, or move the folder out of the data's"
            )
    if not found.labeled:
        raise SourceError(f"{root}: {_no_labels(found)}{_beside_them(root, unused)}")


def _beside_them(folder: Path, unused: list[tuple[Path, str]]) -> str:
    """What there is in a folder in place of pictures."""
    inside = [(str(path), reason) for path, reason in unused if path.is_relative_to(folder)]
    return f" (of other files: {in_words(inside, 2)})" if inside else ""


def _no_labels(found: Layout) -> str:
    if not (found.unlabeled or found.left_out):
        return "no images in it"
    count = len(found.unlabeled) + len(found.left_out)
    return (
        f"{count} images without labels; put some in <class>/ and the others in unlabeled/, or "
        "add a CSV with columns path and label"
    )
