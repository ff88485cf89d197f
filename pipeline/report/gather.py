"""Read what the stages wrote into the plain values of a report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from pipeline.data.shards import read_shard
from pipeline.data.sources.rows import reasons
from pipeline.errors import DataError
from pipeline.evaluate.baseline import Baseline
from pipeline.evaluate.label_issues import LabelIssue, read_label_issues
from pipeline.evaluate.result import ModelResult, evaluation_from_json, load_result
from pipeline.files import plain_name, stage_json
from pipeline.labels.audit import Audit
from pipeline.mapping import MapItems
from pipeline.models.head import reads_features
from pipeline.models.spec import read_spec
from pipeline.params import Params
from pipeline.params.presets import nearest_preset
from pipeline.program import program_file
from pipeline.report.data import ControlResult, Curve, GenerationResult, ReportData
from pipeline.report.galleries import Gallery, issue_gallery, unlabeled_galleries
from pipeline.report.mistakes import find_mistakes
from pipeline.report.taught import taught_galleries
from pipeline.report.worst import worst_images
from pipeline.self_training.guard import findings_about_student
from pipeline.tasks import Task, open_task
from pipeline.tasks.significance import Bootstrap
from pipeline.train.history import LOSS_FILE, VALIDATION_FILE, read_curve
from pipeline.workflow.layout import Layout

LARGE = 32  # pixels, from which on pretrained networks see enough
UNFIT = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(MemoryError, RecursionError, UndefinedError),
)
COPY = re.compile("a copy of '.*", re.DOTALL)


@contextmanager
def as_written(root: Path) -> Iterator[None]:
    """Raise DataError for what the block can't read or show of the outputs under `root`: their
    figures are those of the stages, or somebody else's."""
    try:
        yield
    except UNFIT as error:
        raise DataError(
            f"{root}: what the stages wrote is cut or altered ({error!r}); selftrain run"
        ) from None


def gather_report(layout: Layout, params: Params, map_items: MapItems | None = None) -> ReportData:
    """Read everything that the stages of `params` wrote under `layout`, in a block of as_written;
    raises DataError. map_items: who looks through shards of unlabelled images, else threads here.
    """
    dataset = stage_json(layout.prepared / "dataset.json")
    ensemble = stage_json(layout.ensemble)
    task = open_task(params.task)
    champion = load_result(layout.evaluation(plain_name(ensemble["champion"])), task)
    issues = read_label_issues(layout.label_issues)
    preset, differences = nearest_preset(params, program_file("presets"))
    trial = stage_json(layout.metrics("search"))
    test, classes = layout.prepared / "test", dataset["classes"]
    mistakes, worst, galleries = None, None, list[Gallery]()
    galleries += _unlabeled(layout, params, classes, task, map_items)
    if task.image_classes:
        mistakes = find_mistakes(test, champion.test_predictions, champion.test_targets, classes)
    else:
        worst = worst_images(test, champion, classes, task)
    galleries += _issues(layout, issues, ensemble, classes)
    return ReportData(
        dataset=params.data.title,
        classes=tuple(classes),
        counts=stage_json(layout.metrics("prepare")),
        generations=tuple(_generation(layout, params, task, key) for key in params.model_keys),
        champion=ensemble["champion"],
        champion_reason=ensemble["champion_reason"],
        ensemble=evaluation_from_json(ensemble["test"], task) if ensemble["test"] else None,
        ensemble_weights=ensemble["weights"] if params.ensemble.method == "greedy" else {},
        num_seeds=len(params.seed_keys),
        label_issues=tuple(issues),
        baseline=Baseline(**stage_json(layout.metrics("baseline"))) if task.image_classes else None,
        controls=tuple(_control(layout, params, task, name, champion) for name in params.controls),
        trial={name: int(trial[f"folds/{name}"]) for name in ("images", "head", "network")}
        if "folds/images" in trial
        else None,
        folds=params.data.validation == "folds",
        views=champion.views,
        interval=params.evaluate.interval,
        galleries=tuple(galleries),
        preset=preset,
        parameters=tuple(differences),
        unused=tuple(unused_files(layout.quarantine)),
        from_scratch=_from_scratch(params),
        mistakes=mistakes,
        task=task,
        worst=worst,
    )


def _from_scratch(params: Params) -> bool:
    """Whether no model starts from weights, though the images are coloured and not small."""
    sources = [params.embed.source, params.transfer.source, params.teacher.transfer.get("source")]
    large = params.data.channels == 3 and params.data.image_size >= LARGE
    return large and not any(sources)


def _generation(layout: Layout, params: Params, task: Task, key: str) -> GenerationResult:
    spec, curves = read_spec(layout.model(key)), layout.curves(key)
    audit = {"findings": []} if key == "0" else stage_json(layout.audit(key))
    findings = audit.pop("findings")
    return _result(
        key,
        load_result(layout.evaluation(key), task),
        pseudo_labels=Audit(**audit) if audit else None,
        losses=_curve(curves / LOSS_FILE),
        validations=_curve(curves / VALIDATION_FILE),
        findings=(*findings, *findings_about_student(params, key, layout.metrics("guard", key))),
        body=str(spec.network["name"]) if reads_features(spec) else None,
    )


def _control(
    layout: Layout, params: Params, task: Task, name: str, champion: ModelResult
) -> ControlResult:
    """A control, and the champion beside it."""
    key, control = f"0.{name}", params.controls[name]
    result = load_result(layout.evaluation(key), task)
    bootstrap = Bootstrap.of(params.evaluate, params.seed)
    test = task.compare(result.test_evidence(task), champion.test_evidence(task), bootstrap)
    return ControlResult(
        name, control.steps, params.all_steps, _result(key, result), test, control.like
    )


def _result(key: str, result: ModelResult, **others: Any) -> GenerationResult:
    shown = ("test", "centre", "validation", "against_teacher", "against_first", "robustness")
    return GenerationResult(key, **{name: getattr(result, name) for name in shown}, **others)


def _curve(path: Path) -> Curve:
    """The columns of a curve, {} of one without any step."""
    columns = read_curve(path)
    return columns if columns["step"] else {}


def _unlabeled(
    layout: Layout,
    params: Params,
    classes: Sequence[str],
    task: Task,
    map_items: MapItems | None,
) -> list[Gallery]:
    if not params.generations:
        return []
    unlabeled, last = layout.prepared / "unlabeled", layout.pseudo_labels(params.model_keys[-1])
    if not task.image_classes:
        return taught_galleries(unlabeled, last, classes, task)
    predictions = [layout.predictions(key) for key in params.generations]
    return unlabeled_galleries(unlabeled, predictions, last, classes, map_items)


def _issues(
    layout: Layout, issues: Sequence[LabelIssue], ensemble: Any, classes: Sequence[str]
) -> list[Gallery]:
    weights = {key: weight for key, weight in ensemble["weights"].items() if weight > 0}
    weights = weights or {ensemble["champion"]: 1.0}
    predictions = {key: layout.labeled_predictions(plain_name(key)) for key in weights}
    return issue_gallery(layout.prepared / "labeled", issues, predictions, weights, classes)


def unused_files(quarantine: Path) -> list[tuple[str, int, str]]:
    """(reason, count, a name) of what prepare could not or would not use."""
    rows = read_shard(quarantine).to_pylist()
    return reasons(
        (row["id"], COPY.sub("a copy of a held-out image", row["reason"])) for row in rows
    )
