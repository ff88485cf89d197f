"""Which pictures below a folder are masks, and of which images: by names of files and folders."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import NamedTuple

from pipeline.data.sources.layout import part_of
from pipeline.data.sources.rows import SPLITS
from pipeline.data.trees.local import path_text
from pipeline.data.trees.names import Index, Names, folded, one_form
from pipeline.data.trees.tree import ending_of
from pipeline.data.trees.walk import Folder, Walk
from pipeline.errors import counted

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
WORD = re.compile("[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
SHORT = {"tr": "train", "ts": "test"}  # of imagesTr beside labelsTr
SURE = "masks?|labels?|gt|seg|segmentation"
USUAL = f"{SURE}|lbl|annotations?|groundtruth|manual[0-9]*"
BEHIND = "labelids|l|gtfine_labelids|gtfine_labeltrainids"
SURE_AFFIX = re.compile(f"^({SURE})[ ._-]+(?=.)|[ ._-]({SURE}|labelids)$", re.IGNORECASE)
MASK_AFFIX = re.compile(f"^({USUAL})[ ._-]+(?=.)|[ ._-]({USUAL}|{BEHIND})$", re.IGNORECASE)
IMAGE_AFFIX = re.compile(
    "^(image|img|rgb|sat)[ ._-]+(?=.)|[ ._-](image|img|rgb|sat|leftimg8bit)$", re.IGNORECASE
)
DOUBLE_ENDING = re.compile("[.]ome$", re.IGNORECASE)
LOSSY = (".jpg", ".jpeg")
NO_IMAGE = "a mask of no image, or the second of one"
NO_ROW = "named in no row of the table"
FREE, DOUBTFUL = -1, -2


class FolderKind(NamedTuple):
    """What a folder's name says: that there are masks in it, or images, and its other words; sure:
    also where no folder of the others lies beside it."""

    masks: bool
    rest: str
    sure: bool


class Way(NamedTuple):
    """A way to tell that a mask is of an image: the names without what is usual before or behind
    them, in any case, or alone, whatever the folders are called."""

    image: re.Pattern[str] | None = None
    mask: re.Pattern[str] | None = None
    folded: bool = True
    alone: bool = False

    def key(self, file: str, affix: re.Pattern[str] | None, folders: Iterable[str]) -> str:
        """What the names of a mask and its image share; folders: what those above it say else."""
        stem = _stem(file)
        stem = stem if affix is None else affix.sub("", stem) or stem
        key = stem if self.alone else "/".join([*filter(None, folders), stem])
        return folded(key) if self.folded else key


WAYS = (
    Way(folded=False),
    Way(),
    Way(mask=MASK_AFFIX),
    Way(image=IMAGE_AFFIX),
    Way(IMAGE_AFFIX, MASK_AFFIX),
    Way(alone=True),
    Way(IMAGE_AFFIX, MASK_AFFIX, alone=True),
)


class ByName:
    """Files by each way to write their names: with the folders above or not, and their endings."""

    def __init__(self, files: Names) -> None:
        self._files = files
        self._index = Index((way, n) for n, file in enumerate(files) for way in _ways(file))

    def find(self, name: str) -> list[str]:
        """The files of that name, whichever way its slashes lean, in order."""
        name = one_form(name.replace("\\", "/").removeprefix("./"))
        found = map(self._files.__getitem__, self._index.places(name))
        return [file for file in found if name in _ways(file)]


class PairedFiles:
    """The pictures below the root, by what they are: images, and masks, each of one image at most.

    beside: a folder named for images and one for masks that lie side by side, or one in the other;
    None where there are none.
    """

    def __init__(self, walk: Walk) -> None:
        self.walk, self.images, self.masks = walk, Names(), Names()
        self._kinds, self.beside = _folders(walk.tree)
        for file in walk.tree.names():
            (self.masks if self._is_in(file, masks=True) else self.images).append(file)
        if not self.masks:
            self._part_one_folder()
        self._mask_of = array("q", [FREE]) * len(self.images)
        self._image_of = array("q", [FREE]) * len(self.masks)
        self._doubtful: dict[int, tuple[int, int]] = {}  # masks that would fit two images
        for way in WAYS:
            if FREE in self._image_of:
                self._pair(way)

    def _part_one_folder(self) -> None:
        """Those are masks that lie beside their images and are surely named so."""
        way, files, self.images = Way(), self.images, Names()
        keys = Index((self._key(way, file), place) for place, file in enumerate(files))
        for file in files:
            key = self._key(way, file, MASK_AFFIX)
            is_mask = SURE_AFFIX.search(_stem(file)) is not None
            is_mask = is_mask and keys.holds(key, lambda place: self._key(way, files[place]))
            (self.masks if is_mask else self.images).append(file)

    def _key(self, way: Way, file: str, affix: re.Pattern[str] | None = None) -> str:
        return way.key(file, affix, map(self._rest, file.split("/")[:-1]))

    def _pair(self, way: Way) -> None:
        """Give the masks that are left to the images that they fit, where that is one."""
        free = Index(
            (self._key(way, file, way.mask), place)
            for place, file in enumerate(self.masks)
            if self._image_of[place] == FREE
        )
        claims = array("q", [FREE]) * len(self.masks)
        for place, file in enumerate(self.images):
            if self._is_in(file) if way.alone else self._mask_of[place] == FREE:
                key = self._key(way, file, way.image)
                fitting = [each for each in free.places(key) if self._fits(way, each, file, key)]
                if fitting and (len(fitting) == 1 or not way.alone):
                    if claims[fitting[0]] != FREE:
                        self._doubtful[fitting[0]] = (claims[fitting[0]], place)
                    claims[fitting[0]] = place
        for mask, image in enumerate(claims):
            if mask in self._doubtful:
                self._image_of[mask] = DOUBTFUL
            elif image != FREE and self._mask_of[image] == FREE:
                self._image_of[mask], self._mask_of[image] = image, mask

    def _fits(self, way: Way, mask: int, file: str, key: str) -> bool:
        name = self.masks[mask]
        if self._key(way, name, way.mask) != key:
            return False
        return not way.alone or self.split_of(name) in (None, self.split_of(file))

    def mask_of(self, file: str) -> str | None:
        """That of an image."""
        place = self._places.first(file, self.images.__getitem__)
        mask = FREE if place is None else self._mask_of[place]
        return None if mask == FREE else self.masks[mask]

    @cached_property
    def _places(self) -> Index:
        return Index((file, place) for place, file in enumerate(self.images))

    @cached_property
    def _mask_places(self) -> Index:
        return Index((file, place) for place, file in enumerate(self.masks))

    def reason_left_out(self, file: str) -> str:
        """Why a picture is neither an image nor used as a mask."""
        place = self._mask_places.first(file, self.masks.__getitem__)
        if place is None or self._image_of[place] >= 0:
            return NO_ROW
        if both := self._doubtful.get(place):
            first, second = (path_text(self.images[place]) for place in both)
            return f"fits two images, {first!r} and {second!r}; rename it for one"
        return NO_IMAGE

    def split_of(self, file: str) -> str | None:
        """By the folders above."""
        for name in file.split("/")[:-1]:
            rest = self._rest(name)
            if (part := part_of(SHORT.get(rest, rest) or name)) in SPLITS:
                return part
        return None

    def _rest(self, name: str) -> str:
        """A folder's name without what says images or masks: "train" of train_masks."""
        kind = self._kinds.get(name)
        return name if kind is None else kind.rest

    def _is_in(self, file: str, *, masks: bool = False) -> bool:
        """Whether a folder above says that there are images in it, or masks."""
        kinds = map(self._kinds.get, file.split("/")[:-1])
        return any(kind is not None and kind.masks is masks for kind in kinds)

    @property
    def _pairs(self) -> int:
        return sum(image >= 0 for image in self._image_of)

    @property
    def are_pairs(self) -> bool:
        """Whether at least half of the masks have an image, or half of the images a mask; not all
        as JPEGs, unless their folder lies beside one of images."""
        least = min(len(self.images), len(self.masks))
        if self.beside is None and all(ending_of(file) in LOSSY for file in self.masks):
            return False
        return 2 * self._pairs >= least > 0

    @property
    def shown(self) -> str:
        """How many masks have an image, and one mask and one image that have none, in a line."""
        text = f"{self._pairs} of {counted(len(self.masks), 'mask')} fit one image by name"
        for names, others in ((self.masks, self._image_of), (self.images, self._mask_of)):
            if name := next((names[place] for place, of in enumerate(others) if of < 0), None):
                why = self.reason_left_out(name) if names is self.masks else "an image of no mask"
                text += f"; {path_text(name)!r}: {why}"
        return text


