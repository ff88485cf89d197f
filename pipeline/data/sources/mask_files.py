"""Which pictures below a folder are masks, and of which images: by names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import PurePosixPath

from pipeline.data.sources.layout import part_of
from pipeline.data.sources.rows import SPLITS
from pipeline.data.trees.names import Index, Names
from pipeline.data.trees.tree import ending_of
from pipeline.data.trees.walk import Walk

PARTED = "(?P<{}>train(ing)?|val(id(ation)?)?|test(ing)?)?"
IMAGE_FOLDER = re.compile(
    PARTED.format("before")
    + "(input|raw|rgb|colou?r)?(jpe?g|png)?"
    + "(images?|imgs?|pictures?|photos?|frames?|inputs?|leftimg8bit)"
    + PARTED.format("after")
)
MASK_FOLDER = re.compile(
    PARTED.format("before")
    + "(pixel|semantic|class|seg(mentation)?|gt)?"
    + "(masks?|labels?|annot(ation)?s?|gts?|gtfine|groundtruths?|targets?|instances?|trimaps?"
    + "|class(aug|raw)?|segmentations?)(images?|imgs?|raw|png|ids?)?"
    + PARTED.format("after")
)
INSTANCES = re.compile("instance", re.IGNORECASE)
MASK_ENDING = re.compile(
    "[ ._-](mask|masks|label|labels|labelids|lbl|gt|seg|segmentation|annotation|l|groundtruth"
    "|gtfine_labelids|gtfine_labeltrainids)$",
    re.IGNORECASE,
)
SURE_ENDING = re.compile("[ ._-](masks?|labels?|labelids|gt|seg|segmentation)$", re.IGNORECASE)
IMAGE_ENDING = re.compile("[ ._-](image|img|rgb|sat|leftimg8bit)$", re.IGNORECASE)
FRAME = re.compile(r"([^/]+)[ ._-][a-zA-Z]{0,6}[0-9]+[.][^./]+$")
SURE_FRAMES, FRAMES_A_SEQUENCE = 0.9, 10  # share of the images; frames on average
LOSSY = (".jpg", ".jpeg")


class ByName:
    """Files by each way to write their names: with the folders above or not, and their endings."""

    def __init__(self, files: Names) -> None:
        self._files = files
        self._index = Index((way, n) for n, file in enumerate(files) for way in _ways(file))

    def find(self, name: str) -> list[str]:
        """The files of that name, in order."""
        found = map(self._files.__getitem__, self._index.places(name))
        return [file for file in found if name in _ways(file)]


class PairedFiles:
    """The pictures below the root, by what they are: images and, of those of the same place and
    name, the first mask; keys: the places that pairs share."""

    def __init__(self, walk: Walk) -> None:
        self.walk, self.images, candidates = walk, Names(), Names()
        for file in walk.tree.names():
            is_mask = any(map(_is_of_masks, file.split("/")[:-1]))
            (candidates if is_mask else self.images).append(file)
        if not candidates:  # in one folder
            all_images, self.images = self.images, Names()
            keys = Index((key_of(file), place) for place, file in enumerate(all_images))
            for file in all_images:
                key = key_of(file, MASK_ENDING)
                is_mask = SURE_ENDING.search(PurePosixPath(file).stem) is not None
                is_mask = is_mask and _first(keys, all_images, key) is not None
                (candidates if is_mask else self.images).append(file)
        keys = Index((key_of(file), place) for place, file in enumerate(candidates))
        self.masks = Names(
            file
            for place, file in enumerate(candidates)
            if _first(keys, candidates, key_of(file)) == place
        )
        self._keys = Index((key_of(file), place) for place, file in enumerate(self.masks))
        self._stems = Index(
            (key_of(file, MASK_ENDING), place) for place, file in enumerate(self.masks)
        )

    def mask_of(self, file: str) -> str | None:
        """That of an image."""
        place = self._place(file)
        return None if place is None else self.masks[place]

    def _place(self, file: str) -> int | None:
        for key in (key_of(file), key_of(file, IMAGE_ENDING)):
            if (place := self._of_key(key)) is not None:
                return place
        if not _is_of_images(file):
            return None
        free, images = self._alone
        stem = PurePosixPath(file).stem
        places = _same_stem(free, self.masks, stem)
        if len(places) == len(_same_stem(images, self.images, stem)) == 1:
            return (
                places[0] if self.split_of(self.masks[places[0]]) == self.split_of(file) else None
            )
        return None

    def _of_key(self, key: str) -> int | None:
        place = _first(self._keys, self.masks, key)
        return _first(self._stems, self.masks, key, MASK_ENDING) if place is None else place

    @cached_property
    def _alone(self) -> tuple[Index, Index]:
        """Masks and images by name: those in folders of other names than their image's, where one
        mask and one image, in a folder of images, have that name."""
        taken = bytearray(len(self.masks))
        for file in self.images:
            if (place := self._of_key(key_of(file))) is not None:
                taken[place] = 1
        free = (
            (PurePosixPath(file).stem, place)
            for place, file in enumerate(self.masks)
            if not taken[place]
        )
        images = (
            (PurePosixPath(file).stem, place)
            for place, file in enumerate(self.images)
            if _is_of_images(file)
        )
        return Index(free), Index(images)

    def split_of(self, file: str) -> str | None:
        """By the folders above."""
        for name in file.split("/")[:-1]:
            if (part := part_of(_plain_part(name) or name)) in SPLITS:
                return part
        return None

    @property
    def are_pairs(self) -> bool:
        """Whether at least half of the masks have an image, and none is a JPEG."""
        if not self.masks or any(ending_of(file) in LOSSY for file in self.masks):
            return False
        matched = bytearray(len(self.masks))
        for file in self.images:
            if (place := self._place(file)) is not None:
                matched[place] = 1
        return 2 * sum(matched) >= len(self.masks)


def key_of(file: str, ending: re.Pattern[str] | None = None) -> str:
    """Where it lies, without the folders that say images or masks, and its name's ending."""
    parts = [_plain_part(name) for name in file.split("/")[:-1]]
    stem = PurePosixPath(file).stem
    return "/".join([*filter(None, parts), stem if ending is None else ending.sub("", stem)])


def _first(
    index: Index, files: Names, key: str, ending: re.Pattern[str] | None = None
) -> int | None:
    """The place of the first file of that key."""
    places = index.places(key)
    return next((place for place in places if key_of(files[place], ending) == key), None)


def _same_stem(index: Index, files: Names, stem: str) -> list[int]:
    return [place for place in index.places(stem) if PurePosixPath(files[place]).stem == stem]


def _ways(file: str) -> set[str]:
    parts = file.split("/")
    tails = {"/".join(parts[place:]) for place in range(len(parts))}
    return tails | {str(PurePosixPath(tail).with_suffix("")) for tail in tails}


def _is_of_images(file: str) -> bool:
    """Whether a folder above says that there are images in it."""
    return any(map(IMAGE_FOLDER.fullmatch, map(_plain, file.split("/")[:-1])))


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


@lru_cache(4096)
def _is_of_masks(name: str) -> bool:
    return MASK_FOLDER.fullmatch(_plain(name)) is not None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


@lru_cache(4096)
def _plain_part(name: str) -> str:
    """A folder's name without what says images or masks: "train" of train_masks."""
    match = IMAGE_FOLDER.fullmatch(_plain(name)) or MASK_FOLDER.fullmatch(_plain(name))
    return name if match is None else match["before"] or match["after"] or ""
