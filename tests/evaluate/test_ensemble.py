import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.evaluate.ensemble import add_member, average_log_probs


def members(count: int = 3) -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    return [
        np.log(generator.dirichlet(np.ones(4), size=6)).astype(np.float32) for _ in range(count)
    ]


def test_average_is_the_mean_of_probabilities() -> None:
    parts = members()
    expected = np.log(np.mean([np.exp(part) for part in parts], axis=0))
    np.testing.assert_allclose(average_log_probs(parts), expected, rtol=1e-5)


def test_growing_one_by_one_gives_the_same() -> None:
    parts = members(4)
    grown = parts[0]
    for count, part in enumerate(parts[1:], start=1):
        grown = add_member(grown, count, part)
    np.testing.assert_array_equal(grown, average_log_probs(parts))
    assert grown.dtype == np.float32


def test_one_member_is_itself() -> None:
    np.testing.assert_array_equal(average_log_probs(members(1)), members(1)[0])


def test_members_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        average_log_probs([])
    with pytest.raises(DataError, match="same images and classes"):
        average_log_probs([np.zeros((2, 3)), np.zeros((3, 3))])
