"""Give every usable image its side: labelled, unlabelled, validation, test, or out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pipeline.data.duplicates import Ints, Mask, conflicting, duplicates_of
from pipeline.data.ingest import Records
from pipeline.data.sources.rows import SPLITS
from pipeline.data.splits import (
    UNLABELED,
    below_threshold,
    choose_budget,
    class_priority,
    unit_hashes,
)


class Side(IntEnum):
    """Where an image goes."""

    LABELED = 0
    UNLABELED = 1
    VALIDATION = 2
    TEST = 3
    DUPLICATE = 4
    CONFLICT = 5
    EXCLUDED = 6  # by a person: none of the classes


@dataclass(frozen=True)
class SplitRules:
    """How prepare splits: the parameters of the same names under `data`, and the seed."""

    num_classes: int
    labels: int | None
    validation_fraction: float
    test_fraction: float
    near_duplicate_distance: float
    seed: int


def assign_sides(records: Records, rules: SplitRules) -> Ints:
    """The Side of each record: (N,) int64.

    In order: conflicting labels out; test (as the source names it, else by hash); copies of test
    images out; the label budget and validation; copies of validation images out of the training
    side. A labelled image beyond the budget becomes unlabelled. Raises ParameterError for a
    budget that can't be met.
    """
    sides = np.full(len(records), Side.UNLABELED, np.int64)
    labels, test = records.labels, _test_rows(records, rules)
    for within in (test, ~test):
        conflicts = conflicting(records.digests, np.where(within, labels, UNLABELED))
        sides[conflicts] = Side.CONFLICT
    sides[test & (sides != Side.CONFLICT)] = Side.TEST
    _drop_copies(sides, records, sides == Side.UNLABELED, sides == Side.TEST, rules)
    reachable = np.where(sides == Side.UNLABELED, labels, UNLABELED)
    training, validation = _labeled_rows(records, reachable, rules)
    sides[training], sides[validation] = Side.LABELED, Side.VALIDATION
    training_side = (sides == Side.LABELED) | (sides == Side.UNLABELED)
    _drop_copies(sides, records, training_side, validation, rules)
    return sides


def _test_rows(records: Records, rules: SplitRules) -> Mask:
    given: Mask = records.splits == SPLITS.index("test")
    if given.any():
        return given
    validation = records.splits == SPLITS.index("validation")
    labels = np.where(validation, UNLABELED, records.labels)
    hashes = unit_hashes(records.digests, rules.seed, "test")
    return below_threshold(hashes, labels, rules.test_fraction)


def _labeled_rows(records: Records, labels: Ints, rules: SplitRules) -> tuple[Mask, Mask]:
    """Masks (training, validation) over all rows; labels: UNLABELED for rows out of reach."""
    given: Mask = (records.splits == SPLITS.index("validation")) & (labels != UNLABELED)
    if rules.labels is not None:
        return choose_budget(
            labels,
            _ranks(records, rules.seed),
            given,
            budget=rules.labels,
            num_classes=rules.num_classes,
            validation_fraction=rules.validation_fraction,
            priority=class_priority(rules.num_classes, rules.seed),
        )
    validation = given
    if not given.any():
        hashes = unit_hashes(records.digests, rules.seed, "validation")
        validation = below_threshold(hashes, labels, rules.validation_fraction)
    return (labels != UNLABELED) & ~validation, validation


def _ranks(records: Records, seed: int) -> Ints:
    """The place of each row by (hash of its content, id): independent of the source's order."""
    hashes = unit_hashes(records.digests, seed, "labels")
    low, high = records.id_digests.view(">u8").T
    order = np.lexsort((high, low, hashes))
    ranks = np.empty(len(records), np.int64)
    ranks[order] = np.arange(len(records))
    return ranks


def _drop_copies(
    sides: Ints, records: Records, candidates: Mask, held_out: Mask, rules: SplitRules
) -> None:
    rows = np.flatnonzero(candidates)
    copies = duplicates_of(
        records.digests,
        records.thumbnails,
        rows,
        np.flatnonzero(held_out),
        rules.near_duplicate_distance,
    )
    sides[rows[copies]] = Side.DUPLICATE
