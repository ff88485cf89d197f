"""Scenes: no digit on two sides, the same for a seed, masks that fit."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from pipeline.data.images import decode_stored
from pipeline.data.sources.digit_scenes import SCENES, SIDE, DigitScenesSource


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_no_digit_is_on_two_sides_or_in_two_validation_scenes(seed: int) -> None:
    source = DigitScenesSource(seed)
    used = {
        split: Counter(d for n in range(count) for d in source.digits_of(split, n).tolist())
        for split, count in SCENES.items()
    }
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not used[one].keys() & used[other].keys()
    assert max(used["validation"].values()) == 1
    assert len(used["train"]) > 600


def test_scenes_show_two_to_five_digits_with_their_masks() -> None:
    rows = list(islice(DigitScenesSource(0).rows(), 60))
    seen = set[int]()
    for row in rows:
        scene, mask = decode_stored(row.image), decode_stored(row.label.data)[:, :, 0]
        assert scene.shape == (SIDE, SIDE, 1)
        assert mask.shape == (SIDE, SIDE)
        classes = {*np.unique(mask).tolist()} - {0}
        assert 1 <= len(classes) <= 5
        inside, outside = scene[:, :, 0][mask > 0], scene[:, :, 0][mask == 0]
        assert inside.mean() > outside.mean() + 20
        seen |= classes
    assert seen == set(range(1, 11))


def test_a_seed_gives_the_same_scenes_and_another_others() -> None:
    first, again, other = (list(islice(DigitScenesSource(n).rows(), 5)) for n in (0, 0, 1))
    assert first == again
    assert all(one.image != two.image for one, two in zip(first, other, strict=True))
    assert len(DigitScenesSource(0)) == sum(SCENES.values())
