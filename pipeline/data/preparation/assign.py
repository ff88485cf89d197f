"""Give every usable image its side: labelled, unlabelled, validation, test, or out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pipeline.data.preparation.duplicates import Ints, Mask, conflicting
from pipeline.data.preparation.records import Records
from pipeline.data.preparation.splits import (
    UNLABELED,
    choose_budget,
    class_priority,
    stratified_share,
    unit_hashes,
)
from pipeline.data.sources.rows import SPLITS
from pipeline.errors import SourceError
from pipeline.params import DataParams

FindCopies = Callable[[Ints, Ints], Ints]


class Side(IntEnum):
    """Where an image goes."""

    LABELED = 0
    UNLABELED = 1
    VALIDATION = 2
    TEST = 3
    DUPLICATE = 4
    CONFLICT = 5
    EXCLUDED = 6  # by a person: none of the classes
    GROUP = 7  # of a group that validation or test images belong to


REASONS = {
    Side.CONFLICT: "conflicting labels",
    Side.EXCLUDED: "a person: none of the classes",
    Side.GROUP: "of a group that is held out",
}


@dataclass(frozen=True)
class Assignment:
    """Where each of N images goes.

    sides: (N,), of Side; copy_of: (N,) the held-out row that shows the same picture, -1 for none;
    one with another label than that row's is kept where its pixels differ.
    """

    sides: Ints
    copy_of: Ints


def assign_sides(
    records: Records, num_strata: int, data: DataParams, seed: int, find_copies: FindCopies
) -> Assignment:
    """Which side each record falls on; num_strata: classes, or 1 where an image has no one class;
    find_copies: of each of some rows one of others that shows the same picture, -1 for none.

    In order: conflicting labels out; test (as the source names it, else of each class its share);
    copies of test images out; the label budget and validation; copies of validation images out of
    the training side. What belongs to a group of which images are held out goes out of training. A
    labelled image beyond the budget becomes unlabelled. Raises SourceError where no image has a
    label, ParameterError for a budget that can't be met.
    """
    if not (records.strata >= 0).any():
        raise SourceError("the source holds no usable labelled images")
    sides = np.full(len(records), Side.UNLABELED, np.int64)
    assigned = Assignment(sides, np.full(len(records), -1, np.int64))
    sides[conflicting(records.digests, records.keys)] = Side.CONFLICT
    test = _test_rows(records, data, seed) & (sides != Side.CONFLICT)
    sides[test] = Side.TEST
    _keep_apart(assigned, records, test, find_copies)
    reachable = np.where(sides == Side.UNLABELED, records.strata, UNLABELED)
    training, validation = _labeled_rows(records, reachable, num_strata, data, seed)
    sides[training], sides[validation] = Side.LABELED, Side.VALIDATION
    _keep_apart(assigned, records, validation, find_copies)
    return assigned


def _test_rows(records: Records, data: DataParams, seed: int) -> Mask:
    named: Mask = records.splits == SPLITS.index("test")
    if named.any():
        return named
    validation = records.splits == SPLITS.index("validation")
    labels = np.where(validation, UNLABELED, records.strata)
    return _share(records, labels, data.test_fraction, seed, "test")


def _labeled_rows(
    records: Records, labels: Ints, num_strata: int, data: DataParams, seed: int
) -> tuple[Mask, Mask]:
    """Masks (training, validation) over all rows; labels: UNLABELED for rows out of reach."""
    validation: Mask = (records.splits == SPLITS.index("validation")) & (labels != UNLABELED)
    within_budget: Mask = labels != UNLABELED
    grouped = bool((records.groups >= 0).any() and not validation.any())
    if data.labels is not None:
        within_budget, of_budget = choose_budget(
            labels,
            _ranks(records, seed, "labels"),
            validation,
            budget=data.labels,
            num_classes=num_strata,
            validation_fraction=0.0 if grouped else data.held_out_fraction,
            priority=class_priority(num_strata, seed),
        )
        if not grouped:
            return within_budget, of_budget
    if not validation.any():
        reached = np.where(within_budget, labels, UNLABELED)
        validation = _share(records, reached, data.held_out_fraction, seed, "validation")
    return within_budget & ~validation, validation


def _share(records: Records, labels: Ints, fraction: float, seed: int, purpose: str) -> Mask:
    """Of each class its share, by the content of an image, or the group that it belongs to."""
    order = _ranks(records, seed, purpose, by_group=True)
    return stratified_share(labels, records.groups, order, fraction)


def _ranks(records: Records, seed: int, purpose: str, *, by_group: bool = False) -> Ints:
    """The place of each labelled row by (hash of its content, or its group's name, and id):
    independent of the source's order; -1 of the others, of which nothing is held out."""
    rows = np.flatnonzero(records.strata >= 0)
    digests, groups = records.contents[rows], records.groups[rows]
    if by_group:
        digests[groups >= 0] = records.group_digests[groups[groups >= 0]]
    low, high = records.id_digests[rows].view(">u8").T
    order = np.lexsort((high, low, unit_hashes(digests, seed, purpose)))
    ranks = np.full(len(records), -1, np.int64)
    ranks[rows[order]] = np.arange(len(rows))
    return ranks


def _keep_apart(
    assigned: Assignment, records: Records, held_out: Mask, find_copies: FindCopies
) -> None:
    """Take copies of the held-out rows, and what is of their groups, out of what is trained on."""
    sides, groups = assigned.sides, records.groups
    training = (sides == Side.LABELED) | (sides == Side.UNLABELED)
    grouped = training & (groups >= 0) & np.isin(groups, groups[held_out])
    sides[grouped] = Side.GROUP
    rows = np.flatnonzero(training & ~grouped)
    copies = find_copies(rows, np.flatnonzero(held_out))
    rows, copies = rows[copies >= 0], copies[copies >= 0]
    assigned.copy_of[rows] = copies
    keys = records.keys[rows]
    sides[rows[(keys == records.keys[copies]) | (keys == UNLABELED)]] = Side.DUPLICATE


NAMES_SHOWN = 5
NO_TEXT = re.compile("[\0\ud800-\udfff]")  # what neither UTF-8 nor HTML can hold


def check_classes(names: Sequence[str]) -> None:
    """Raise SourceError where class names are too few, twice the same, or no text."""
    if len(names) < 2:
        shown = f" ({names[0]!r})" if names else ""
        raise SourceError(f"the source has {len(names)} class(es){shown}; at least 2 are needed")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise SourceError(f"there are two classes named {twice!r}; rename one")
    spelled: dict[str, str] = {}
    for name in names:
        if (other := spelled.setdefault(_spelling(name), name)) != name:
            raise SourceError(
                f"classes {other!r} and {name!r} differ only in case or in how they are written; "
                "make them one"
            )
        if not name.strip() or NO_TEXT.search(name):
            raise SourceError(f"class name {name!r}: must be text, and not empty; rename it")


def _spelling(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()


def check_sides(
    records: Records,
    sides: Ints,
    classes: Sequence[str],
    validation_fraction: float,
    image_classes: bool,
) -> list[str]:
    """Warnings, a line each, of what can be trained but is short; sides: (N,) of Side.

    Raises SourceError for what can't be trained or tested; where an image has one class
    (image_classes), for a class without training images.
    """
    lines = []
    if missing := _missing(records, sides == Side.LABELED, classes):
        if image_classes or not (sides == Side.LABELED).any():
            raise SourceError(
                f"no labelled training image left of {missing}; "
                f"add labelled images, or remove the class"
            )
        lines.append(f"no labelled training image shows {missing}: it can't be learnt")
    if not (sides == Side.TEST).any():
        raise SourceError(
            "no test images, so nothing could be measured; raise data.test_fraction, or add some"
        )
    if not (sides == Side.UNLABELED).any():
        lines.append("no unlabelled images, so only the labels can teach")
    if missing := _missing(records, sides == Side.TEST, classes):
        lines.append(f"no test image of {missing}: its accuracy stays unknown")
    if not validation_fraction:
        return lines
    if not (sides == Side.VALIDATION).any():
        lines.append("no validation images, so choices that need them are off")
    elif missing := _missing(records, sides == Side.VALIDATION, classes):
        lines.append(f"no validation image of {missing}: choices don't heed it")
    return lines


def _missing(records: Records, rows: Mask, classes: Sequence[str]) -> str:
    """The classes that none of these rows shows, a few names as a list; "" for none."""
    shown = records.classes.filter(rows).flatten().to_numpy()
    counts = np.bincount(shown, minlength=len(classes))
    names = [repr(name) for name, count in zip(classes, counts, strict=True) if count == 0]
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
