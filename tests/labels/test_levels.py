import numpy as np

from pipeline.labels.levels import NO_LEVEL, count_levels, level_confidences, levels_of


def test_levels_are_ordered_as_the_confidences_are() -> None:
    bits = np.arange(0x8000, 0xFC00, dtype=np.uint16)  # every finite number from -0 downwards
    log_probs = bits.view(np.float16)
    levels = levels_of(log_probs)
    expected = np.exp(log_probs.astype(np.float32))
    np.testing.assert_array_equal(level_confidences()[levels], expected)
    assert (np.diff(level_confidences()) < 0).all()


def test_what_is_no_number_has_no_level_and_a_rounding_above_0_is_0() -> None:
    values = np.array([np.nan, -np.inf, np.inf, 6e-8, 0.0, -0.0], np.float16)
    levels = levels_of(values)
    assert levels.tolist() == [NO_LEVEL, NO_LEVEL, 0, 0, 0, 0]


def test_each_class_and_level_is_counted() -> None:
    places, counts = count_levels(
        np.array([0, 1, 1, 0, 1], np.int32), np.array([5, 0, 0, 5, 7], np.uint16)
    )
    width = len(level_confidences())
    assert places.tolist() == [5, width, width + 7]
    assert counts.tolist() == [2, 2, 1]
