"""Arrays that take no memory: the same numbers, wherever they lie."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import memory


@pytest.mark.parametrize("small", [1 << 26, 100, 0])
def test_parts_are_joined_in_memory_or_on_disk(monkeypatch: pytest.MonkeyPatch, small: int) -> None:
    monkeypatch.setattr(memory, "SMALL_ARRAY", small)
    whole = np.arange(90, dtype=np.float32).reshape(30, 3)
    parts = (whole[start : start + 7] for start in range(0, 30, 7))
    result = memory.joined(parts)
    assert np.array_equal(result, whole)
    assert result.dtype == whole.dtype
    assert isinstance(result.base, np.memmap) == (small < whole.nbytes)
    result[0] = -1  # as an array of the caller's own
    assert whole[0, 0] == 0


def test_parts_that_lie_otherwise_in_memory_are_joined_as_they_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "SMALL_ARRAY", 0)
    whole = np.arange(24, dtype=np.int64).reshape(4, 6).T
    empty = np.empty((0, 4), np.int64)
    assert np.array_equal(memory.joined([empty, whole[:2], empty, whole[2:, ::1]]), whole)
