from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data.distributions import as_stored
from pipeline.labels.choice import choose_rows
from pipeline.labels.select import Reason, Selection, class_target, sharpen, sharpened
from pipeline.labels.ties import tie_breaker
from pipeline.params import SelectParams

Image = tuple[int, float, int]  # label, confidence, tie breaker


def stored(confidence: float) -> float:
    """A confidence as it comes back from a stored prediction."""
    return float(np.exp(np.log(np.float32(confidence)).astype(np.float16).astype(np.float32)))


def chosen(
    images: list[Image],
    *,
    num_classes: int = 3,
    confidence_threshold: float = 0.0,
    images_per_class: int | None = None,
    max_repeats: int = 4,
) -> Selection:
    return choose_rows(
        np.array([label for label, _, _ in images], np.int32),
        np.array([confidence for _, confidence, _ in images], np.float32),
        np.array([tie for _, _, tie in images], np.uint64),
        classes=[str(number) for number in range(num_classes)],
        confidence_threshold=confidence_threshold,
        class_thresholds={},
        threshold_kind="fixed",
        images_per_class=images_per_class,
        fraction_per_class=None,
        max_repeats=max_repeats,
    )


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


def texts(selection: Selection) -> list[str]:
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
thresholds = st.sampled_from([0.0, 0.4, stored(0.5), 0.8, stored(0.9), 1.0])


@given(image_lists, thresholds, targets, st.integers(1, 5))
def test_it_keeps_what_a_slow_loop_keeps(
    images: list[Image], threshold: float, target: int | None, max_repeats: int
) -> None:
    selection = chosen(
        images,
        num_classes=4,
        confidence_threshold=threshold,
        images_per_class=target,
        max_repeats=max_repeats,
    )
    repeats, reasons = slow_select(images, threshold, target, max_repeats)
    assert selection.repeats.tolist() == repeats
    assert texts(selection) == reasons


@given(image_lists, targets, st.randoms(use_true_random=False))
def test_the_order_of_the_images_is_of_no_matter(
    images: list[Image], target: int | None, random: Random
) -> None:
    order = list(range(len(images)))
    random.shuffle(order)
    first = chosen(images, num_classes=4, images_per_class=target)
    second = chosen([images[place] for place in order], num_classes=4, images_per_class=target)
    assert first.repeats[order].tolist() == second.repeats.tolist()
    assert first.reasons[order].tolist() == second.reasons.tolist()


def test_none_is_the_threshold_only_and_it_includes_its_value() -> None:
    images = [(0, 0.9, 0), (0, 0.8, 1), (1, 0.79, 2), (1, 0.95, 3)]
    selection = chosen(images, confidence_threshold=stored(0.8))
    assert selection.repeats.tolist() == [1, 1, 0, 1]
    assert texts(selection) == ["kept", "kept", "below_threshold", "kept"]


def test_threshold_and_target_hold_together() -> None:
    images = [(0, 0.9, 0), (0, 0.95, 1), (0, 0.6, 2), (1, 0.5, 3)]
    selection = chosen(images, confidence_threshold=0.7, images_per_class=1)
    assert selection.repeats.tolist() == [0, 1, 0, 0]
    assert texts(selection) == ["over_class_target", "kept", "below_threshold", "below_threshold"]


def test_of_equal_confidences_the_smaller_hash_is_kept() -> None:
    ties = [2**63 + 1, 5, 2**64 - 1, 2**63]
    selection = chosen([(0, 0.9, tie) for tie in ties], images_per_class=2)
    assert selection.repeats.tolist() == [0, 1, 0, 1]


def test_a_rare_class_is_repeated_surest_first_to_the_target() -> None:
    images = [(0, 0.9, 0), (0, 0.8, 1), (0, 0.7, 2), (1, 0.9, 3), (1, 0.5, 4)]
    selection = chosen(images, images_per_class=5, max_repeats=4)
    assert selection.repeats.tolist() == [2, 2, 1, 3, 2]
    assert texts(selection) == ["kept"] * 5


@pytest.mark.parametrize(("max_repeats", "expected"), [(1, 1), (4, 4), (9, 9), (20, 10)])
def test_a_class_of_one_image_is_repeated_up_to_the_limit(max_repeats: int, expected: int) -> None:
    selection = chosen([(0, 0.9, 0)], images_per_class=10, max_repeats=max_repeats)
    assert selection.repeats.tolist() == [expected]


def test_nothing_to_select_from_is_no_error() -> None:
    assert chosen([], images_per_class=3).repeats.shape == (0,)


def test_the_target_is_a_number_or_a_share_of_an_equal_part() -> None:
    assert class_target(100, 10, 7, 1.0) == 7
    assert class_target(848, 10, None, 0.5) == 42
    assert class_target(848, 10, None, 1.0) == 85
    assert class_target(848, 10, None, 1.5) == 127
    assert class_target(3, 10, None, 0.1) == 1
    assert class_target(100, 10, None, None) is None


def biased(count: int = 300) -> list[Image]:
    """What a biased teacher says of three equal classes: class 0 most often and surest."""
    generator = np.random.default_rng(0)
    images: list[Image] = []
    for place in range(count):
        label = place % 3
        label = 0 if generator.random() < 0.5 else label
        centre = {0: 0.95, 1: 0.7, 2: 0.55}[label]
        confidence = float(np.clip(generator.normal(centre, 0.05), 0.34, 1.0))
        images.append((label, confidence, tie_breaker(f"image_{place}")))
    return images


def counted(images: list[Image], repeats: NDArray[np.int32]) -> list[int]:
    counts: Counter[int] = Counter()
    for (label, _, _), times in zip(images, repeats.tolist(), strict=True):
        counts[label] += times
    return [counts[label] for label in range(3)]


def test_balancing_is_on_by_default_and_works_on_a_biased_teacher() -> None:
    params, images = SelectParams(), biased()
    assert params.fraction_per_class == 1.0
    target = class_target(len(images), 3, params.images_per_class, params.fraction_per_class)
    assert target == 100
    balanced = chosen(
        images,
        confidence_threshold=params.confidence_threshold,
        images_per_class=target,
        max_repeats=params.max_repeats,
    )
    assert counted(images, balanced.repeats) == [100, 100, 100]
    for threshold in (0.0, 0.6):
        alone = counted(images, chosen(images, confidence_threshold=threshold).repeats)
        assert alone[0] > 3 * max(1, alone[2])


def test_sharpening_is_a_power_of_each_probability() -> None:
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]], np.float32)
    powered = probabilities.astype(np.float64) ** 2
    expected = powered / powered.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sharpen(probabilities, 0.5), expected, rtol=1e-5)
    np.testing.assert_allclose(sharpen(probabilities, 1.0), probabilities, rtol=1e-6)
    flat = sharpen(probabilities, 100.0)
    np.testing.assert_allclose(flat, np.full((2, 3), 1 / 3), atol=0.01)


def test_a_small_temperature_gives_a_hard_target_and_no_nan() -> None:
    probabilities = np.full((1, 100), 0.6 / 99, np.float32)
    probabilities[0, 3] = 0.4
    np.testing.assert_allclose(sharpen(probabilities, 0.001), np.eye(100)[[3]], atol=1e-6)


def test_of_many_classes_the_rest_is_sharpened_as_if_each_were_there() -> None:
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.full(400, 0.05), 20) + 1e-9)
    stored_ones = as_stored(log_probs.astype(np.float32))
    for temperature in (0.5, 1.0, 3.0):
        expected = sharpen(np.exp(stored_ones.dense()), temperature)
        found = sharpened(stored_ones, temperature).dense()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
