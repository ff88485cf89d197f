"""Which pictures below a folder are masks, and of which images: by names of files and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.data.sources.files import Walk
from pipeline.data.sources.layout import part_of
from pipeline.data.sources.rows import SPLITS

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


@dataclass
class PairedFiles:
    """The pictures below the root, by what they are; keys: the places that pairs share."""

    walk: Walk
    images: list[Path] = field(default_factory=list)
    masks: dict[str, Path] = field(default_factory=dict)
    spare: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, walk: Walk) -> PairedFiles:
        files, candidates = cls(walk), list[Path]()
        for path in sorted(walk.tree.pictures()):
            parts = path.relative_to(walk.root).parts[:-1]
            (candidates if any(map(_is_of_masks, parts)) else files.images).append(path)
        if not candidates:  # in one folder
            plain = {files.key(path) for path in files.images}
            candidates = [path for path in files.images if files.key(path, MASK_ENDING) in plain]
            candidates = [path for path in candidates if SURE_ENDING.search(path.stem)]
            files.images = [path for path in files.images if path not in set(candidates)]
        for path in candidates:
            first = files.masks.setdefault(files.key(path), path)
            files.spare += [path] if first != path else []
        for path in candidates:
            files.masks.setdefault(files.key(path, MASK_ENDING), path)
        return files

    def key(self, path: Path, ending: re.Pattern[str] | None = None) -> str:
        """Where it lies, without the folders that say images or masks, and its name's ending."""
        parts = [_plain_part(name) for name in path.relative_to(self.walk.root).parts[:-1]]
        stem = path.stem if ending is None else ending.sub("", path.stem)
        return "/".join([*filter(None, parts), stem])

    def mask_of(self, path: Path) -> Path | None:
        """That of an image."""
        names = (self.key(path), self.key(path, IMAGE_ENDING))
        found = next((self.masks[name] for name in names if name in self.masks), None)
        if found is None and self._is_of_images(path):
            found = self._alone.get((path.stem, self.split_of(path)))
        return found

    @cached_property
    def _alone(self) -> dict[tuple[str, str | None], Path]:
        """Masks by name and split: those in folders of other names than their image's, where one
        mask and one image, in a folder of images, have that name."""
        images = Counter(path.stem for path in self.images if self._is_of_images(path))
        taken = {self.masks.get(self.key(path)) for path in self.images}
        masks = [path for path in {*self.masks.values()} if path not in taken]
        stems = Counter(path.stem for path in masks)
        return {
            (path.stem, self.split_of(path)): path
            for path in masks
            if stems[path.stem] == images[path.stem] == 1
        }

    def _is_of_images(self, path: Path) -> bool:
        """Whether a folder above says that there are images in it."""
        parts = map(_plain, path.relative_to(self.walk.root).parts[:-1])
        return any(map(IMAGE_FOLDER.fullmatch, parts))

    def split_of(self, path: Path) -> str | None:
        """By the folders above."""
        for name in path.relative_to(self.walk.root).parts[:-1]:
            if (part := part_of(_plain_part(name) or name)) in SPLITS:
                return part
        return None

    def by_name(self, paths: Sequence[Path]) -> dict[str, list[Path]]:
        """Files by each way to write them: with the folders above or not, and their endings."""
        names: dict[str, list[Path]] = {}
        for path in paths:
            parts = path.relative_to(self.walk.root).parts
            tails = {"/".join(parts[place:]) for place in range(len(parts))}
            for name in tails | {str(PurePosixPath(tail).with_suffix("")) for tail in tails}:
                names.setdefault(name, []).append(path)
        return names

    @property
    def are_pairs(self) -> bool:
        """Whether at least half of the masks have an image, and none is a JPEG."""
        matched = {mask for path in self.images if (mask := self.mask_of(path))}
        masks = {*self.masks.values()}
        lossy = any(path.suffix.lower() in LOSSY for path in masks)
        return bool(masks) and not lossy and 2 * len(matched) >= len(masks)


def sequences_note(ids: Sequence[str]) -> list[str]:
    """What to say where nearly all images have names of frames of a few sequences."""
    names = [match[1] for name in ids if (match := FRAME.search(name))]
    count = len({*names})
    if len(names) < SURE_FRAMES * len(ids) or not 1 < count <= len(names) / FRAMES_A_SEQUENCE:
        return []
    return [
        f"names as of frames of {count} sequences, e.g. {names[0]!r}; frames next to each other on "
        f"both sides of a split flatter a model: --group-pattern '{FRAME.pattern}' keeps each "
        "sequence on one"
    ]


def _is_of_masks(name: str) -> bool:
    return MASK_FOLDER.fullmatch(_plain(name)) is not None


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def _plain_part(name: str) -> str:
    """A folder's name without what says images or masks: "train" of train_masks."""
    match = IMAGE_FOLDER.fullmatch(_plain(name)) or MASK_FOLDER.fullmatch(_plain(name))
    return name if match is None else match["before"] or match["after"] or ""
