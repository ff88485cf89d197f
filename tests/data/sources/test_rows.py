from __future__ import annotations

import pytest

from pipeline.data.sources.rows import batches


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([1, 1, 1, 1, 1], [[1, 1, 1], [1, 1]]),
        ([4, 6, 1], [[4, 6], [1]]),
        ([99, 1, 99], [[99], [1, 99]]),
        ([0, 0, 0, 10], [[0, 0, 0], [10]]),
    ],
)
def test_batches_are_bounded_by_number_and_by_bytes(
    sizes: list[int], expected: list[list[int]]
) -> None:
    assert list(batches(sizes, 3, 10, lambda size: size)) == expected
