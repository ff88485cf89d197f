"""Look at images before anything is made of them: what is there, and what is wrong with it."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.images import BadImageError, decode, readable_formats
from pipeline.data.preparation.assign import SplitRules, assign_sides, check_classes, check_sides
from pipeline.data.preparation.duplicates import conflicting
from pipeline.data.preparation.records import (
    Records,
    RecordsBuilder,
    check_row,
    digest_of,
    refuse_id,
    text_digest,
)
from pipeline.data.sources.columns import Wanted
from pipeline.data.sources.files import Walk
from pipeline.data.sources.find_table import names_images, tables_that_lead
from pipeline.data.sources.layout import lay_out, part_of
from pipeline.data.sources.parquet import find_parquet
from pipeline.data.sources.rows import Row, Source
from pipeline.data.sources.table import TABLES
from pipeline.errors import SourceError
from pipeline.progress import progress

MAX_PIXELS = 64_000_000
SAMPLE = 5000
CLASSES_NAMED = 5
THUMBNAIL = 32
USUAL_BITS = (8, 10, 12, 14, 16)
ROWS_PER_TASK = 64
EXTREME_LEVELS = 8  # at each end of the 256 levels of grey
EXTREME_SHARE = 0.25  # of a photograph's pixels, at most


@dataclass(frozen=True)
class Glimpse:
    """One decoded image; grey: no pixel of its thumbnail has a colour; photographic: as
    `looks_photographic` says; largest: its largest value where it has 16 bits, else 0."""

    side: int
    mode: str
    grey: bool
    photographic: bool
    largest: int = 0


@dataclass
class Found:
    """What a source holds.

    labeled, test: images by class, those for validation among the labelled; looked_at: how many
    images were decoded, evenly spread; sides: the shorter sides of the good ones, pixels; coloured,
    photographic: how many of the good ones are; largest: the largest value of those of 16 bits, 0
    for none; bad: (id, reason); duplicates: images with the
    very bytes of an earlier one; conflicts: with those of one of another class; records: what
    prepare will split by.
    """

    classes: list[str]
    labeled: Counter[str] = field(default_factory=Counter)
    test: Counter[str] = field(default_factory=Counter)
    unlabeled: int = 0
    validation: int = 0
    looked_at: int = 0
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
        return self.labeled.total() + self.test.total() + self.unlabeled

    @property
    def median_side(self) -> int:
        """Half of the images looked at have a shorter side of at least so many pixels."""
        return sorted(self.sides)[len(self.sides) // 2]

    @property
    def bad_fraction(self) -> float:
        """The share of unusable images among those looked at."""
        return len(self.bad) / max(1, self.looked_at)

    @property
    def smallest(self) -> int:
        """Labelled images of the rarest class."""
        return min(self.labeled[name] for name in self.classes)

    @property
    def imbalance(self) -> float:
        """How many times the images of the rarest class the most frequent one has."""
        return max(self.labeled.values(), default=0) / max(1, self.smallest)


def recognise(path: str, wanted: Wanted | None = None) -> str:
    """Which source reads `path`: folder, manifest or parquet; wanted: the columns of a table.

    A table that leads to images and has labels counts before classes' folders, these before other
    tables, and classes in a folder `labeled` before all. Raises SourceError where there is nothing
    there.
    """
    where = Path(path)
    if where.suffix.lower() in TABLES and not where.is_dir():
        return "manifest"
    if where.suffix.lower() == ".parquet" or (not where.exists() and "*" in path):
        return "parquet"
    if not where.is_dir():
        raise SourceError(f"{path}: no such folder, CSV or Parquet file")
    tree = Walk(where).tree
    if any(part_of(name) == "labeled" and inner.folders for name, inner in tree.folders.items()):
        return "folder"
    if names_images(where, wanted or Wanted()):
        return "manifest"
    classes = {name for _, name, _ in lay_out(tree).labeled}
    if len(classes) > 1:
        return "folder"
    if find_parquet(path)[0]:
        return "parquet"
    return "manifest" if tables_that_lead(where) else "folder"


def unread_tables(path: Path) -> list[str]:
    """What to say of tables in a folder of classes that lead to its images as well."""
    return [
        f"{name} names images too and is not read; where its labels are meant, name their column "
        "with --label-column"
        for name in tables_that_lead(path)
    ]


def look(source: Source, sample: int = SAMPLE) -> Found:
    """Read all of `source`, decode `sample` of its images evenly spread, and count.

    Raises SourceError where not one image is usable, or the
    classes won't do for prepare.
    """
    check_classes(source.classes)
    found = Found(source.classes)
    every = max(1, -(-len(source) // sample))
    builder, ids = RecordsBuilder(len(source.classes)), set[bytes]()
    with (
        progress("init: look", len(source)) as advance,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        for rows in _parts(source.rows()):
            looks = pool.map(lambda row: _glimpse(row) if row[0] % every == 0 else None, rows)
            for (_, row), glimpse in zip(rows, looks, strict=True):
                _count(found, row)
                _remember(builder, ids, row, glimpse)
                if glimpse is not None:
                    _take_in(found, row, glimpse)
            advance(len(rows))
    records = builder.records(np.empty((len(builder), 0), np.uint8), Path())
    found.records = records
    found.duplicates = len(records) - len(np.unique(records.digests, axis=0))
    found.conflicts = int(conflicting(records.digests, records.labels).sum())
    if not found.sides:
        named = "; ".join(f"{name}: {reason}" for name, reason in found.bad[:3])
        raise SourceError(f"no usable image among {found.looked_at} ({named})")
    if missing := [name for name in found.classes if not found.labeled[name]]:
        raise SourceError(
            f"no labelled training image of {', '.join(map(repr, missing[:CLASSES_NAMED]))}; "
            "add labelled images, or remove the class"
        )
    return found


def _parts(rows: Iterator[Row]) -> Iterator[list[tuple[int, Row]]]:
    numbered = enumerate(rows)
    while part := list(islice(numbered, ROWS_PER_TASK)):
        yield part


def _count(found: Found, row: Row) -> None:
    if row.label is None:
        found.unlabeled += 1
        return
    (found.test if row.split == "test" else found.labeled)[found.classes[row.label]] += 1
    found.validation += row.split == "validation"


def _remember(
    builder: RecordsBuilder, ids: set[bytes], row: Row, glimpse: Glimpse | str | None
) -> None:
    """What prepare will split by; the file's bytes stand for its pixels."""
    if (name := text_digest(row.id)) in ids:
        refuse_id(row.id)
    ids.add(name)
    problem = glimpse if isinstance(glimpse, str) else row.problem
    if problem is not None:
        check_row(row, builder.num_classes)
        builder.bad.append((row.id, problem))
    else:
        digest = digest_of(row.image if row.content is None else row.content)
        builder.add(row, digest, digest)


