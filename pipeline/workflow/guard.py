"""The guard at work in a stage: look, and then warn or stop as params.yaml says."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.evaluate.guard import (
    SELECTION_REMEDY,
    STUDENT_REMEDY,
    selection_findings,
    stop_on,
    student_findings,
)
from pipeline.files import stage_json
from pipeline.labels.audit import Audit
from pipeline.params import Params
from pipeline.progress import say
from pipeline.workflow.layout import Layout
from pipeline.workflow.stage import Stage


def findings_about_student(layout: Layout, params: Params, generation: str) -> list[str]:
    """What speaks against the model of `generation`; nothing where the guard is to ignore it."""
    if params.guard.on_regression == "ignore":
        return []
    return student_findings(
        generation,
        stage_json(layout.metrics("guard", generation)),
        interval=params.guard.interval,
        seed=params.seed,
    )


def check_teacher(stage: Stage) -> list[str]:
    """Findings about the stage's teacher; raises RegressionError where they are to stop it."""
    teacher = stage.params.generations[stage.key].teacher
    findings = findings_about_student(stage.layout, stage.params, teacher)
    if findings and stage.params.guard.on_regression == "stop":
        before = stage.params.generations[teacher].teacher
        remedy = f"For a better generation {teacher}: {STUDENT_REMEDY}"
        stop_on(findings, generation=stage.key, kept=before, remedy=remedy)
    return findings


def check_selection(stage: Stage, figures: Audit, classes: Sequence[str]) -> list[str]:
    """Findings about a generation's pseudo-labels; raises as check_teacher does."""
    guard, params = stage.params.guard, stage.params
    if guard.on_regression == "ignore" or not sum(figures.reasons.values()):
        return []
    limits = guard.model_dump(include={"min_coverage", "min_class_images"})
    findings = selection_findings(stage.key, figures.images, figures.coverage, classes, **limits)
    if findings and guard.on_regression == "stop":
        kept = params.generations[stage.key].teacher
        stop_on(findings, generation=stage.key, kept=kept, remedy=SELECTION_REMEDY)
    return findings


def warn(stage: Stage, findings: Sequence[str]) -> None:
    """One line for all findings, if there are any."""
    if findings:
        say(f"{stage.title}: warning: {'; '.join(findings)}")
