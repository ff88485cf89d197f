from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pipeline.errors import RegressionError
from pipeline.evaluate.guard import (
    NOTHING,
    ValidationCounts,
    selection_findings,
    stop_on,
    student_findings,
)
from pipeline.tasks import open_task

TASK = open_task("classification")


def counts(gained: int, lost: int, images: int = 100, teacher: float = 0.9) -> ValidationCounts:
    return ValidationCounts(
        images=images,
        score=teacher + (gained - lost) / images,
        teacher_score=teacher,
        gained=gained,
        lost=lost,
    )


def test_a_student_that_is_worse_beyond_the_interval_is_found_and_no_other() -> None:
    (found,) = student_findings(TASK, "2", counts(1, 20), interval=0.95)
    assert "generation 2 is right on 19 fewer of 100 validation images than its teacher" in found
    assert "than its teacher: 71 against 90 (20 lost, 1 gained, p = " in found
    for gained, lost in ((20, 1), (0, 0), (4, 7), (0, 4)):
        assert student_findings(TASK, "2", counts(gained, lost), interval=0.95) == []


def test_the_interval_decides() -> None:
    assert student_findings(TASK, "1", counts(2, 9), interval=0.9)
    assert not student_findings(TASK, "1", counts(2, 9), interval=0.95)


def test_thirty_images_need_six_lost_and_none_gained() -> None:
    assert student_findings(TASK, "1", counts(0, 6, images=30), interval=0.95)
    assert not student_findings(TASK, "1", counts(0, 5, images=30), interval=0.95)


def test_generation_0_and_no_validation_images_give_nothing_to_find() -> None:
    judged = replace(NOTHING, images=9, score=0.5)
    assert student_findings(TASK, "0", judged, interval=0.95) == []
    assert student_findings(TASK, "1", NOTHING, interval=0.95) == []


def found(images: Sequence[int], coverage: float = 0.5, **limits: Any) -> list[str]:
    classes = [f"c{number}" for number in range(len(images))]
    options = {"min_coverage": 0.0, "min_class_images": 1} | limits
    return selection_findings("2", images, coverage, classes, **options)


def test_a_class_that_vanishes_is_found_by_name() -> None:
    assert found([3, 1, 2]) == []
    (one,) = found([3, 0, 2])
    assert "class 'c1'" in one
    (several,) = found([0] * 9)
    assert "'c4' and 4 more" in several
    assert found([3, 0, 2], min_class_images=0) == []
    (rare,) = found([9, 4, 5], min_class_images=5)
    assert "generation 2 has fewer than 5 pseudo-labels of class 'c1'" in rare


def test_coverage_under_its_floor_is_found() -> None:
    assert found([1], coverage=0.3, min_coverage=0.3) == []
    (low,) = found([1], coverage=0.299, min_coverage=0.3)
    assert "generation 2 has pseudo-labels for 29.9 %" in low
    assert "guard.min_coverage = 0.3" in low


def test_a_stop_is_one_line_that_says_what_is_kept_and_what_would_help() -> None:
    stop_on([], generation="2", kept="0", remedy="x")
    with pytest.raises(RegressionError) as caught:
        stop_on(["seen", "seen too"], generation="2", kept="0", remedy="Lower it")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("seen; seen too", "Generation 2 is not taught", "models/0", "Lower it"):
        assert part in message
    assert caught.value.exit_code == 1
