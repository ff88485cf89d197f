import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.labels.select import Cuts
from pipeline.labels.ties import expected_window, in_window, last_taken, tie_breaker, tie_breakers


def cuts_of(taken: int, tied: int) -> Cuts:
    """Of one class, of which so many are tied and taken."""
    one = np.ones(1, np.int64)
    return Cuts(one, one, np.array([taken]), np.array([tied]), one, 0 * one, one, one)


@given(st.integers(2, 3000), st.data())
def test_the_last_image_taken_lies_where_it_is_expected(count: int, data: st.DataObject) -> None:
    taken = data.draw(st.integers(1, count - 1))
    hashes = tie_breakers(f"{count}_{place}" for place in range(count))
    cuts = cuts_of(taken, count)
    labels, places = np.zeros(count, np.int32), np.arange(count)
    part = in_window(labels, hashes, places, expected_window(cuts))
    last = last_taken([part], cuts)
    assert last is not None
    assert last.hashes[0] == np.sort(hashes)[taken - 1]
    assert last.takes(labels, hashes, places).sum() == taken


def test_of_many_tied_images_only_those_near_the_last_are_held() -> None:
    count = 200_000
    hashes = np.random.default_rng(0).integers(0, 2**64 - 1, count, np.uint64)
    cuts = cuts_of(count // 2, count)
    part = in_window(np.zeros(count, np.int32), hashes, np.arange(count), expected_window(cuts))
    assert len(part.hashes) < count / 50
    last = last_taken([part], cuts)
    assert last is not None
    assert last.hashes[0] == np.sort(hashes)[count // 2 - 1]


def test_many_hashes_are_each_as_one() -> None:
    names = ["", "a", "grün", "folder/image.png"]
    assert tie_breakers(names).tolist() == [tie_breaker(name) for name in names]
