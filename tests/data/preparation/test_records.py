from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pipeline.data.preparation.records import WAITING_BYTES, in_order


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
