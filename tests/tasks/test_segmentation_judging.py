"""Segmentation is judged by mean IoU over images: against slow loops, and where the guard acts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.class_maps import IGNORED, map_probabilities
from pipeline.errors import DataError
from pipeline.evaluate.champion import choose_champion, promote
from pipeline.evaluate.ensemble import greedy_weights, merged
from pipeline.evaluate.guard import NOTHING, ValidationCounts, count_evidence, student_findings
from pipeline.evaluate.result import evaluate, evaluation_from_json, flat_metrics
from pipeline.tasks import open_task
from pipeline.tasks.iou import boundary_f1
from pipeline.tasks.significance import Bootstrap, mcnemar_p_value

TASK = open_task("segmentation")
CLASSES, SIDE = 4, 16
Masks = NDArray[np.uint8]


def truth(images: int, seed: int = 0) -> Masks:
    """Masks of rectangles on class 0, some pixels ignored; the last class is in none."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((images, SIDE, SIDE), np.uint8)
    for mask in masks:
        for label in (1, 2):
            top, left = generator.integers(0, SIDE - 5, 2)
            mask[top : top + 5, left : left + generator.integers(3, 6)] = label
    masks[generator.random(masks.shape) < 0.03] = IGNORED
    return masks


def maps(masks: Masks, wrong: float, seed: int = 1, sure: int = 200) -> Masks:
    """Maps that have a share of the pixels wrong, at random."""
    generator = np.random.default_rng(seed)
    guesses = np.where(masks == IGNORED, 0, masks)
    at = generator.random(masks.shape) < wrong
    guesses = np.where(at, generator.integers(0, CLASSES, masks.shape), guesses).astype(np.uint8)
    planes = [guesses, (guesses + 1) % CLASSES, np.full_like(guesses, sure)]
    return np.stack([*planes, np.full_like(guesses, 255 - sure)], axis=1)


def slow_miou(predicted: Masks, masks: Masks) -> float:
    ious = []
    for label in range(CLASSES):
        both = predictions = true = 0
        for guess, mask in zip(predicted, masks, strict=True):
            known = mask != IGNORED
            both += int(((guess == label) & (mask == label)).sum())
            predictions += int(((guess == label) & known).sum())
            true += int((mask == label).sum())
        if true:
            ious.append(both / (predictions + true - both))
    return float(np.mean(ious))


def test_the_score_is_that_of_a_slow_loop() -> None:
    masks = truth(12)
    predictions = maps(masks, 0.3)
    evidence = TASK.evidence(predictions, masks, CLASSES)
    assert evidence.shape == (12, CLASSES, 3)
    score, per_class = TASK.scores(evidence)
    assert score == pytest.approx(slow_miou(predictions[:, 0], masks))
    assert per_class[3] is None
    assert score == pytest.approx(np.mean([value for value in per_class if value is not None]))
    assert TASK.scores(TASK.evidence(maps(masks, 0), masks, CLASSES)).score == 1


def test_interval_and_comparison_are_those_of_a_slow_bootstrap() -> None:
    masks = truth(15)
    before, after = maps(masks, 0.3, 1), maps(masks, 0.2, 2)
    bootstrap = Bootstrap(samples=50, interval=0.9, seed=3)
    pair = [TASK.evidence(each, masks, CLASSES) for each in (before, after)]
    draws = np.random.default_rng(3).multinomial(15, np.full(15, 1 / 15), size=50)
    scores = []
    for draw in draws:
        rows = np.repeat(np.arange(15), draw)
        scores.append([slow_miou(each[rows, 0], masks[rows]) for each in (before, after)])
    values = np.array(scores)
    low, high = TASK.interval(pair[0], bootstrap)
    assert (low, high) == pytest.approx(np.quantile(values[:, 0], [0.05, 0.95]))
    test = TASK.compare(pair[0], pair[1], bootstrap)
    expected = np.quantile(values[:, 1] - values[:, 0], [0.05, 0.95])
    assert (test.low, test.high) == pytest.approx(expected)
    own = [
        [slow_miou(each[row : row + 1, 0], masks[row : row + 1]) for each in (before, after)]
        for row in range(15)
    ]
    assert test.gained == sum(second > first for first, second in own)
    assert test.lost == sum(second < first for first, second in own)
    assert test.p_value == mcnemar_p_value(test.gained, test.lost)
    assert test == TASK.compare(pair[0], pair[1], bootstrap)
    assert TASK.interval(pair[0][:1], bootstrap) == (0, 1)


