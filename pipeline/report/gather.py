"""Collect what the stages wrote into the plain values of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.label_issues import read_label_issues
from pipeline.evaluate.result import evaluation_from_json
from pipeline.evaluate.run import ModelResult, load_result
from pipeline.files import stage_json, write_text
from pipeline.params import Params
from pipeline.report.data import GenerationResult, PseudoLabels, ReportData, TrainingCurve
from pipeline.report.figures import confusion_figure, per_class_figure, reliability_figure
from pipeline.runtime.guard import findings_about_student
from pipeline.runtime.layout import Layout
from pipeline.train.history import LOSS_FILE, VALIDATION_FILE, read_curve


def gather_report(layout: Layout, params: Params) -> ReportData:
    """Read everything that the stages of `params` wrote under `layout`; raises DataError."""
    try:
        return _gathered(layout, params)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{layout.root}: what the stages wrote is cut or altered ({error!r}); run dvc repro"
        ) from None


def _gathered(layout: Layout, params: Params) -> ReportData:
    dataset = stage_json(layout.prepared / "dataset.json")
    ensemble = stage_json(layout.ensemble)
    return ReportData(
        dataset=dataset["source"],
        classes=tuple(dataset["classes"]),
        counts=stage_json(layout.metrics("prepare")),
        generations=tuple(_generation(layout, params, key) for key in params.model_keys),
        champion=ensemble["champion"],
        champion_reason=ensemble["champion_reason"],
        ensemble=evaluation_from_json(ensemble["test"]) if ensemble["test"] else None,
        ensemble_weights=ensemble["weights"] if params.ensemble.method == "greedy" else {},
        num_seeds=len(params.seed_keys),
        label_issues=tuple(read_label_issues(layout.label_issues)),
        baseline=Baseline(**stage_json(layout.metrics("baseline"))),
        views=params.evaluate.views,
        interval=params.evaluate.interval,
    )


def write_model_figures(
    folder: Path, generation: str, result: ModelResult, classes: Sequence[str]
) -> list[Path]:
    """Draw one model's confusion, reliability and accuracy by class as SVG files."""
    part = _result_of(generation, result)
    data = ReportData(
        dataset="",
        classes=tuple(classes),
        counts={},
        generations=(part,),
        champion=generation,
        champion_reason="",
    )
    figures = {
        "confusion": confusion_figure,
        "reliability": reliability_figure,
        "per_class": per_class_figure,
    }
    for name, draw in figures.items():
        write_text(folder / f"{name}.svg", draw(data))
    return [folder / f"{name}.svg" for name in figures]


def _generation(layout: Layout, params: Params, key: str) -> GenerationResult:
    audit = None if key == "0" else stage_json(layout.audit(key))
    findings = findings_about_student(layout, params, key)
    return replace(
        _result_of(key, load_result(layout.evaluation(key))),
        pseudo_labels=_pseudo_labels(audit) if audit else None,
        curve=_curve(layout.curves(key)),
        findings=(*(audit["findings"] if audit else ()), *findings),
    )


def _result_of(key: str, result: ModelResult) -> GenerationResult:
    return GenerationResult(
        generation=key,
        test=result.test,
        centre=result.centre,
        validation=result.validation,
        against_teacher=result.against_teacher,
        against_first=result.against_first,
        robustness=result.robustness,
    )


def _pseudo_labels(audit: dict[str, Any]) -> PseudoLabels:
    return PseudoLabels(
        coverage=audit["coverage"],
        class_imbalance=audit["class_imbalance"],
        mean_confidence=audit["mean_confidence"],
        per_class=tuple(audit["images"]),
        accuracy=audit["pseudo_label_accuracy"],
        accuracy_per_class=tuple(audit["accuracy"]),
    )


def _curve(folder: Path) -> TrainingCurve:
    losses, validation = read_curve(folder / LOSS_FILE), read_curve(folder / VALIDATION_FILE)
    return TrainingCurve(
        steps=tuple(int(step) for step in losses["step"]),
        loss_labeled=tuple(losses["loss_labeled"]),
        loss_pseudo=tuple(losses["loss_pseudo"]),
        validation_steps=tuple(int(step) for step in validation["step"]),
        validation_accuracy=tuple(validation["val/accuracy"]),
    )
