"""Who becomes champion: figures on the images that both have seen, and nothing by chance."""

from __future__ import annotations

import numpy as np

from pipeline.evaluate.promotion import promote, rights_by_content
from pipeline.evaluate.significance import compare


def flags(right: int, images: int, first: int = 0) -> dict[str, bool]:
    return {str(first + number): number < right for number in range(images)}


def test_the_first_is_champion() -> None:
    assert promote(None, {}).moves
    assert promote(None, flags(1, 3)).reason == "the first"


def test_the_decision_is_that_of_the_paired_test() -> None:
    before = np.arange(300) < 250
    for right in range(240, 300, 5):
        after = np.arange(300) < right
        want = compare(before, after, samples=400, interval=0.9, seed=3).verdict == "better"
        champion = {str(k): bool(v) for k, v in enumerate(before)}
        challenger = {str(k): bool(v) for k, v in reversed(list(enumerate(after)))}
        got = promote(champion, challenger, samples=400, interval=0.9, seed=3)
        assert got.moves == want
    assert promote(flags(250, 300), flags(299, 300)).moves
    assert not promote(flags(250, 300), flags(252, 300)).moves


def test_only_shared_images_count() -> None:
    champion = flags(50, 100)  # of the images 90 to 99 it has none right
    assert promote(champion, flags(100, 100, first=90)).moves
    assert "on 10 validation images" in promote(champion, flags(100, 100, first=90)).reason
    assert not promote(champion, flags(100, 100, first=95)).moves  # five images are too few
    assert not promote(flags(0, 5), flags(5, 5, first=5)).moves


def test_images_are_known_by_their_content() -> None:
    named = rights_by_content([b"one", b"two", b"one"], [True, False, True])
    assert sorted(named.values()) == [False, True]
    assert named == rights_by_content([b"two", b"one"], np.array([False, True]))