def test_images_of_which_all_is_ignored_count_in_no_resample() -> None:
    masks = np.concatenate([truth(2), np.full((30, SIDE, SIDE), IGNORED, np.uint8)])
    bootstrap = Bootstrap(samples=400, interval=0.95)
    for some in (masks[:2], masks):
        evidence = TASK.evidence(maps(some, 0.3), some, CLASSES)
        assert TASK.interval(evidence, bootstrap)[0] > 0.2
        assert not TASK.beats(evidence, evidence)
    nothing = TASK.evidence(maps(masks[2:], 0.2), masks[2:], CLASSES)
    assert TASK.interval(nothing, bootstrap) == (0, 1)
    with pytest.raises(DataError, match="no labelled images"):
        TASK.compare(nothing, nothing, bootstrap)


def test_what_does_not_fit_is_refused() -> None:
    masks = truth(2)
    for predictions, targets in (
        (maps(masks, 0), masks[:1]),
        (maps(masks, 0)[:0], masks[:0]),
        (maps(masks, 0), np.full_like(masks, CLASSES)),
    ):
        with pytest.raises(DataError):
            TASK.evidence(predictions, targets, CLASSES)
    evidence = TASK.evidence(maps(masks, 0), masks, CLASSES)
    with pytest.raises(DataError, match="same images"):
        TASK.compare(evidence, evidence[:1], Bootstrap())


def collapse(images: int, before: float, after: float) -> tuple[ValidationCounts, float]:
    """A student with these shares of wrong pixels against its teacher."""
    masks = truth(images)
    teacher, student = (maps(masks, wrong, seed) for seed, wrong in ((1, before), (2, after)))
    pair = [TASK.evidence(each, masks, CLASSES) for each in (student, teacher)]
    counts = count_evidence(TASK, *pair)
    assert counts.score is not None
    assert counts.teacher_score is not None
    return counts, counts.teacher_score - counts.score


def test_the_guard_finds_a_collapse_and_takes_no_noise_for_one() -> None:
    counts, lost = collapse(120, 0.27, 0.315)
    assert 0.03 < lost < 0.06  # as hard labels lost, 48.5 to 43.7
    (found,) = student_findings(TASK, "2", counts, interval=0.95)
    assert f"generation 2 has a mean IoU {100 * lost:.1f} points lower on 120 " in found
    assert "validation images than its teacher: " in found
    assert " lost, " in found
    assert student_findings(TASK, "2", collapse(120, 0.3, 0.3)[0], interval=0.95) == []
    assert student_findings(TASK, "2", collapse(120, 0.35, 0.3)[0], interval=0.95) == []
    assert student_findings(TASK, "2", collapse(4, 0.1, 0.5)[0], interval=0.95) == []


def test_counts_survive_json_under_the_name_of_the_score() -> None:
    counts, _ = collapse(5, 0.1, 0.2)
    value = counts.to_json(TASK)
    assert value["teacher_miou"] == counts.teacher_score
    assert "difference_error" in value
    assert ValidationCounts.from_json(value, TASK) == counts
    assert set(NOTHING.to_json(open_task("classification"))) == {
        *("images", "accuracy", "teacher_accuracy", "gained", "lost")
    }


def test_the_champion_is_the_latest_unless_another_is_clearly_better() -> None:
    masks = truth(40)
    good, same, bad = (
        TASK.evidence(maps(masks, wrong, seed), masks, CLASSES)
        for seed, wrong in ((1, 0.2), (2, 0.2), (3, 0.4))
    )
    assert choose_champion(TASK, {"0": good, "1": same})[0] == "1"
    champion, reason = choose_champion(TASK, {"0": good, "1": bad})
    assert champion == "0"
    assert reason.startswith("since generation 1 has a mean IoU ")
    assert "points lower on 40 images held out than generation 0" in reason


def test_a_better_model_is_promoted_on_the_images_both_know() -> None:
    masks = truth(40)
    before, after = (
        dict(
            zip(
                map(str, range(40)),
                TASK.evidence_values(TASK.evidence(maps(masks, wrong), masks, CLASSES)),
                strict=True,
            )
        )
        for wrong in (0.4, 0.2)
    )
    assert promote(TASK, before, after).moves
    assert not promote(TASK, after, before).moves
    assert not promote(TASK, dict.fromkeys(before, True), after).moves


