"""Collect what the stages wrote into the plain values of a report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.data.shards import read_shard
from pipeline.data.sources.rows import reasons
from pipeline.errors import DataError
from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.label_issues import LabelIssue, read_label_issues
from pipeline.evaluate.metrics import correct
from pipeline.evaluate.result import ModelResult, evaluation_from_json, load_result
from pipeline.evaluate.significance import Bootstrap, compare
from pipeline.files import stage_json
from pipeline.labels.select import Reason
from pipeline.models.head import reads_features
from pipeline.models.spec import read_spec
from pipeline.params import Params
from pipeline.params.differences import Difference, nearest_preset
from pipeline.report.data import (
    ControlResult,
    GenerationResult,
    ParameterRow,
    PseudoLabels,
    ReportData,
    TrainingCurve,
    Trial,
)
from pipeline.report.galleries import Gallery
from pipeline.report.gather_galleries import gather_galleries, issue_gallery
from pipeline.train.history import LOSS_FILE, VALIDATION_FILE, read_curve
from pipeline.workflow.guard import findings_about_student
from pipeline.workflow.layout import Layout

COPY = re.compile("a copy of '.*", re.DOTALL)


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
    issues = read_label_issues(layout.label_issues)
    members = {key: weight for key, weight in ensemble["weights"].items() if weight > 0}
    members = members or {ensemble["champion"]: 1.0}
    preset, changed = nearest_preset(params, layout.root) or ("", [])
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
        label_issues=tuple(issues),
        baseline=Baseline(**stage_json(layout.metrics("baseline"))),
        controls=tuple(
            _control(layout, params, key, ensemble["champion"]) for key in params.control_keys
        ),
        trial=_trial(stage_json(layout.metrics("search"))),
        folds=params.data.validation == "folds",
        views=params.evaluate.views,
        interval=params.evaluate.interval,
        galleries=_galleries(layout, params, issues, members, dataset["classes"]),
        preset=preset,
        parameters=tuple(map(parameter_row, changed)),
        unused=tuple(unused_files(layout.quarantine)),
    )


def unused_files(quarantine: Path) -> list[tuple[str, int, str]]:
    """(reason, count, a name) of what prepare could not or would not use."""
    rows = read_shard(quarantine).to_pylist()
    return reasons(
        (row["id"], COPY.sub("a copy of a held-out image", row["reason"])) for row in rows
    )


def _trial(metrics: Mapping[str, float]) -> Trial | None:
    """What metrics/search.json says of a trial of heads and networks, None where there was none."""
    if "folds/images" not in metrics:
        return None
    return Trial(*(int(metrics[f"folds/{name}"]) for name in ("images", "head", "network")))


def _control(layout: Layout, params: Params, key: str, champion: str) -> ControlResult:
    """A control, and the champion beside it."""
    result, chosen = (load_result(layout.evaluation(name)) for name in (key, champion))
    return ControlResult(
        name=key.partition(".")[2],
        steps=params.training(key).train.steps,
        all_steps=params.all_steps,
        like=params.controls[key.partition(".")[2]].like,
        result=_result_of(key, result),
        champion=compare(
            correct(result.test_log_probs, result.test_labels),
            correct(chosen.test_log_probs, chosen.test_labels),
            Bootstrap.of(params.evaluate, params.seed),
        ),
    )


def parameter_row(found: Difference) -> ParameterRow:
    """A parameter that differs, in words."""
    return ParameterRow(found.key, _in_words(found.value), _in_words(found.preset))


def _in_words(value: Any) -> str:
    return "–" if value is None else json.dumps(value, default=str, ensure_ascii=False).strip('"')


def _galleries(
    layout: Layout,
    params: Params,
    issues: Sequence[LabelIssue],
    weights: Mapping[str, float],
    classes: Sequence[str],
) -> tuple[Gallery, ...]:
    """The galleries of unlabelled images, if any generation was taught, and of doubtful labels."""
    found = []
    if params.generations:
        predictions = {key: layout.predictions(key) for key in params.generations}
        last = layout.pseudo_labels(params.model_keys[-1])
        found = gather_galleries(layout.prepared, predictions, last, classes)
    labeled = {key: layout.labeled_predictions(key) for key in weights}
    doubted = issue_gallery(layout.prepared / "labeled", issues, labeled, weights, classes)
    return (*found, doubted) if doubted else tuple(found)


def _generation(layout: Layout, params: Params, key: str) -> GenerationResult:
    audit = None if key == "0" else stage_json(layout.audit(key))
    findings = findings_about_student(layout, params, key)
    return replace(
        _result_of(key, load_result(layout.evaluation(key))),
        pseudo_labels=_pseudo_labels(audit) if audit else None,
        curve=training_curve(layout.curves(key), taught=key != "0"),
        findings=(*(audit["findings"] if audit else ()), *findings),
        body=_body_name(layout.model(key)),
    )


def _body_name(model: Path) -> str | None:
    """The network of the frozen body that a head's model folder is of; None of a network."""
    spec = read_spec(model)
    return str(spec.network["name"]) if reads_features(spec) else None


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
        strangers=audit["strangers"],
        dropped_strangers=audit["reasons"][Reason.STRANGER.text],
        class_shares=tuple(audit["class_shares"]) if audit["class_shares"] else None,
    )


def training_curve(folder: Path, *, taught: bool) -> TrainingCurve:
    """What a training run logged; without pseudo-labels (`taught` false) there is no such loss."""
    losses, validation = read_curve(folder / LOSS_FILE), read_curve(folder / VALIDATION_FILE)
    return TrainingCurve(
        steps=tuple(int(step) for step in losses["step"]),
        loss_labeled=tuple(losses["loss_labeled"]),
        loss_pseudo=tuple(losses["loss_pseudo"]) if taught else (),
        validation_steps=tuple(int(step) for step in validation["step"]),
        validation_accuracy=tuple(validation["val/accuracy"]),
    )
