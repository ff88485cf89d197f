"""From what was found to a preset and its settings: the rules, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.data.look import Found

PHOTO_SIDE = 160  # pixels of the shorter side
MANY_IMAGES = 20_000
SHARP_SIDE = 32
SMALLEST_SIDE, LAPTOP_SIDE, WEIGHTS_SIDE = 16, 64, 224
FEW_LABELS, FEW_OF_A_CLASS = 50, 5
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


def advise(found: Found, source: str, path: str, *, gpu: bool) -> Advice:
    """Choose for images that were looked at; gpu: whether there is one to train on.

    Preset: folder_small without a GPU, or where half the images have a shorter side under 160
    pixels; else folder_large from 20,000 images on, and transfer under that. Image size: see
    image_side. Channels: 1 where no image has a colour and the preset is folder_small. Mirroring:
    where there are colours, since grey images often are writing. Validation: none where fewer than
    50 labelled images, or fewer than 5 of a class, are there to train on.
    """
    preset, reason = choose_preset(found, gpu=gpu)
    grey = found.coloured == 0
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
        Setting("augment.flip", False, "grey images often are writing; true where mirrored is fine")
        if grey
        else Setting("augment.flip", True, "false where left and right matter, as in text"),
    ]
    side = next(entry.value for entry in settings if entry.key == "data.image_size")
    if preset == "folder_small" and side <= SHARP_SIDE:
        settings.append(Setting("model.stem_stride", 1, "small images have fine detail"))
    return Advice(preset, reason, settings)


SOURCE_WORDS = {
    "folder": "labeled/<class>/*, unlabeled/**",
    "class_folders": "<class>/*, and unlabeled/ beside them",
    "manifest": "a CSV of path and label",
    "parquet": "columns image and label",
}


def choose_preset(found: Found, *, gpu: bool) -> tuple[str, str]:
    """The preset's name and the reason."""
    if not gpu:
        return "folder_small", "there is no GPU"
    if found.median_side < PHOTO_SIDE:
        return "folder_small", f"half the images are under {found.median_side + 1} pixels"
    if found.images >= MANY_IMAGES:
        return "folder_large", f"{found.images} images and a GPU"
    return "transfer", f"photographs, fewer than {MANY_IMAGES}, and a GPU"


def image_side(median_side: int, preset: str) -> int:
    """The side of the stored images: what half of them have, in fours, from 16 to 64 pixels.

    transfer and folder_large keep the 224 pixels that their networks are made for.
    """
    if preset != "folder_small":
        return WEIGHTS_SIDE
    return min(max(median_side // 4 * 4, SMALLEST_SIDE), LAPTOP_SIDE)


def describe(found: Found, source: str) -> list[str]:
    """What was found, in lines."""
    counts = sorted(found.labeled.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {count}" for name, count in counts[:CLASSES_SHOWN])
    more = ", …" if len(counts) > CLASSES_SHOWN else ""
    sides, modes = sorted(found.sides), ", ".join(f"{m} {n}" for m, n in found.modes.most_common())
    return [
        f"{SOURCE_WORDS[source]} (source {source})",
        f"{found.labeled.total()} labelled images of {len(found.classes)} classes ({shown}{more}), "
        f"{found.unlabeled} unlabelled, {found.test.total()} for test",
        f"shorter side {sides[0]} to {sides[-1]} pixels, half at least {found.median_side}; "
        f"modes: {modes} of {found.looked_at} looked at",
    ]


def warnings(found: Found) -> list[str]:
    """What the person should know or mend before training."""
    lines = []
    if found.bad:
        named = "; ".join(f"{name}: {reason}" for name, reason in found.bad[:3])
        more = "; …" if len(found.bad) > 3 else ""
        lines.append(
            f"{len(found.bad)} of {found.looked_at} looked at are unusable ({named}{more})"
        )
    if found.duplicates:
        lines.append(f"{found.duplicates} are exact copies of others")
    if found.conflicts:
        lines.append(f"{found.conflicts} of the copies have another label; prepare drops those")
    if found.imbalance >= IMBALANCED:
        rare = min(found.classes, key=lambda name: found.labeled[name])
        lines.append(
            f"imbalance: the most frequent class has {found.imbalance:.1f} times the labelled "
            f"images of {rare!r}, which has {found.labeled[rare]}"
        )
    elif found.smallest < FEW_OF_A_CLASS:
        lines.append(f"the rarest class has {found.smallest} labelled images; a few more help most")
    if not found.unlabeled:
        lines.append("no unlabelled images, so only the labels can teach; add some")
    return lines


def _size(found: Found, preset: str) -> Setting:
    half = f"half the images have {found.median_side} pixels or more at the shorter side"
    if preset != "folder_small":
        half = "what the network is made for"
    elif found.median_side > LAPTOP_SIDE:
        half += "; more than 64 asks for a GPU"
    return Setting("data.image_size", image_side(found.median_side, preset), half)


def _splits(found: Found, preset: str) -> list[Setting]:
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
        return [*settings, Setting("data.validation_fraction", 0.2, why)]
    if found.labeled.total() * kept < FEW_LABELS or found.smallest * kept < FEW_OF_A_CLASS:
        why = "too few labels to spare any; calibration and guard are off"
        settings.append(Setting("data.validation_fraction", 0.0, why))
        if preset == "folder_large":
            settings.append(
                Setting("ensemble.method", "equal", "no validation images to choose by")
            )
    return settings


def _bad(found: Found) -> list[Setting]:
    if found.bad_fraction <= BAD_ALLOWED:
        return []
    share = min(1.0, round(found.bad_fraction * 1.25 + 0.01, 2))
    why = f"{found.bad_fraction:.0%} are unusable; prepare lists them in quarantine.parquet"
    return [Setting("data.max_bad_fraction", share, why)]
