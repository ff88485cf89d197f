"""What the values of masks mean: by classes.txt, else by the values that are found in the masks.

A line of classes.txt is a name, whose number is its place, or `number name`, or `r g b name`, or
`name r g b`; separated by spaces, tabs, commas or colons. 255 and a class called void, ignore or
unlabeled count in nothing.
"""

from __future__ import annotations

import errno
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import PurePath

from pipeline.data.decoding import mask_values
from pipeline.data.masks import COLOUR, IGNORED, MOST_CLASSES, value_text
from pipeline.data.sources.rows import in_batches, listed
from pipeline.data.trees.tree import File
from pipeline.data.trees.walk import Walk
from pipeline.errors import SourceError, counted

CLASS_FILES = (
    *("classes.txt", "classes.csv", "class_names.txt", "class_dict.csv", "labels.txt"),
    *("label_colors.txt", "colormap.txt", "names.txt"),
)
MOST_BYTES = 1 << 20
MOST_DIGITS, SHOWN = 9, 60  # of a number; letters of a line in an error
MAX_PIXELS = 64_000_000
MASKS_AT_ONCE, BYTES_AT_ONCE = 32, 16 << 20
VOID = re.compile("void|ignored?|unlabell?ed|unlabel|255")
NUMBERED = re.compile(r"(\d+)[\s,:;]+(\S.*)")
COLOURED = re.compile(r"(\d+)[\s,;]+(\d+)[\s,;]+(\d+)[\s,:;]+([^\d\s].*)")
COLOURED_BEHIND = re.compile(r"(\S.*?)[\s,:;]+(\d+)[\s,;]+(\d+)[\s,;]+(\d+)")
NO_NAME = re.compile(r"-\d+[\s,:;].*|.*[\t,:;]\s*-?\d+")
HEADER = {"name", "class", "class_name", "id", "number", "label", "index", "value", "r", "g", "b"}
ALONE = HEADER - {"r", "g", "b"}
OBJECTS = ["background", "object"]
GREYS = {COLOUR + level * 0x010101: level for level in range(256)}
MANY_VALUES = 64  # of masks without names of classes
ALL_IGNORED = "255 is ignored in them too; write the number of a class where it is one"
Values = tuple[tuple[int, int], ...]
Masks = Callable[[], Iterable[bytes]]  # the files of all masks, one after the other


@dataclass(frozen=True)
class MaskClasses:
    """Names in the order of their numbers, and what leads to these: as MaskFile has it."""

    names: list[str]
    values: Values
    others: int | None
    note: str


def read_classes(walk: Walk) -> tuple[list[tuple[int, str]] | None, File | None]:
    """(value, name) of each line of the file of classes in a tree's root, and that file; None:
    there is none. Raises SourceError for one that can't be read."""
    there = {name.lower(): name for name in walk.others_in(walk.tree, (".txt", ".csv"))}
    found = next((there[name] for name in CLASS_FILES if name in there), None)
    if found is None:
        return None, None
    file = File(walk.files, found)
    try:
        with walk.files.opened(found) as (opened, size):
            if size > MOST_BYTES:
                raise OSError(errno.EFBIG, f"larger than {MOST_BYTES >> 20} MiB", str(file))
            text = opened.read(size).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file}: can't be read ({error})") from None
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    words = re.split(r"[\s,;]+", lines[0].lower()) if lines else []
    if len(words) > 1 and HEADER.issuperset(words):
        del lines[0]
    elif lines and lines[0].lower() in ALONE:
        raise SourceError(
            f"{file}: {lines[0]!r}: a header or a class? remove the line, or write the number "
            "before each class, as '0 tree'"
        )
    entries = [_entry(line, place, file) for place, line in enumerate(lines)]
    if len({value for value, _ in entries}) < len(entries):
        raise SourceError(f"{file}: two classes have the same number or colour; make them differ")
    return entries, file


def _entry(line: str, place: int, file: File) -> tuple[int, str]:
    if match := COLOURED.fullmatch(line):
        *colour, name = match.groups()
    elif match := COLOURED_BEHIND.fullmatch(line):
        name, *colour = match.groups()
    elif match := NUMBERED.fullmatch(line):
        if (number := _number(match[1])) >= 1 << 16:
            raise SourceError(f"{file}: {line[:SHOWN]!r}: a number of over 16 bits")
        return number, match[2]
    elif NO_NAME.fullmatch(line):
        raise SourceError(
            f"{file}: {line!r}: write a name, or its number of 0 or more before it, as '0 tree'"
        )
    else:
        return (IGNORED if line.lower() == "255" else place), line
    red, green, blue = map(_number, colour)
    if max(red, green, blue) > 255:
        raise SourceError(f"{file}: {line[:SHOWN]!r}: a colour is three numbers of 0 to 255")
    return COLOUR + (red << 16 | green << 8 | blue), name


