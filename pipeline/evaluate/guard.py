"""When a generation is a step back, and what to do then; the test images have no say in it.

A finding is one sentence. Findings about a student rest on its validation images and are looked
for before its own student is taught; those about pseudo-labels, before they teach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from pipeline.errors import RegressionError, counted
from pipeline.tasks import Task
from pipeline.tasks.significance import (
    BOOTSTRAP,
    Bootstrap,
    compare_counts,
    compare_scores,
    normal_bounds,
)
from pipeline.tasks.task import Array

MOST_NAMED = 5


@dataclass(frozen=True)
class ValidationCounts:
    """A student and its teacher on the same images, held out or out of fold; scores None without
    any.

    gained, lost: images that speak for the student, for the teacher (PairedTest). Of generation 0,
    which has no teacher, the teacher's figures are None or 0. difference_error: standard error of
    the difference of the scores; None where the images gained and lost say all.
    """

    images: int
    score: float | None
    teacher_score: float | None
    gained: int
    lost: int
    difference_error: float | None = None

    def to_json(self, task: Task) -> dict[str, Any]:
        """As a JSON value, the scores under the task's name for it."""
        value = asdict(self)
        for prefix in ("", "teacher_"):
            value[f"{prefix}{task.score}"] = value.pop(f"{prefix}score")
        if self.difference_error is None:
            del value["difference_error"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any], task: Task) -> ValidationCounts:
        """What to_json made `value` of; raises ValueError for anything else."""
        names = {f"{prefix}{task.score}": f"{prefix}score" for prefix in ("", "teacher_")}
        fields = {names.get(key, key): each for key, each in value.items()}
        return TypeAdapter(cls).validate_python(fields)


NOTHING = ValidationCounts(0, None, None, 0, 0)


def count_evidence(task: Task, student: Array, teacher: Array | None) -> ValidationCounts:
    """Count how the same images, (N, …), N > 0, speak for a student and its teacher, None: none."""
    score = task.scores(student).score
    if teacher is None:
        return ValidationCounts(len(student), score, None, 0, 0)
    test = task.compare(teacher, student, BOOTSTRAP)
    return ValidationCounts(
        images=len(student),
        score=score,
        teacher_score=task.scores(teacher).score,
        gained=test.gained,
        lost=test.lost,
        difference_error=task.difference_error(teacher, student),
    )


def student_findings(
    task: Task, generation: str, counts: ValidationCounts, *, interval: float, seed: int = 0
) -> list[str]:
    """Whether a student is worse than its teacher beyond the interval.

    Worse is what Task.compare says: both the interval of the difference and McNemar's or the sign
    test. With 30 validation images that takes six images lost and none gained; a smaller step back
    is not seen, nor a mere accident taken for one.
    """
    score, before = counts.score, counts.teacher_score
    if score is None or before is None:
        return []
    gained, lost, images = counts.gained, counts.lost, counts.images
    if counts.difference_error is None:
        bootstrap = Bootstrap(interval=interval, seed=seed)
        test = compare_counts(gained, lost, images, bootstrap)
    else:
        bounds = normal_bounds(score - before, counts.difference_error, interval)
        test = compare_scores(score - before, bounds, gained, lost, interval)
    if test.verdict != "worse":
        return []
    behind = task.behind(score, before, images, counted(images, "validation image"))
    return [
        f"generation {generation} {behind} than its teacher: {task.shown(score, images)} against "
        f"{task.shown(before, images)} ({lost} lost, {gained} gained, p = {test.p_value:.2g})"
    ]


def selection_findings(
    generation: str,
    images: Sequence[int],
    coverage: float,
    classes: Sequence[str],
    *,
    min_coverage: float,
    min_class_images: int,
    unit: str = "image",
) -> list[str]:
    """Whether a class has vanished from the pseudo-labels, or too few images are kept.

    images: the units kept of each class, (K,); coverage: share of all that is kept.
    """
    findings = []
    rare = [name for name, count in zip(classes, images, strict=True) if count < min_class_images]
    if rare:
        fewer = "no" if min_class_images == 1 else f"fewer than {min_class_images}"
        more = f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else ""
        findings.append(
            f"generation {generation} has {fewer} pseudo-labels of "
            f"{'class' if len(rare) == 1 else 'classes'} "
            f"{', '.join(map(repr, rare[:MOST_NAMED]))}{more}"
        )
    if coverage < min_coverage:
        findings.append(
            f"generation {generation} has pseudo-labels for {100 * coverage:.1f} % of the {unit}s, "
            f"guard.min_coverage = {min_coverage:g}"
        )
    return findings


STUDENT_REMEDY = "let it be taught less wrongly (select), longer or larger (student)"
SELECTION_REMEDY = (
    "Lower select.confidence_threshold, or try select.threshold_kind = relative or "
    "select.distribution_alignment"
)


def stop_on(findings: Sequence[str], *, generation: str, kept: str, remedy: str) -> None:
    """Raise RegressionError where there are findings, so that `generation` is not taught.

    kept: the generation that stays the best; remedy: which parameters would help.
    """
    if findings:
        raise RegressionError(
            f"{'; '.join(findings)}. Generation {generation} is not taught "
            f"(guard.on_regression = stop); generation {kept} is kept (models/{kept}). {remedy}, "
            f"or take generations.{generation} and later out of params.yaml to end with the report"
        )