def test_an_evaluation_has_the_figures_of_pixels() -> None:
    masks = truth(10)
    test = evaluate(TASK, maps(masks, 0.2), masks, CLASSES)
    assert evaluation_from_json(test.to_json(TASK), TASK) == test
    flat = flat_metrics(TASK, test)
    assert flat["test/miou"] == test.score
    assert flat["test/pixel_accuracy"] == pytest.approx(0.85, abs=0.03)
    assert 0 < flat["test/boundary_f1"] < 1
    assert test.top5 is None
    assert sum(map(sum, test.confusion)) == (masks != IGNORED).sum()


def test_calibration_is_measured_on_a_grid_of_known_pixels() -> None:
    masks = np.zeros((3, 128, 128), np.uint8)
    masks[:, :64] = IGNORED
    log_probs, labels = TASK.classified(maps(masks, 0.1), masks, CLASSES)
    assert log_probs.shape == (3 * 32 * 16, CLASSES)
    assert labels.tolist() == [0] * len(labels)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, rtol=1e-5)


def test_losses_are_those_of_the_known_pixels_and_in_slices_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    masks = truth(5)
    masks[4] = IGNORED
    predictions = maps(masks, 0.3)
    shares = map_probabilities(predictions, CLASSES)
    expected = [
        np.mean([-np.log(p[mask[r, c], r, c]) for r, c in np.argwhere(mask != IGNORED)] or [0])
        for p, mask in zip(shares, masks, strict=True)
    ]
    whole = TASK.losses(predictions, masks, CLASSES)
    np.testing.assert_allclose(whole, expected, rtol=1e-5)
    monkeypatch.setattr("pipeline.data.class_maps.MOST_FLOATS", 1)
    np.testing.assert_array_equal(TASK.losses(predictions, masks, CLASSES), whole)


def test_an_ensemble_is_the_mean_and_greedy_leaves_the_useless_out() -> None:
    masks = truth(20)
    members = {"0": maps(masks, 0.9, 1), "1": maps(masks, 0.2, 2), "2": maps(masks, 0.2, 3)}
    equal = dict.fromkeys(members, 1 / 3)
    together = merged(TASK, members, equal, CLASSES)
    shares = np.mean([map_probabilities(each, CLASSES) for each in members.values()], axis=0)
    own = np.take_along_axis(shares, together[:, :1].astype(np.int64), axis=1)[:, 0]
    np.testing.assert_allclose(own, shares.max(axis=1), rtol=1e-5)  # of equals any
    np.testing.assert_allclose(together[:, 2] / 255, own, atol=0.003)
    weights = greedy_weights(TASK, members, masks, CLASSES, rounds=6)
    assert weights["0"] < 0.2
    with pytest.raises(DataError, match="same images"):
        merged(TASK, {"0": members["0"], "1": members["1"][:3]}, {"0": 0.5, "1": 0.5}, CLASSES)


def test_boundaries_agree_within_a_pixel_and_not_further() -> None:
    masks = np.zeros((1, 32, 32), np.uint8)
    masks[:, :, 16:] = 1
    assert boundary_f1(masks, masks) == 1
    assert boundary_f1(np.roll(masks, 1, axis=2), masks) < 1  # wraps round
    for by, expected in ((1, 1.0), (3, 0.0)):
        moved = np.zeros_like(masks)
        moved[:, :, 16 + by :] = 1
        assert boundary_f1(moved, masks) == expected
    whole = np.zeros_like(masks)
    assert boundary_f1(whole, whole) == 1
    assert boundary_f1(whole, np.full_like(masks, IGNORED)) == 0


def test_classes_are_drawn_over_the_image_and_errors_red() -> None:
    masks = np.array([[[0, 1], [IGNORED, 1]]], np.uint8)
    pixels = np.full((2, 2, 1), 100, np.uint8)
    drawn = TASK.draw(pixels, masks[0], 2)
    assert drawn[1, 0].tolist() == [100, 100, 100]
    assert drawn[0, 1].tolist() == [114, 50, 50]
    guesses = np.zeros((4, 2, 2), np.uint8)
    image, _, _, errors = TASK.tiles(pixels, guesses, masks[0], 2)
    assert (image == 100).all()
    assert errors[0, 1].tolist() == [220, 30, 30]
    assert errors[1, 0].tolist() == [40, 40, 40]