def _number(digits: str) -> int:
    """Their value; Python reads no more than some thousands, and no class needs more than these."""
    return int(digits.lstrip("0")[:MOST_DIGITS] or 0)


def classes_of(
    entries: list[tuple[int, str]] | None,
    file: str,
    masks: Masks,
    *,
    of_instances: bool,
) -> MaskClasses:
    """The classes of masks; entries: as read_classes has them, of `file`, which names where the
    masks are where there are none; of_instances: 0 is the background, and every other value an
    object of one kind."""
    if entries is None:
        return _classes_found(file, masks, of_instances=of_instances)
    named = [(value, name) for value, name in entries if not VOID.fullmatch(name.lower())]
    named.sort(key=lambda each: min(each[0], COLOUR))  # numbers ascend, colours are as they come
    names = [name for _, name in named]
    if not 2 <= len(names) <= MOST_CLASSES:
        count = counted(len(names), "class")
        raise SourceError(f"{file}: {count}; 2 to {MOST_CLASSES} are needed")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise SourceError(f"{file}: two classes are named {twice[0]!r}; rename one")
    ignored = {value: IGNORED for value, _ in entries} | {IGNORED: IGNORED}
    values = ignored | {value: number for number, (value, _) in enumerate(named)}
    note, others = f"{PurePath(file).name}: {len(names)} classes ({listed(names)})", None
    if of_instances and len(names) == 2:
        others = 1
        values = {0: 0}
    elif [value for value, _ in entries] == [0, 1] and _are_black_and_white(masks):
        values = {0: 0, IGNORED: 1}
        note += f"; value 255 is {names[1]!r}, since masks have 0 and 255 alone"
    elif values[IGNORED] == IGNORED and _values_in(islice(masks(), 1))[1]:
        note += f"; the first mask has 0 and 255 alone: {ALL_IGNORED}"
    return MaskClasses(names, tuple(sorted(values.items())), others, note)


def _classes_found(where: str, masks: Masks, *, of_instances: bool) -> MaskClasses:
    if of_instances:
        note = "masks of instances: 0 is the background, every other value an object"
        return MaskClasses(OBJECTS, ((0, 0),), 1, note)
    problems: Counter[str] = Counter()
    found, black_and_white = _values_in(masks(), problems)
    if found == {0, IGNORED}:
        note = "no names of classes, and masks have 0 and 255 alone: background and object"
        return MaskClasses(OBJECTS, ((0, 0), (IGNORED, 1)), None, note)
    kept = sorted(found - {IGNORED})
    if len(kept) < 2:
        shown = f"no value but {value_text(kept[0])}" if kept else "no value that counts"
        for problem, count in problems.most_common(1):
            shown += f"; {counted(count, 'mask')} can't be used: {problem}"
        raise SourceError(f"{where}: masks have {shown}; at least 2 classes are needed")
    if len(kept) > MOST_CLASSES:
        raise SourceError(
            f"{where}: masks have {len(kept):,} values, over {MOST_CLASSES} classes; "
            "where they number objects, name the folder instances"
        )
    names = OBJECTS if kept == [0, 1] else [f"class_{value_text(value)}" for value in kept]
    values = tuple((value, number) for number, value in enumerate(kept))
    note = f"no names of classes: they are the values of masks ({listed(names)}), 255 ignored"
    if black_and_white:
        note += f"; {counted(black_and_white, 'mask')} with 0 and 255 alone: {ALL_IGNORED}"
    if len(kept) > MANY_VALUES:
        note += (
            f"; {len(kept)} values: so many are in masks that were smoothed when they were scaled, "
            "or number objects (name their folder instances)"
        )
    return MaskClasses(names, (*values, (IGNORED, IGNORED)), None, note)


def _are_black_and_white(masks: Masks) -> bool:
    """Whether masks have 0 and 255 alone; the first one tells of most that they have not."""
    black_and_white = {0, IGNORED}
    first, _ = _values_in(islice(masks(), 1))
    return first <= black_and_white and _values_in(masks())[0] == black_and_white


def _values_in(
    masks: Iterable[bytes], problems: Counter[str] | None = None
) -> tuple[set[int], int]:
    """The values that occur in masks, and how many have 0 and 255 alone; problems: takes what is
    wrong with the others."""
    found, black_and_white = set[int](), 0
    for files in in_batches(masks, MASKS_AT_ONCE, BYTES_AT_ONCE, len):
        for values in mask_values(files, max_pixels=MAX_PIXELS):
            if not isinstance(values, str):
                found |= {*values}
                black_and_white += {GREYS.get(value, value) for value in values} == {0, IGNORED}
            elif problems is not None:
                problems[values] += 1
    if not any(value >= COLOUR and value not in GREYS for value in found):
        found = {GREYS.get(value, value) for value in found}  # of some masks in three channels
    return found, black_and_white