def _stem(file: str) -> str:
    """A file's own name without its ending."""
    return DOUBLE_ENDING.sub("", PurePosixPath(file).stem)


def _ways(file: str) -> set[str]:
    parts = one_form(file).split("/")
    tails = {"/".join(parts[place:]) for place in range(len(parts))}
    return tails | {str(PurePosixPath(tail).with_suffix("")) for tail in tails}


def _folders(tree: Folder) -> tuple[dict[str, FolderKind], tuple[str, str] | None]:
    """What the names of folders with pictures say, and the first two side by side of which one
    says images and the other masks; folders of splits and of images around them do not count."""
    groups: dict[str, list[tuple[str, FolderKind]]] = {}
    for folder in tree.all():
        *above, name = folder.name.split("/")
        if (kind := _kind_of(name)) is not None and folder.has_pictures:
            place = "/".join(name for name in above if not _is_passed(name))
            groups.setdefault(place, []).append((folder.name, kind))
    known, beside = dict[str, FolderKind](), None
    for group in groups.values():
        rests = [{kind.rest for _, kind in group if kind.masks is masks} for masks in (False, True)]
        sides: dict[bool, str] = {}
        for folder_name, kind in group:
            if kind.sure or kind.rest in rests[not kind.masks]:
                known[folder_name.rpartition("/")[2]] = kind
                sides.setdefault(kind.masks, folder_name)
        if len(sides) == 2:
            beside = beside or (sides[False], sides[True])
    return known, beside


def _is_passed(name: str) -> bool:
    """Whether a folder is one of a split, or of images."""
    kind = _kind_of(name)
    return part_of(name) is not None or (kind is not None and kind.sure and not kind.masks)


@lru_cache(4096)
def _kind_of(name: str) -> FolderKind | None:
    plain = re.sub("[^a-z0-9]", "", name.lower())
    for masks, pattern in ((False, IMAGE_FOLDER), (True, MASK_FOLDER)):
        if match := pattern.fullmatch(plain):
            return FolderKind(masks, match["before"] or match["after"] or "", sure=True)
    words = [word.lower() for word in WORD.findall(name)]
    of_masks = [word for word in words if MASK_FOLDER.fullmatch(word)]
    rest = [word for word in words if word not in of_masks and not IMAGE_FOLDER.fullmatch(word)]
    return (
        None if len(rest) == len(words) else FolderKind(bool(of_masks), "_".join(rest), sure=False)
    )
