"""Give every usable image its side: labelled, unlabelled, validation, test, or out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pipeline.data.duplicates import Digests, Ints, Mask, PixelsOf, conflicting, copies_of
from pipeline.data.records import Records
from pipeline.data.sources.rows import SPLITS
from pipeline.data.splits import (
    UNLABELED,
    choose_budget,
    class_priority,
    stratified_share,
    unit_hashes,
)
from pipeline.errors import SourceError
from pipeline.params import DataParams


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
class SplitRules:
    """How prepare splits: the parameters of the same names under `data`, and the seed."""

    num_classes: int
    labels: int | None
    validation_fraction: float
    test_fraction: float
    near_duplicate_distance: float
    seed: int

    @classmethod
    def of(cls, data: DataParams, *, num_classes: int, seed: int) -> SplitRules:
        """The rules that `data` gives; with folds no image is held out for validation."""
        return cls(
            num_classes,
            data.labels,
            data.held_out_fraction,
            data.test_fraction,
            data.near_duplicate_distance,
            seed,
        )


@dataclass(frozen=True)
class Assignment:
    """Where each of N images goes.

    sides: (N,), of Side; copy_of: (N,) the held-out row that shows the same picture, -1 for none;
    one with another label than that row's is kept where its pixels differ.
    """

    sides: Ints
    copy_of: Ints


def assign_sides(records: Records, rules: SplitRules, pixels_of: PixelsOf) -> Assignment:
    """Which side each record falls on; pixels_of: see copies_of.

    In order: conflicting labels out; test (as the source names it, else of each class its share);
    copies of test images out; the label budget and validation; copies of validation images out of
    the training side. What belongs to a group of which images are held out goes out of training. A
    labelled image beyond the budget becomes unlabelled. Raises SourceError where no image has a
    label, ParameterError for a budget that can't be met.
    """
    if not (records.labels >= 0).any():
        raise SourceError("the source holds no usable labelled images")
    sides = np.full(len(records), Side.UNLABELED, np.int64)
    copy_of = np.full(len(records), -1, np.int64)
    sides[conflicting(records.digests, records.labels)] = Side.CONFLICT
    test = _test_rows(records, rules)
    sides[test & (sides != Side.CONFLICT)] = Side.TEST
    _keep_apart(sides, copy_of, records, sides == Side.TEST, rules, pixels_of)
    reachable = np.where(sides == Side.UNLABELED, records.labels, UNLABELED)
    training, validation = _labeled_rows(records, reachable, rules)
    sides[training], sides[validation] = Side.LABELED, Side.VALIDATION
    _keep_apart(sides, copy_of, records, validation, rules, pixels_of)
    return Assignment(sides, copy_of)


def _test_rows(records: Records, rules: SplitRules) -> Mask:
    given: Mask = records.splits == SPLITS.index("test")
    if given.any():
        return given
    validation = records.splits == SPLITS.index("validation")
    labels = np.where(validation, UNLABELED, records.labels)
    order = _ranks(records, _unit_digests(records), rules.seed, "test")
    return stratified_share(labels, records.groups, order, rules.test_fraction)


def _labeled_rows(records: Records, labels: Ints, rules: SplitRules) -> tuple[Mask, Mask]:
    """Masks (training, validation) over all rows; labels: UNLABELED for rows out of reach."""
    given: Mask = (records.splits == SPLITS.index("validation")) & (labels != UNLABELED)
    chosen: Mask = labels != UNLABELED
    if rules.labels is not None:
        grouped = (records.groups >= 0).any() and not given.any()
        chosen, validation = choose_budget(
            labels,
            _ranks(records, records.contents, rules.seed, "labels"),
            given,
            budget=rules.labels,
            num_classes=rules.num_classes,
            validation_fraction=0.0 if grouped else rules.validation_fraction,
            priority=class_priority(rules.num_classes, rules.seed),
        )
        if not grouped:
            return chosen, validation
    validation = given
    if not given.any():
        order = _ranks(records, _unit_digests(records), rules.seed, "validation")
        reached = np.where(chosen, labels, UNLABELED)
        validation = stratified_share(reached, records.groups, order, rules.validation_fraction)
    return chosen & ~validation, validation


def _unit_digests(records: Records) -> Digests:
    """What decides the side: the content of an image, or the name of the group it belongs to."""
    digests = records.contents.copy()
    grouped = records.groups >= 0
    digests[grouped] = records.group_digests[records.groups[grouped]]
    return digests


def _ranks(records: Records, digests: Digests, seed: int, purpose: str) -> Ints:
    """The place of each row by (hash of its digest, id): independent of the source's order."""
    hashes = unit_hashes(digests, seed, purpose)
    low, high = records.id_digests.view(">u8").T
    order = np.lexsort((high, low, hashes))
    ranks = np.empty(len(records), np.int64)
    ranks[order] = np.arange(len(records))
    return ranks


def _keep_apart(
    sides: Ints,
    copy_of: Ints,
    records: Records,
    held_out: Mask,
    rules: SplitRules,
    pixels_of: PixelsOf,
) -> None:
    """Take copies of the held-out rows, and what is of their groups, out of what is trained on."""
    groups, held_rows = records.groups, np.flatnonzero(held_out)
    training = (sides == Side.LABELED) | (sides == Side.UNLABELED)
    sides[training & (groups >= 0) & np.isin(groups, groups[held_out])] = Side.GROUP
    rows = np.flatnonzero((sides == Side.LABELED) | (sides == Side.UNLABELED))
    distance = rules.near_duplicate_distance
    found = copies_of(records.digests, records.thumbnails, rows, held_rows, distance, pixels_of)
    copies = found >= 0
    copy_of[rows[copies]] = found[copies]
    labels, others = records.labels[rows[copies]], records.labels[found[copies]]
    sides[rows[copies][(labels == others) | (labels == UNLABELED)]] = Side.DUPLICATE
