from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ParameterError
from pipeline.labels.choice import (
    check_class_names,
    choose,
    choose_rows,
    fixed_thresholds,
    relative_thresholds,
)
from pipeline.labels.levels import count_levels, levels_of, no_counts
from pipeline.labels.select import Selection
from tests.labels.test_select import Image, image_lists, slow_select, stored, targets, texts

CLASSES = ("cat", "dog", "owl", "emu")


def chosen(images: list[Image], **changes: Any) -> tuple[Selection, list[float]]:
    """The selection among `images`, and the threshold of each class."""
    rules: dict[str, Any] = {
        "confidence_threshold": 0.0,
        "class_thresholds": {},
        "threshold_kind": "fixed",
        "images_per_class": None,
        "fraction_per_class": None,
        "max_repeats": 4,
    }
    labels = np.array([label for label, _, _ in images], np.int32)
    confidences = np.array([confidence for _, confidence, _ in images], np.float32)
    hashes = np.array([tie for _, _, tie in images], np.uint64)
    counts = no_counts(len(CLASSES))
    places, numbers = count_levels(labels, levels_of(np.log(confidences).astype(np.float16)))
    counts.reshape(-1)[places] = numbers
    rules |= changes
    selection = choose_rows(labels, confidences, hashes, classes=CLASSES, **rules)
    return selection, choose(counts, classes=CLASSES, **rules).thresholds.tolist()


def slow_thresholds(
    images: list[Image], common: float, named: dict[str, float], kind: str
) -> list[float]:
    """The threshold of each class, counting one image at a time."""
    base = [named.get(name, common) for name in CLASSES]
    sure = [0] * len(CLASSES)
    for label, confidence, _ in images:
        if np.float32(confidence) >= np.float32(base[label]):
            sure[label] += 1
    if kind == "fixed" or not any(sure):
        return base
    return [
        base[k] if name in named else base[k] * sure[k] / max(sure)
        for k, name in enumerate(CLASSES)
    ]


levels = st.sampled_from([0.0, 0.3, stored(0.5), 0.8, 1.0])


@given(
    image_lists,
    levels,
    st.dictionaries(st.sampled_from(CLASSES), levels, max_size=3),
    st.sampled_from(["fixed", "relative"]),
    targets,
    st.integers(1, 5),
)
def test_it_chooses_what_a_slow_loop_chooses(
    images: list[Image],
    common: float,
    named: dict[str, float],
    kind: str,
    target: int | None,
    max_repeats: int,
) -> None:
    selection, found = chosen(
        images,
        confidence_threshold=common,
        class_thresholds=named,
        threshold_kind=kind,
        images_per_class=target,
        max_repeats=max_repeats,
    )
    thresholds = slow_thresholds(images, common, named, kind)
    np.testing.assert_allclose(found, thresholds, rtol=1e-6)
    repeats, reasons = [0] * len(images), [""] * len(images)
    for k in range(len(CLASSES)):  # each class by itself, with the threshold it came to
        places = [place for place, image in enumerate(images) if image[0] == k]
        of_class = [images[place] for place in places]
        some = slow_select(of_class, found[k], target, max_repeats)
        for place, times, reason in zip(places, *some, strict=True):
            repeats[place], reasons[place] = times, reason
    assert selection.repeats.tolist() == repeats
    assert texts(selection) == reasons


def test_a_class_of_which_little_is_sure_is_held_to_less() -> None:
    num_sure = np.array([10, 5, 0, 0])
    common, own = np.full(4, 0.9, np.float32), np.zeros(4, np.bool_)
    lowered = relative_thresholds(num_sure, common, own)
    np.testing.assert_allclose(lowered, [0.9, 0.45, 0.0, 0.0], rtol=1e-6)
    own[1] = True
    assert relative_thresholds(num_sure, common, own)[1] == np.float32(0.9)


def test_where_nothing_is_sure_relative_thresholds_stay() -> None:
    common = np.full(2, 0.9, np.float32)
    same = relative_thresholds(np.zeros(2, np.int64), common, np.zeros(2, np.bool_))
    assert same.tolist() == common.tolist()


def test_a_named_class_has_its_own_threshold() -> None:
    thresholds = fixed_thresholds(CLASSES, 0.5, {"owl": 0.9, "cat": 0.0})
    np.testing.assert_allclose(thresholds, [0.0, 0.5, 0.9, 0.5])


def test_an_unknown_class_is_refused_with_those_there_are() -> None:
    check_class_names(CLASSES, {"owl": 0.9})
    with pytest.raises(ParameterError) as caught:
        check_class_names(CLASSES, {"owl": 0.9, "owls": 0.9})
    message = str(caught.value)
    assert "select.class_thresholds: no class is named 'owls'" in message
    assert "did you mean 'owl'?" in message
    assert "'cat', 'dog', 'owl', 'emu'" in message
    with pytest.raises(ParameterError, match="…"):
        check_class_names([str(number) for number in range(500)], {"x": 0.5})
