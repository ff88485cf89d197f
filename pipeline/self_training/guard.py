"""The guard: look for a step back, and then warn or stop as params.yaml says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.evaluate.guard import (
    SELECTION_REMEDY,
    STUDENT_REMEDY,
    ValidationCounts,
    selection_findings,
    stop_on,
    student_findings,
)
from pipeline.files import stage_json
from pipeline.labels.audit import Audit
from pipeline.params import Params
from pipeline.tasks import open_task


def findings_about_student(params: Params, generation: str, counts: Path) -> list[str]:
    """What speaks against the model of `generation`; nothing where the guard is to ignore it.

    counts: the file of its ValidationCounts.
    """
    guard = params.guard
    if guard.on_regression == "ignore":
        return []
    task, written = open_task(params.task), stage_json(counts)
    try:
        known = ValidationCounts.from_json(dict(written), task)
        return student_findings(task, generation, known, interval=guard.interval, seed=params.seed)
    except (ValueError, TypeError, ArithmeticError):  # also counts that do not add up
        raise DataError(
            f"{counts}: not counts of validation images; selftrain run makes it again"
        ) from None


def check_teacher(params: Params, generation: str, counts: Path) -> list[str]:
    """Findings about the teacher of `generation`; raises RegressionError where they are to stop it.

    counts: the file of the teacher's ValidationCounts.
    """
    teacher = params.generations[generation].teacher
    findings = findings_about_student(params, teacher, counts)
    if findings and params.guard.on_regression == "stop":
        before = params.generations[teacher].teacher
        remedy = f"For a better generation {teacher}: {STUDENT_REMEDY}"
        stop_on(findings, generation=generation, kept=before, remedy=remedy)
    return findings


def check_selection(
    params: Params, generation: str, figures: Audit, classes: Sequence[str], *, unit: str = "image"
) -> list[str]:
    """Findings about a generation's pseudo-labels; raises as check_teacher does.

    unit: what they are counted by, in a sentence.
    """
    guard = params.guard
    if guard.on_regression == "ignore" or not sum(figures.reasons.values()):
        return []
    limits = guard.model_dump(include={"min_coverage", "min_class_images"})
    findings = selection_findings(
        generation, figures.images, figures.coverage, classes, unit=unit, **limits
    )
    if guard.on_regression == "stop":
        teacher = params.generations[generation].teacher
        stop_on(findings, generation=generation, kept=teacher, remedy=SELECTION_REMEDY)
    return findings
