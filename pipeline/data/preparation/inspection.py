"""Inspect images before anything is made of them: what there is, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.data.decoding import decode_images
from pipeline.data.images import Pixels, StoredImage
from pipeline.data.preparation.assign import assign_sides, check_classes, check_sides
from pipeline.data.preparation.duplicates import conflicting, exact_copies
from pipeline.data.preparation.records import (
    RECORD_SCHEMA,
    Records,
    add_bad,
    check_ids,
    check_row,
    digest_of,
    in_order,
    record,
)
from pipeline.data.preparation.targets import Encoded, Targets
from pipeline.data.sources.rows import Row, Source
from pipeline.errors import SourceError
from pipeline.params import DataParams
from pipeline.progress import progress

MAX_PIXELS = 64_000_000
SAMPLE = 5000
CLASSES_SHOWN = 5
THUMBNAIL = 32
ANSWERS = DataParams(source="digits", image_size=128, max_pixels=MAX_PIXELS)
MOST_KEY = 2**63 - 1
USUAL_BITS = (8, 10, 12, 14, 16)
EXTREME_LEVELS = 8  # at each end of the 256 levels of grey
EXTREME_SHARE = 0.25  # of a photograph's pixels, at most


@dataclass(frozen=True)
class ImageTraits:
    """One decoded image; side: its shorter one, pixels; grey: no pixel of its thumbnail has a
    colour; photographic: see is_photographic; largest: its largest value where it has 16 bits,
    else 0."""

    side: int
    mode: str
    grey: bool
    photographic: bool
    largest: int = 0


@dataclass
class Inspection:
    """What a source holds.

    labeled, test: images by class, those for validation among the labelled, where images have no
    one class by each that a decoded one shows; answered, tested: all of them; none of those that
    were found unusable. decoded: how many images were, evenly spread; sides: the shorter sides of
    the good ones, pixels; coloured, photographic: how many of the good ones are; largest: the
    largest value of those of 16 bits, 0 for none; bad: (id, reason); duplicates: images with the
    very bytes of an earlier one; conflicts: with those of one of another class; records: what
    prepare will split by.
    """

    classes: list[str]
    labeled: Counter[str] = field(default_factory=Counter)
    test: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    tested: int = 0
    unlabeled: int = 0
    validation: int = 0
    decoded: int = 0
    sides: list[int] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    coloured: int = 0
    largest: int = 0
    photographic: int = 0
    bad: list[tuple[str, str]] = field(default_factory=list)
    duplicates: int = 0
    conflicts: int = 0
    records: Records | None = None

    @property
    def images(self) -> int:
        """All of them."""
        return self.answered + self.tested + self.unlabeled

    @property
    def median_side(self) -> int:
        """Half of the decoded images have a shorter side of at least so many pixels."""
        return sorted(self.sides)[len(self.sides) // 2]

    @property
    def bad_fraction(self) -> float:
        """The share of unusable images among the decoded ones."""
        return len(self.bad) / max(1, self.decoded)

    @property
    def smallest(self) -> int:
        """Labelled images of the rarest class."""
        return min(self.labeled[name] for name in self.classes)

    @property
    def imbalance(self) -> float:
        """How many times the images of the rarest class the most frequent one has."""
        return max(self.labeled.values(), default=0) / max(1, self.smallest)

    def count(
        self, row: Row, traits: ImageTraits | str | None, shown: Sequence[int] | None
    ) -> None:
        """Count a row; traits: of its image, or what is wrong with it, None where not decoded;
        shown: the classes of its answer, None where there is none."""
        self.decoded += traits is not None
        if isinstance(traits, str):
            self.bad.append((row.id, traits))
            return
        if shown is None:
            self.unlabeled += 1
        else:
            counts = self.test if row.split == "test" else self.labeled
            counts.update(self.classes[number] for number in shown)
            self.tested += row.split == "test"
            self.answered += row.split != "test"
            self.validation += row.split == "validation"
        if traits is not None:
            self.sides.append(traits.side)
            self.modes[traits.mode] += 1
            self.coloured += not traits.grey
            self.largest = max(self.largest, traits.largest)
            self.photographic += traits.photographic


def inspect_source(source: Source, task: Targets, sample: int = SAMPLE) -> Inspection:
    """Read all of `source`, decode `sample` of its images evenly spread, and count.

    task: what its answers are for. Raises SourceError where not one image is usable, or the
    classes won't do for prepare.
    """
    check_classes(source.classes)
    inspection = Inspection(source.classes)
    every = max(1, -(-len(source) // sample))
    bad, parts = list[tuple[str, str]](), list[Any]()

    def inspect(
        numbered: Sequence[tuple[int, Row]],
    ) -> list[tuple[Row, bool, ImageTraits | str | None, dict[str, Any]]]:
        """Each row without its image, whether it was decoded, traits or problem, its record."""
        for _, row in numbered:
            check_row(row, len(source.classes))
        usable = [row.image for number, row in numbered if number % every == 0 and not row.problem]
        found, inspected = iter(_decoded(usable, task)), []
        for number, row in numbered:
            decoded = number % every == 0
            image = row.problem or (next(found) if decoded else None)
            answer = _answer(row, image, task, len(source.classes))
            traits = _traits_of(image, answer)
            # the file's bytes stand for its pixels
            digest = digest_of(row.image if row.content is None else row.content)
            plain = replace(row, image=b"", content=None, label=None)
            remembered = record(row, digest, digest, answer, image_classes=task.image_classes)
            inspected.append((plain, decoded, traits, remembered))
        return inspected

    with progress("init: look", len(source)) as advance:
        for group in in_order(
            inspect, enumerate(source.rows()), os.cpu_count() or 1, lambda item: len(item[1].image)
        ):
            usable = []
            for row, decoded, traits, remembered in group:
                shown = None if remembered["key"] < 0 else remembered["classes"]
                inspection.count(row, traits if decoded else None, shown)
                if isinstance(traits, str):
                    add_bad(bad, [(row.id, traits)])
                else:
                    usable.append(remembered)
            parts.append(pa.Table.from_pylist(usable, schema=RECORD_SCHEMA))
            advance(len(group))
    records = Records.of(parts, bad)
    check_ids(records, (row.id for row in source.rows()))
    inspection.records = records
    inspection.duplicates = len(records) - len(np.unique(records.digests, axis=0))
    inspection.conflicts = int(conflicting(records.digests, records.keys).sum())
    if not inspection.sides:
        shown = "; ".join(f"{name}: {reason}" for name, reason in inspection.bad[:3])
        raise SourceError(f"no usable image among {inspection.decoded} ({shown})")
    missing = [name for name in inspection.classes if not inspection.labeled[name]]
    if missing and task.image_classes:
        raise SourceError(
            f"no labelled training image of {', '.join(map(repr, missing[:CLASSES_SHOWN]))}; "
            "add labelled images, or remove the class"
        )
    return inspection


def predicted_warnings(
    inspection: Inspection, data: DataParams, seed: int, task: Targets
) -> list[str]:
    """What prepare will warn of, a line each; raises SourceError for what it will refuse.

    Of images that were not decoded it is taken that they can be; near copies are not looked for.
    """
    assert inspection.records is not None
    classes, records, alike = inspection.classes, inspection.records, task.image_classes
    strata = len(classes) if alike else 1
    assigned = assign_sides(records, strata, data, seed, partial(exact_copies, records.digests))
    return check_sides(records, assigned.sides, classes, data.held_out_fraction, alike)


def _answer(row: Row, image: Any, task: Targets, num_classes: int) -> Encoded | str | None:
    """That of a row, or what is wrong with it; of no classes where only a decoded image tells."""
    if row.label is None:
        return None
    answer: Encoded | str = Encoded(None, 0, ())
    if isinstance(image, StoredImage) or task.image_classes:
        (answer,) = task.encode([row.label], [image], ANSWERS, num_classes)
    same = hash(row.label) & MOST_KEY
    return answer if isinstance(answer, str) else answer._replace(key=same)


def _decoded(images: Sequence[bytes], task: Targets) -> list[StoredImage | str]:
    """Images as thumbnails, or why one is unusable: prepare would say the same."""
    found = _thumbnails(images, 16, task)
    for place, seen in enumerate(found):
        if isinstance(seen, StoredImage) and seen.mode.startswith("I"):
            found[place] = _thumbnails([images[place]], usual_bits(seen.largest), task)[0]
    return found


def _traits_of(
    image: StoredImage | str | None, answer: Encoded | str | None
) -> ImageTraits | str | None:
    """What is wrong with an image or its answer, else its traits; None where it is not decoded."""
    if isinstance(image, str | None) or isinstance(answer, str):
        return image if isinstance(image, str) else answer if isinstance(answer, str) else None
    small = image.pixels
    grey = bool((small == small[:, :, :1]).all())
    return ImageTraits(image.side, image.mode, grey, is_photographic(small), image.largest)


def _thumbnails(images: Sequence[bytes], bits: int, task: Targets) -> list[StoredImage | str]:
    form: dict[str, Any] = {"channels": 3, "max_pixels": MAX_PIXELS, "bits": bits}
    return decode_images(images, image_size=THUMBNAIL, whole=task.keeps_whole, **form)


def usual_bits(largest: int) -> int:
    """The usual depth of scans, bits, that holds values up to `largest`, under 65536."""
    return next(bits for bits in USUAL_BITS if largest < 2**bits)


def is_photographic(thumbnail: Pixels) -> bool:
    """Whether few pixels of an image (S, S, C) are all but black or white, as a drawing's are.

    Of 400 greyscaled images each, that few are 82 % of photographs of objects (some on white) and
    all views from above; 1.5 % of handwritten digits, 3 % of Fashion-MNIST, no printed letters.
    """
    levels = thumbnail.mean(axis=2)
    extreme = (levels < EXTREME_LEVELS) | (levels >= 256 - EXTREME_LEVELS)
    return bool(extreme.mean() < EXTREME_SHARE)
