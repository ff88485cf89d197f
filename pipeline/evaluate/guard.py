"""When a generation is a step back, and what to do then; the test images have no say in it.

A finding is one sentence. Findings about a student rest on its validation images and are looked
for before its own student is taught; those about pseudo-labels, before they teach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RegressionError, counted
from pipeline.tasks.metrics import Flags
from pipeline.tasks.significance import Bootstrap, compare_counts

MOST_NAMED = 5


@dataclass(frozen=True)
class ValidationCounts:
    """A student and its teacher on the same images, held out or out of fold; accuracies None
    without any.

    gained, lost: images that only the student, only the teacher has right. Of generation 0, which
    has no teacher, the teacher's figures are None or 0.
    """

    images: int
    accuracy: float | None
    teacher_accuracy: float | None
    gained: int
    lost: int


def count_right(student: Flags, teacher: Flags | None) -> ValidationCounts:
    """Count what a student and its teacher, None for none, have right of the same images, (N,)."""
    if not len(student):
        return ValidationCounts(0, None, None, 0, 0)
    accuracy = float(student.mean())
    if teacher is None:
        return ValidationCounts(len(student), accuracy, None, 0, 0)
    return ValidationCounts(
        images=len(student),
        accuracy=accuracy,
        teacher_accuracy=float(teacher.mean()),
        gained=int((student & ~teacher).sum()),
        lost=int((teacher & ~student).sum()),
    )


def student_findings(
    generation: str, counts: Mapping[str, Any], *, interval: float, seed: int = 0
) -> list[str]:
    """Whether a student is worse than its teacher beyond the interval.

    counts: the fields of ValidationCounts, as in metrics/guard/. Worse is what `compare` says:
    both the bootstrap and McNemar's test. With 30 validation images that takes six images lost
    and none gained; a smaller step back is not seen, nor a mere accident taken for one.
    """
    if counts["teacher_accuracy"] is None:
        return []
    bootstrap = Bootstrap(interval=interval, seed=seed)
    test = compare_counts(counts["gained"], counts["lost"], counts["images"], bootstrap)
    if test.verdict != "worse":
        return []
    images, fewer = counts["images"], counts["lost"] - counts["gained"]
    right, before = (round(images * counts[name]) for name in ("accuracy", "teacher_accuracy"))
    return [
        f"generation {generation} is right on {fewer} fewer of "
        f"{counted(images, 'validation image')} than its teacher: {right} against {before} "
        f"({counts['lost']} lost, {counts['gained']} gained, p = {test.p_value:.2g})"
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
