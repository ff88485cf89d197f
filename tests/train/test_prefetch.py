"""Work done ahead comes in order, is one piece ahead, and fails when its turn comes."""

from __future__ import annotations

import threading

import pytest

from pipeline.train.prefetch import prefetched

SECONDS = 20


def test_everything_comes_in_order() -> None:
    assert list(prefetched(lambda key: key * key, range(5))) == [(k, k * k) for k in range(5)]
    assert list(prefetched(lambda key: key, [])) == []


def test_the_next_is_made_while_one_is_used_and_no_more() -> None:
    made: list[int] = []
    third = threading.Event()

    def make(key: int) -> int:
        made.append(key)
        if key == 2:
            third.set()
        return key

    pieces = prefetched(make, range(9))
    assert [next(pieces), next(pieces)] == [(0, 0), (1, 1)]
    assert third.wait(SECONDS)
    assert made == [0, 1, 2]
    pieces.close()


def test_an_error_comes_at_its_turn() -> None:
    def make(key: int) -> int:
        if key == 2:
            raise ValueError("the third")
        return key

    pieces = prefetched(make, range(9))
    assert [next(pieces)[0], next(pieces)[0]] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(pieces)


def test_its_thread_ends_with_it() -> None:
    before = threading.active_count()
    pieces = prefetched(lambda key: key, range(9))
    next(pieces)
    assert threading.active_count() == before + 1
    pieces.close()
    assert threading.active_count() == before
