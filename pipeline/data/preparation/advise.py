"""From what there is to a preset and its settings: the rules, each with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.data.preparation.inspection import Inspection, usual_bits
from pipeline.data.preparation.targets import Targets
from pipeline.data.sources.masks import PRESETS
from pipeline.data.sources.rows import Source, in_words, listed
from pipeline.errors import counted
from pipeline.params.presets import filled_preset
from pipeline.program import program_file

PHOTO_SIDE = 160  # pixels of the shorter side that folder_large is made for
PHOTOGRAPH_SIDE = 48  # pixels of the shorter side from which a pretrained body is worth it
MANY_IMAGES = 20_000
SHARP_SIDE = 32
SMALLEST_SIDE, WEIGHTS_SIDE = 16, 224
LARGEST_SIDE = {"folder_small": 64, "photographs": 128}
SMALL_SIDE = 64  # median shorter side up to which images with masks are small
VIEW = 96  # train.image_size of the preset for photographs with masks
FEW_MASKS = 20  # fewer can't spare any for validation
FEW_LABELS, FEW_OF_A_CLASS, FEW_TO_JUDGE = 50, 5, 2
BAD_ALLOWED = 0.05
IMBALANCED = 3.0


class Setting(NamedTuple):
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


SOURCE_WORDS = {
    "folder": "<class>/* and unlabeled/**, in parts by name or not",
    "manifest": "a CSV of path and label",
    "masks": "images with masks of the same names",
    "coco": "images with annotations in COCO's JSON",
    "parquet": "columns image and {}",
}
LARGER_BODY = (
    "{source: timm, name: timm/vit_small_patch14_dinov2.lvd142m, input_size: 224} from a hub"
)


def advise(inspection: Inspection, source: str, path: str, *, gpu: bool, task: Targets) -> Advice:
    """Choose for images that were inspected; gpu: whether there is one to train on; task: what
    their answers are for.

    For images with masks see _advise_masks. Preset: see choose_preset. Image size: see image_side.
    Channels: 1 where no image has a colour and the preset is folder_small. Mirroring: of
    photographs and where there are colours, since other grey images often are writing. Validation:
    with photographs by folds; else none where fewer than 50 labelled images, or fewer than 5 of a
    class, are there to train on.
    """
    if not task.image_classes:
        return _advise_masks(inspection, source, path, task)
    preset, reason = choose_preset(inspection, gpu=gpu)
    grey = inspection.coloured == 0
    side = image_side(inspection.median_side, preset)
    counts = f"{inspection.images} images of {len(inspection.classes)} classes"
    settings = [
        Setting("data.source", source, source_words(source, task)),
        Setting("data.path", path, counts),
        Setting("data.image_size", side, _why_size(inspection, preset)),
        Setting("data.channels", 1, "no sampled image has a colour")
        if grey and preset == "folder_small"
        else Setting("data.channels", 3, "RGB"),
        Setting("data.labels", None, f"all {inspection.answered} labels"),
        *_splits(inspection, preset),
    ]
    settings += _exceptions(inspection)
    if grey and not are_photographs(inspection):
        why = "grey images often are writing; true where mirrored is fine"
        settings.append(Setting("augment.flip", False, why))
    else:
        why = "false where left and right matter, as in text"
        settings.append(Setting("augment.flip", True, why))
    if preset == "folder_small" and side <= SHARP_SIDE:
        settings.append(Setting("model.stem_stride", 1, "small images have fine detail"))
    if preset == "photographs" and gpu:
        settings.append(Setting("embed.source", "packaged", f"the GPU affords more: {LARGER_BODY}"))
    return Advice(preset, reason, settings)


def source_words(source: str, task: Targets) -> str:
    """What a source holds."""
    return SOURCE_WORDS[source].format(task.target.name)


def _advise_masks(inspection: Inspection, source: str, path: str, task: Targets) -> Advice:
    """For images with masks: masks_photographs where one has a colour and half of them have a
    shorter side of over 64 pixels, else the one for small images; image size: the shorter side
    that half of them have, in sixteens, 32 to 240, else to 128; what training sees of it, at about
    the same scale; validation where 20 masks are there."""
    grey, test = inspection.coloured == 0, inspection.tested
    small = grey or inspection.median_side <= SMALL_SIDE
    preset, largest = PRESETS[small]
    side = min(max(inspection.median_side // 16 * 16, 2 * SMALLEST_SIDE), largest)
    half = f"half the images have a shorter side of {inspection.median_side} pixels or more"
    share = 0.2 if inspection.answered >= FEW_MASKS or inspection.validation else 0.0
    boxes = [round(min(1.0, bound * (VIEW / side) ** 2), 2) for bound in (0.55, 2.8)]
    settings = [
        Setting("task", task.name, f"{len(inspection.classes)} classes"),
        Setting("data.source", source, source_words(source, task)),
        Setting("data.path", path, f"{inspection.images} images"),
        Setting("data.image_size", side, half),
        Setting(
            "data.channels", 1 if grey else 3, "no sampled image has a colour" if grey else "RGB"
        ),
        Setting("data.labels", None, f"all {inspection.answered} masks"),
        Setting(
            "data.test_fraction", 0.2, f"not used: {test} are named" if test else "none is named"
        ),
        Setting(
            "data.validation_fraction", share, "for choices" if share else "too few to spare any"
        ),
        *_exceptions(inspection),
        Setting("augment.flip", True, "false where left and right matter, as in text"),
    ]
    if not small:
        settings.append(Setting("augment.crop_area", boxes, f"{VIEW} pixels at about their scale"))
    return Advice(preset, f"{inspection.answered} images with a mask", settings)


def _exceptions(inspection: Inspection) -> list[Setting]:
    """What is set because of images that are not as most are."""
    settings = []
    if inspection.bad_fraction > BAD_ALLOWED:
        share = min(1.0, round(inspection.bad_fraction * 1.25 + 0.01, 2))
        why = (
            f"{inspection.bad_fraction:.0%} are unusable; prepare lists them in quarantine.parquet"
        )
        settings.append(Setting("data.max_bad_fraction", share, why))
    if inspection.largest:
        why = f"the largest value of sampled images of 16 bits is {inspection.largest}"
        settings.append(Setting("data.bits", usual_bits(inspection.largest), why))
    return settings


def are_photographs(inspection: Inspection) -> bool:
    """Whether at least half of the decoded images have a colour, or shades of grey."""
    good = len(inspection.sides)
    return 2 * max(inspection.coloured, inspection.photographic) >= good


def choose_preset(inspection: Inspection, *, gpu: bool) -> tuple[str, str]:
    """The preset's name and the reason.

    photographs where half the images have a shorter side of 48 pixels or more and half are coloured
    or photographic; in their place folder_large with a GPU, from 20,000 images of 160 pixels on.
    folder_small for the others.
    """
    side = inspection.median_side
    if side < PHOTOGRAPH_SIDE:
        return "folder_small", f"half the images are under {side + 1} pixels"
    if not are_photographs(inspection):
        return "folder_small", "grey drawings or writing, not photographs"
    if gpu and side >= PHOTO_SIDE and inspection.images >= MANY_IMAGES:
        return "folder_large", f"{inspection.images} images and a GPU"
    return "photographs", f"photographs, half of {side} pixels or more"


def image_side(median_side: int, preset: str) -> int:
    """The side of the stored images: what half of them have, in fours, from 16 pixels on.

    At most 64 with folder_small, 128 with photographs. folder_large keeps the 224 pixels that its
    networks are made for.
    """
    if preset not in LARGEST_SIDE:
        return WEIGHTS_SIDE
    return min(max(median_side // 4 * 4, SMALLEST_SIDE), LARGEST_SIDE[preset])


def filled(advice: Advice, options: dict[str, str | None]) -> str:
    """The text of params.yaml: the preset with the settings of the advice, and with the parameters
    of `data` among the options."""
    opening = [
        f"Written by selftrain init from presets/{advice.preset}.yaml: {advice.reason}.",
        "docs/parameters.md explains each parameter; selftrain preview shows the images.",
    ]
    named = [Setting(f"data.{key}", value, "as asked") for key, value in options.items() if value]
    preset = program_file("presets") / f"{advice.preset}.yaml"
    return filled_preset(preset, [*advice.settings, *named], opening)


def summary(
    inspection: Inspection, source: Source, task: Targets, unread_tables: Sequence[str] = ()
) -> list[str]:
    """What there is, what becomes of it, and the warnings, in lines."""
    lines = [f"{source_words(source.name, task)} (source {source.name})", *describe(inspection)]
    lines += [*source.notes, accounted(source, inspection.bad), *warnings(inspection)]
    return lines + [f"warning: {table}" for table in unread_tables]


def describe(inspection: Inspection) -> list[str]:
    """What there is, in lines."""
    counts = [f"{name} {count}" for name, count in inspection.labeled.most_common()]
    sides = sorted(inspection.sides)
    modes = ", ".join(f"{mode} {count}" for mode, count in inspection.modes.most_common())
    lines = [
        f"{inspection.answered} labelled images of {len(inspection.classes)} classes "
        f"({listed(counts)}), {inspection.unlabeled} unlabelled, {inspection.tested} for "
        "test",
        f"shorter side {sides[0]} to {sides[-1]} pixels, half at least {inspection.median_side}; "
        f"modes: {modes} of {inspection.decoded} sampled",
    ]
    if inspection.largest:
        bits = usual_bits(inspection.largest)
        lines.append(f"images of 16 bits use up to {inspection.largest}: data.bits = {bits}")
    return lines


def accounted(source: Source, bad: Sequence[tuple[str, str]] = ()) -> str:
    """How many files there are, and what becomes of them, in one line; in prepare's words."""
    left_out, used = [*source.left_out, *bad], len(source) - len(bad)
    why = f" ({in_words(left_out)})" if left_out else ""
    return f"{used + len(left_out)} files or rows seen: {used} used, {len(left_out)} left out{why}"


