"""From what was found to a preset and its settings: the rules, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.data.preparation.inspection import Inspection, usual_bits
from pipeline.data.sources.rows import Source, in_words

PHOTO_SIDE = 160  # pixels of the shorter side that folder_large is made for
PHOTOGRAPH_SIDE = 48  # pixels of the shorter side from which a pretrained body is worth it
MANY_IMAGES = 20_000
SHARP_SIDE = 32
SMALLEST_SIDE, WEIGHTS_SIDE = 16, 224
LARGEST_SIDE = {"folder_small": 64, "photographs": 128}
FEW_LABELS, FEW_OF_A_CLASS, FEW_TO_JUDGE = 50, 5, 2
BAD_ALLOWED = 0.05
IMBALANCED = 3.0
CLASSES_SHOWN = 10


@dataclass(frozen=True)
class Setting:
    """A parameter, dotted, its value, and why."""

    key: str
    value: Any
    comment: str


@dataclass(frozen=True)
class Advice:
    """A preset by name, why, and what is set in it."""

    preset: str
    reason: str
    settings: list[Setting]


def advise(found: Inspection, source: str, path: str, *, gpu: bool) -> Advice:
    """Choose for images that were looked at; gpu: whether there is one to train on.

    Preset: see choose_preset. Image size: see image_side. Channels: 1 where no image has a colour
    and the preset is folder_small. Mirroring: of photographs and where there are colours, since
    other grey images often are writing. Validation: with photographs by folds; else none where
    fewer than 50 labelled images, or fewer than 5 of a class, are there to train on.
    """
    preset, reason = choose_preset(found, gpu=gpu)
    grey = found.coloured == 0
    writing = grey and not are_photographs(found)
    settings = [
        Setting("data.source", source, SOURCE_WORDS[source]),
        Setting("data.path", path, f"{found.images} images of {len(found.classes)} classes"),
        _size(found, preset),
        Setting("data.channels", 1, "no image looked at has a colour")
        if grey and preset == "folder_small"
        else Setting("data.channels", 3, "RGB"),
        Setting("data.labels", None, f"all {found.labeled.total()} labels"),
        *_splits(found, preset),
        *_bad(found),
        *_bits(found),
        Setting("augment.flip", False, "grey images often are writing; true where mirrored is fine")
        if writing
        else Setting("augment.flip", True, "false where left and right matter, as in text"),
    ]
    side = next(entry.value for entry in settings if entry.key == "data.image_size")
    if preset == "folder_small" and side <= SHARP_SIDE:
        settings.append(Setting("model.stem_stride", 1, "small images have fine detail"))
    if preset == "photographs" and gpu:
        settings.append(Setting("embed.source", "packaged", f"the GPU affords more: {LARGER_BODY}"))
    return Advice(preset, reason, settings)


SOURCE_WORDS = {
    "folder": "<class>/* and unlabeled/**, in parts by name or not",
    "manifest": "a CSV of path and label",
    "parquet": "columns image and label",
}


LARGER_BODY = (
    "{source: timm, name: timm/vit_small_patch14_dinov2.lvd142m, input_size: 224} from a hub"
)


def are_photographs(found: Inspection) -> bool:
    """Whether at least half of the images looked at have a colour, or shades of grey."""
    good = len(found.sides)
    return 2 * max(found.coloured, found.photographic) >= good


def choose_preset(found: Inspection, *, gpu: bool) -> tuple[str, str]:
    """The preset's name and the reason.

    photographs where half the images have a shorter side of 48 pixels or more and half are coloured
    or photographic; in their place folder_large with a GPU, from 20,000 images of 160 pixels on.
    folder_small for the others.
    """
    if found.median_side < PHOTOGRAPH_SIDE:
        return "folder_small", f"half the images are under {found.median_side + 1} pixels"
    if not are_photographs(found):
        return "folder_small", "grey drawings or writing, not photographs"
    if gpu and found.median_side >= PHOTO_SIDE and found.images >= MANY_IMAGES:
        return "folder_large", f"{found.images} images and a GPU"
    return "photographs", f"photographs, half of {found.median_side} pixels or more"


def image_side(median_side: int, preset: str) -> int:
    """The side of the stored images: what half of them have, in fours, from 16 pixels on.

    At most 64 with folder_small, 128 with photographs. folder_large keeps the 224 pixels that its
    networks are made for.
    """
    if preset not in LARGEST_SIDE:
        return WEIGHTS_SIDE
    return min(max(median_side // 4 * 4, SMALLEST_SIDE), LARGEST_SIDE[preset])


def describe(found: Inspection, source: str) -> list[str]:
    """What was found, in lines."""
    counts = sorted(found.labeled.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {count}" for name, count in counts[:CLASSES_SHOWN])
    more = ", …" if len(counts) > CLASSES_SHOWN else ""
    sides, modes = sorted(found.sides), ", ".join(f"{m} {n}" for m, n in found.modes.most_common())
    scans = (
        [f"images of 16 bits use up to {found.largest}: data.bits = {usual_bits(found.largest)}"]
        if found.largest
        else []
    )
    return [
        f"{SOURCE_WORDS[source]} (source {source})",
        f"{found.labeled.total()} labelled images of {len(found.classes)} classes ({shown}{more}), "
        f"{found.unlabeled} unlabelled, {found.test.total()} for test",
        f"shorter side {sides[0]} to {sides[-1]} pixels, half at least {found.median_side}; "
        f"modes: {modes} of {found.decoded} looked at",
        *scans,
    ]


def accounted(source: Source) -> str:
    """How many files there are, and what becomes of them, in one line."""
    used, unused = len(source), len(source.left_out)
    why = f" ({in_words(source.left_out)})" if unused else ""
    return f"{used + unused} files or rows seen: {used} used, {unused} left out{why}"


def warnings(found: Inspection) -> list[str]:
    """What the person should know or mend before training."""
    lines = []
    if found.bad:
        named = "; ".join(f"{name}: {reason}" for name, reason in found.bad[:3])
        more = "; …" if len(found.bad) > 3 else ""
        lines.append(f"{len(found.bad)} of {found.decoded} looked at are unusable ({named}{more})")
    if found.duplicates:
        lines.append(f"{found.duplicates} are exact copies of others")
    if found.conflicts:
        lines.append(f"{found.conflicts} are the same as one of another class: left out")
    if single := [name for name in found.classes if found.labeled[name] < FEW_TO_JUDGE]:
        named = ", ".join(map(repr, single[:CLASSES_SHOWN]))
        more = ", …" if len(single) > CLASSES_SHOWN else ""
        lines.append(
            f"fewer than {FEW_TO_JUDGE} labelled images of {named}{more}: none can be held out, so "
            "nothing judges these classes; label another"
        )
    if found.imbalance >= IMBALANCED:
        rare = min(found.classes, key=lambda name: found.labeled[name])
        lines.append(
            f"imbalance: the most frequent class has {found.imbalance:.1f} times the labelled "
            f"images of {rare!r}, which has {found.labeled[rare]}"
        )
    elif found.smallest < FEW_OF_A_CLASS:
        lines.append(f"the rarest class has {found.smallest} labelled images; a few more help most")
    return lines


def _size(found: Inspection, preset: str) -> Setting:
    half = f"half the images have {found.median_side} pixels or more at the shorter side"
    most = LARGEST_SIDE.get(preset)
    if most is None:
        half = "what the network is made for"
    elif found.median_side > most:
        half += f"; more than {most} asks for a GPU"
    return Setting("data.image_size", image_side(found.median_side, preset), half)


def _splits(found: Inspection, preset: str) -> list[Setting]:
    """Validation and test shares, and what else they decide."""
    settings = []
    kept = 1.0
    if found.test.total():
        why = f"not used: {found.test.total()} test images are named"
        settings.append(Setting("data.test_fraction", 0.2, why))
    else:
        kept = 0.8
        settings.append(Setting("data.test_fraction", 0.2, "of the labelled images; none is named"))
    if found.validation:
        why = f"{found.validation} images are named"
        if preset == "photographs":
            settings.append(Setting("data.validation", "held_out", why))
            settings.append(Setting("transfer.mode", "layerwise", "auto needs validation: folds"))
        return [*settings, Setting("data.validation_fraction", 0.2, why)]
    if preset == "photographs":
        why = "no label is given up: each is predicted by a classifier that has not seen it"
        return [*settings, Setting("data.validation", "folds", why)]
    if found.labeled.total() * kept < FEW_LABELS or found.smallest * kept < FEW_OF_A_CLASS:
        why = "too few labels to spare any; calibration and guard are off"
        settings.append(Setting("data.validation_fraction", 0.0, why))
        if preset == "folder_large":
            settings.append(
                Setting("ensemble.method", "equal", "no validation images to choose by")
            )
    return settings


def _bits(found: Inspection) -> list[Setting]:
    """The usual depth that the largest value of images of 16 bits asks for."""
    if not found.largest:
        return []
    bits = usual_bits(found.largest)
    why = f"the largest value looked at of images of 16 bits is {found.largest}"
    return [Setting("data.bits", bits, why)]


def _bad(found: Inspection) -> list[Setting]:
    if found.bad_fraction <= BAD_ALLOWED:
        return []
    share = min(1.0, round(found.bad_fraction * 1.25 + 0.01, 2))
    why = f"{found.bad_fraction:.0%} are unusable; prepare lists them in quarantine.parquet"
    return [Setting("data.max_bad_fraction", share, why)]
