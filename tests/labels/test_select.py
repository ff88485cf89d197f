from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data.distributions import stored_confidences
from pipeline.errors import ParameterError
from pipeline.labels.select import (
    Candidates,
    Reason,
    check_class_names,
    class_thresholds,
    find_cuts,
    id_hashes,
    select,
)
from pipeline.params import SelectParams
from pipeline.tasks.classification import TASK
from pipeline.tasks.task import Choice

Image = tuple[int, float, int]  # label, confidence, hash
CLASSES = ("cat", "dog", "owl", "emu")


def stored(confidence: float) -> float:
    """A confidence as it comes back from a stored prediction."""
    return float(np.exp(np.log(np.float32(confidence)).astype(np.float16).astype(np.float32)))


def candidates_of(images: list[Image]) -> Candidates:
    """Images to select from, none of them a stranger."""
    return Candidates(
        np.array([label for label, _, _ in images], np.int32),
        np.array([confidence for _, confidence, _ in images], np.float32),
        np.array([number for _, _, number in images], np.uint64),
        np.zeros(len(images), np.bool_),
    )


def params_of(**changes: Any) -> SelectParams:
    """Without a target of classes where none is given."""
    return SelectParams(**{"fraction_per_class": None} | changes)


def chosen(images: list[Image], classes: tuple[str, ...] = CLASSES, **changes: Any) -> Choice:
    candidates = candidates_of(images)
    return select(candidates, find_cuts(candidates, classes, params_of(**changes), TASK))


def slow_select(
    images: list[Image], threshold: float, target: int | None, max_repeats: int
) -> tuple[list[int], list[str]]:
    """Hand out one more count at a time, to the surest images of a class first."""
    repeats = [0] * len(images)
    reasons = ["below_threshold"] * len(images)
    for label in {label for label, _, _ in images}:
        sure = [
            place
            for place, image in enumerate(images)
            if image[0] == label and np.float32(image[1]) >= np.float32(threshold)
        ]
        sure.sort(key=lambda place: (-np.float32(images[place][1]), images[place][2]))
        kept = sure if target is None else sure[:target]
        for place in sure:
            reasons[place] = "kept" if place in kept else "over_class_target"
        left = len(kept) if target is None else target
        for _ in range(1 if target is None else max_repeats):
            for place in kept:
                if left > 0:
                    repeats[place] += 1
                    left -= 1
    return repeats, reasons


def texts(selection: Choice) -> list[str]:
    return [Reason(code).text for code in selection.reasons.tolist()]


# Few different confidences, so that many are equal; tie breakers are all different.
image_lists = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([stored(value) for value in (0.25, 0.5, 0.5, 0.75, 0.9, 1.0)]),
        st.integers(0, 2**64 - 1),
    ),
    max_size=40,
    unique_by=lambda image: image[2],
)
targets = st.none() | st.integers(1, 12)


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


levels = st.sampled_from([0.0, 0.3, stored(0.5), 0.8, stored(0.9), 1.0])


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
    candidates = candidates_of(images)
    params = params_of(
        confidence_threshold=common,
        class_thresholds=named,
        threshold_kind=kind,
        images_per_class=target,
        max_repeats=max_repeats,
    )
    cuts = find_cuts(candidates, CLASSES, params, TASK)
    selection, found = select(candidates, cuts), cuts.thresholds.tolist()
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


@given(image_lists, targets, st.randoms(use_true_random=False))
def test_the_order_of_the_images_is_of_no_matter(
    images: list[Image], target: int | None, random: Random
) -> None:
    order = list(range(len(images)))
    random.shuffle(order)
    first = chosen(images, images_per_class=target)
    second = chosen([images[place] for place in order], images_per_class=target)
    assert first.repeats[order].tolist() == second.repeats.tolist()
    assert first.reasons[order].tolist() == second.reasons.tolist()


def test_none_is_the_threshold_only_and_it_includes_its_value() -> None:
    images = [(0, 0.9, 0), (0, 0.8, 1), (1, 0.79, 2), (1, 0.95, 3)]
    selection = chosen(images, confidence_threshold=stored(0.8))
    assert selection.repeats.tolist() == [1, 1, 0, 1]
    assert texts(selection) == ["kept", "kept", "below_threshold", "kept"]


def test_of_equal_confidences_the_smaller_hash_is_kept() -> None:
    ties = [2**63 + 1, 5, 2**64 - 1, 2**63]
    selection = chosen([(0, 0.9, tie) for tie in ties], images_per_class=2)
    assert selection.repeats.tolist() == [0, 1, 0, 1]


def test_a_rare_class_is_repeated_surest_first_to_the_target() -> None:
    images = [(0, 0.9, 0), (0, 0.8, 1), (0, 0.7, 2), (1, 0.9, 3), (1, 0.5, 4)]
    selection = chosen(images, images_per_class=5, max_repeats=4)
    assert selection.repeats.tolist() == [2, 2, 1, 3, 2]
    assert texts(selection) == ["kept"] * 5