def foresee(found: Found, rules: SplitRules) -> list[str]:
    """What prepare will warn of, a line each; raises SourceError for what it will refuse.

    Of images that were not decoded it is taken that they can be.
    """
    assert found.records is not None
    apart = replace(rules, near_duplicate_distance=0.0)
    sides = assign_sides(found.records, apart, lambda rows: {}).sides
    return check_sides(found.records.labels, sides, found.classes, rules.validation_fraction)


def _take_in(found: Found, row: Row, glimpse: Glimpse | str) -> None:
    found.looked_at += 1
    if isinstance(glimpse, str):
        found.bad.append((row.id, glimpse))
        return
    found.sides.append(glimpse.side)
    found.modes[glimpse.mode] += 1
    found.coloured += not glimpse.grey
    found.largest = max(found.largest, glimpse.largest)
    found.photographic += glimpse.photographic


def _glimpse(numbered: tuple[int, Row]) -> Glimpse | str:
    """What an image is, or why it is unusable: prepare would say the same."""
    row = numbered[1]
    if row.problem is not None:
        return row.problem
    try:
        small, largest = _thumbnail(row.image, 16), 0
    except BadImageError as error:
        return str(error)
    with Image.open(io.BytesIO(row.image), formats=readable_formats()) as image:
        if image.mode.startswith("I"):
            largest = int(np.asarray(image).max())
            small = _thumbnail(row.image, usual_bits(largest))
        grey = bool((small == small[:, :, :1]).all())
        return Glimpse(min(image.size), image.mode, grey, looks_photographic(small), largest)


def _thumbnail(data: bytes, bits: int) -> NDArray[np.uint8]:
    return decode(data, image_size=THUMBNAIL, channels=3, max_pixels=MAX_PIXELS, bits=bits)


def usual_bits(largest: int) -> int:
    """The usual depth of scans, bits, that holds values up to `largest`, under 65536."""
    return next(bits for bits in USUAL_BITS if largest < 2**bits)


def looks_photographic(thumbnail: NDArray[np.uint8]) -> bool:
    """Whether few pixels of an image (S, S, C) are all but black or white, as a drawing's are.

    Of 400 greyscaled images each, that few are 82 % of photographs of objects (some on white) and
    all views from above; 1.5 % of handwritten digits, 3 % of Fashion-MNIST, no printed letters.
    """
    levels = thumbnail.mean(axis=2)
    extreme = (levels < EXTREME_LEVELS) | (levels >= 256 - EXTREME_LEVELS)
    return bool(extreme.mean() < EXTREME_SHARE)
