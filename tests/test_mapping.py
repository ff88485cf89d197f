from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pipeline.mapping import EndedError, check_ended, in_threads


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_order_and_few_items_are_taken_early(threads: int) -> None:
    taken = [0]

    def items() -> Iterator[int]:
        for number in range(30):
            taken[0] += 1
            yield number

    for number, square in enumerate(in_threads(threads)(lambda value: value**2, items())):
        assert square == number**2
        assert taken[0] <= number + 1 + 2 * threads


def test_an_error_ends_the_others_in_their_midst() -> None:
    started, ended = threading.Event(), []

    def task(number: int) -> None:
        if number == 0:
            assert started.wait(30)
            raise ValueError("wrong")
        started.set()
        try:
            while True:
                check_ended()
        except EndedError:
            ended.append(number)
            raise

    with pytest.raises(ValueError, match="wrong"):
        list(in_threads(2)(task, range(9)))
    assert 1 in ended
    assert len(ended) <= 2  # the thread of the first may have begun one more


def test_elsewhere_nobody_has_ended() -> None:
    check_ended()
