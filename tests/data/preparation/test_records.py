from __future__ import annotations

import time
from collections.abc import Iterator

import pyarrow as pa
import pytest

from pipeline.data.preparation.records import (
    NO_SPLIT,
    RECORD_SCHEMA,
    WAITING_BYTES,
    Records,
    check_ids,
    in_order,
    text_digest,
)
from pipeline.errors import SourceError


@pytest.mark.parametrize(("size", "most"), [(1, 40), (WAITING_BYTES // 2, 4)])
def test_what_waits_for_threads_is_bounded_by_its_bytes(size: int, most: int) -> None:
    taken, finished, together = [0], list[int](), list[int]()

    def items() -> Iterator[int]:
        for number in range(40):
            taken[0] += 1
            together.append(taken[0] - len(finished))
            yield number

    def work(numbers: list[int]) -> list[int]:
        time.sleep(0.02)
        finished.extend(numbers)
        return numbers

    groups = in_order(work, items(), 8, lambda number: size)
    assert [number for group in groups for number in group] == list(range(40))
    assert max(together) <= most


def records_of(id_digests: list[bytes]) -> Records:
    """Unlabelled images of these ids."""
    unknown = {"stratum": -1, "key": -1, "classes": [], "split": NO_SPLIT, "group": None}
    rows = [{"id_digest": d, "digest": d, "content": d} | unknown for d in id_digests]
    return Records.of([pa.Table.from_pylist(rows, schema=RECORD_SCHEMA)], [])


def test_ids_whose_digests_begin_alike_are_two() -> None:
    check_ids(records_of([bytes(8) + bytes([number] * 8) for number in range(3)]), ())
    names = ["a", "b", "a"]
    with pytest.raises(SourceError, match="'a': this id comes twice"):
        check_ids(records_of([text_digest(name) for name in names]), names)
