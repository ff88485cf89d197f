from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.distributions import as_stored, sharpen, sharpened
from pipeline.data.shards import Manifest
from pipeline.errors import DataError
from pipeline.labels.align import aligned, alignment_shift
from pipeline.labels.propagate import combine_with_neighbors
from pipeline.labels.teaching import (
    KEY,
    Teaching,
    read_teaching,
    targets_of_teacher,
)
from pipeline.params import PropagationParams

Floats = NDArray[np.float32]
LABELS = np.array([0, 0, 1, 2, 2, 2])


def features(rows: int, seed: int) -> Floats:
    return np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)


def predictions(rows: int) -> Floats:
    logits = np.random.default_rng(9).normal(size=(rows, 3)).astype(np.float32)
    normalised: Floats = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return normalised


def taught(teaching: Teaching, log_probs: Floats) -> Floats:
    return targets_of_teacher(
        log_probs,
        teaching,
        features=features(len(log_probs), 1),
        labeled_features=features(len(LABELS), 2),
        labels=LABELS,
    )


def test_without_anything_targets_are_the_predictions() -> None:
    log_probs = predictions(20)
    np.testing.assert_allclose(taught(Teaching(), log_probs), np.exp(log_probs), rtol=1e-5)


def test_hard_targets_are_the_likeliest_classes() -> None:
    log_probs = predictions(20)
    found = taught(Teaching(label_kind="hard"), log_probs)
    np.testing.assert_array_equal(found, np.eye(3)[log_probs.argmax(axis=1)])


def test_neighbours_alignment_and_temperature_come_in_this_order() -> None:
    log_probs, how = predictions(40), PropagationParams(num_neighbors=4)
    teaching = Teaching(how, "labeled", "soft", 0.5)
    shares = np.array([2, 1, 3]) / 6
    said = combine_with_neighbors(log_probs, features(6, 2), LABELS, features(40, 1), how)
    moved = np.exp(aligned(said, alignment_shift(said, shares))).astype(np.float64) ** 2
    expected = moved / moved.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(taught(teaching, log_probs), expected, atol=1e-5)


def test_what_a_manifest_notes_comes_back_and_without_it_select_is_to_run_again() -> None:
    teaching = Teaching(PropagationParams(num_neighbors=4), "estimated", "hard", 2.0)
    assert read_teaching(Path("folder"), Manifest(0, (), teaching.noted())) == teaching
    with pytest.raises(DataError, match="run select again"):
        read_teaching(Path("folder"), Manifest(0, ()))
    for change in ({"temperature": 0}, {"temperature": "1"}, {"taught": 1}, {"x": 1}):
        noted = {KEY: teaching.noted()[KEY] | change}
        with pytest.raises(DataError, match="run select again"):
            read_teaching(Path("folder"), Manifest(0, (), noted))


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