def test_nothing_to_select_from_is_no_error() -> None:
    assert chosen([], images_per_class=3).repeats.shape == (0,)


@pytest.mark.parametrize(
    ("images", "number", "fraction", "target"),
    [
        (100, 7, 1.0, 7),
        (848, None, 0.5, 42),
        (848, None, 1.0, 85),
        (848, None, 1.5, 127),
        (3, None, 0.1, 1),
        (100, None, None, None),
    ],
)
def test_the_target_is_a_number_or_a_share_of_an_equal_part(
    images: int, number: int | None, fraction: float | None, target: int | None
) -> None:
    params = SelectParams(images_per_class=number, fraction_per_class=fraction)
    counts = np.bincount(np.arange(images) % 7, minlength=10)
    found = TASK.class_targets(counts, params)
    assert (None if found is None else found.tolist()) == (target and [target] * 10)


def biased(count: int = 300) -> list[Image]:
    """What a biased teacher says of three equal classes: class 0 most often and surest."""
    generator = np.random.default_rng(0)
    images: list[Image] = []
    for place in range(count):
        label = place % 3
        label = 0 if generator.random() < 0.5 else label
        centre = {0: 0.95, 1: 0.7, 2: 0.55}[label]
        confidence = float(np.clip(generator.normal(centre, 0.05), 0.34, 1.0))
        images.append((label, confidence, int(id_hashes([f"image_{place}"])[0])))
    return images


def counted(images: list[Image], repeats: NDArray[np.int32]) -> list[int]:
    counts: Counter[int] = Counter()
    for (label, _, _), times in zip(images, repeats.tolist(), strict=True):
        counts[label] += times
    return [counts[label] for label in range(3)]


def test_balancing_is_on_by_default_and_works_on_a_biased_teacher() -> None:
    images, candidates = biased(), candidates_of(biased())
    balanced = select(candidates, find_cuts(candidates, CLASSES[:3], SelectParams(), TASK))
    assert counted(images, balanced.repeats) == [100, 100, 100]
    for threshold in (0.0, 0.6):
        alone = counted(images, chosen(images, confidence_threshold=threshold).repeats)
        assert alone[0] > 3 * max(1, alone[2])


def thresholds_of(num_sure: list[int], own: dict[str, float]) -> list[float]:
    """Relative thresholds where so many images of each class are sure; three more are not."""
    images = [(k, 0.95, 0) for k, count in enumerate(num_sure) for _ in range(count)]
    images += [(k, 0.3, 0) for k in (0, 1, 3)]
    params = params_of(confidence_threshold=0.9, class_thresholds=own, threshold_kind="relative")
    return list(class_thresholds(candidates_of(images), CLASSES, params))


def test_a_class_of_which_little_is_sure_is_held_to_less() -> None:
    assert thresholds_of([10, 5, 0, 0], {}) == pytest.approx([0.9, 0.45, 0.0, 0.0])
    assert thresholds_of([10, 5, 0, 0], {"dog": 0.9})[1] == pytest.approx(0.9)
    assert thresholds_of([0, 0, 0, 0], {}) == pytest.approx([0.9] * 4)  # nothing to go by


def test_a_named_class_has_its_own_threshold() -> None:
    params = params_of(confidence_threshold=0.5, class_thresholds={"owl": 0.9, "cat": 0.0})
    found = class_thresholds(candidates_of([]), CLASSES, params)
    assert found.tolist() == pytest.approx([0.0, 0.5, 0.9, 0.5])


def test_an_unknown_class_is_refused_with_those_there_are() -> None:
    check_class_names(CLASSES, SelectParams(class_thresholds={"owl": 0.9}))
    with pytest.raises(ParameterError) as caught:
        check_class_names(CLASSES, SelectParams(class_thresholds={"owl": 0.9, "owls": 0.9}))
    message = str(caught.value)
    assert "select.class_thresholds: no class is named 'owls'" in message
    assert "did you mean 'owl'?" in message
    assert "'cat', 'dog', 'owl', 'emu'" in message
    names = [str(number) for number in range(500)]
    with pytest.raises(ParameterError, match="…"):
        check_class_names(names, SelectParams(class_thresholds={"x": 0.5}))


def test_confidences_are_in_the_precision_of_stored_ones() -> None:
    logs = np.array([6e-8, 0.0, -0.0, -0.1234567, -np.inf, np.nan], np.float32)
    expected = [1.0, 1.0, 1.0, stored(np.exp(np.float32(-0.1234567))), 0.0, np.nan]
    np.testing.assert_array_equal(stored_confidences(logs), np.array(expected, np.float32))


def test_a_hash_is_of_the_id_alone_and_spread_evenly() -> None:
    names = ["", "a", "grün", "folder/image.png"]
    assert id_hashes(names).tolist() == [int(id_hashes([name])[0]) for name in names]
    hashes = id_hashes(str(number) for number in range(4000))
    assert abs((hashes < 2**63).mean() - 0.5) < 0.05