def warnings(inspection: Inspection) -> list[str]:
    """What the person should know or mend before training."""
    labeled, lines = inspection.labeled, []
    if bad := inspection.bad:
        shown = listed([f"{name}: {reason}" for name, reason in bad], 3, "; ")
        lines.append(f"{len(bad)} of {inspection.decoded} sampled are unusable ({shown})")
    if inspection.duplicates:
        lines.append(
            f"{inspection.duplicates} are exact copies of others: prepare leaves out those of "
            "validation and test images, near copies too"
        )
    if inspection.conflicts:
        lines.append(f"{inspection.conflicts} are the same as one of another class: left out")
    if few := [repr(name) for name in inspection.classes if labeled[name] < FEW_TO_JUDGE]:
        lines.append(
            f"fewer than {FEW_TO_JUDGE} labelled images of {listed(few)}: none can be held out, "
            "so nothing judges these classes; label another"
        )
    if inspection.imbalance >= IMBALANCED:
        rare = min(inspection.classes, key=lambda name: labeled[name])
        lines.append(
            f"imbalance: the most frequent class has {inspection.imbalance:.1f} times the labelled "
            f"images of {rare!r}, which has {labeled[rare]}"
        )
    elif inspection.smallest < FEW_OF_A_CLASS:
        count = inspection.smallest
        lines.append(
            f"the rarest class has {counted(count, 'labelled image')}; a few more help most"
        )
    return lines


def _why_size(inspection: Inspection, preset: str) -> str:
    largest = LARGEST_SIDE.get(preset)
    if largest is None:
        return "what the network is made for"
    half = f"half the images have {inspection.median_side} pixels or more at the shorter side"
    over = inspection.median_side > largest
    return f"{half}; more than {largest} asks for a GPU" if over else half


def _splits(inspection: Inspection, preset: str) -> list[Setting]:
    """Validation and test shares, and what else they decide."""
    test = inspection.tested
    why = f"not used: {test} test images are named" if test else None
    why = why or "of the labelled images; none is named"
    settings = [Setting("data.test_fraction", 0.2, why)]
    if inspection.validation:
        why = f"{inspection.validation} images are named"
        if preset == "photographs":
            settings.append(Setting("data.validation", "held_out", why))
            settings.append(Setting("transfer.mode", "layerwise", "auto needs validation: folds"))
        return [*settings, Setting("data.validation_fraction", 0.2, why)]
    if preset == "photographs":
        why = "no label is given up: each is predicted by a classifier that has not seen it"
        return [*settings, Setting("data.validation", "folds", why)]
    trained = 1.0 if test else 0.8
    few = inspection.answered * trained < FEW_LABELS
    if few or inspection.smallest * trained < FEW_OF_A_CLASS:
        why = "too few labels to spare any; calibration and guard are off"
        settings.append(Setting("data.validation_fraction", 0.0, why))
        if preset == "folder_large":
            why = "no validation images to choose by"
            settings.append(Setting("ensemble.method", "equal", why))
    return settings
