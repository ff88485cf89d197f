"""Choose the predictions that become pseudo-labels, and audit the choice."""

from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.data.shards import read_manifest, read_shard
from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import mark_in_use, stored_prefix
from pipeline.files import file_digest, publish_folder, write_json
from pipeline.labels.audit import audit_metrics, selection_table
from pipeline.labels.choice import check_class_names
from pipeline.labels.pseudo_label import (
    in_threads,
    select_pseudo_labels,
    target_shares,
    with_progress,
)
from pipeline.labels.teaching import KEY
from pipeline.params import SelectParams
from pipeline.progress import say
from pipeline.ray.map_shards import in_ray_tasks
from pipeline.report.selection_figures import write_selection_figures
from pipeline.self_training.guard import check_selection, check_teacher
from pipeline.workflow.stage import Stage, result_line, run_stage


def select(stage: Stage) -> None:
    """Write pseudo_labels/, audits/ and metrics/select/ of the stage's generation."""
    layout, key = stage.layout, stage.key
    labeled, predictions = layout.prepared / "labeled", layout.predictions(key)
    truth_file = layout.prepared / "unlabeled_truth.parquet"
    chosen, how = stage.params.selection(key), stage.params.run
    classes = layout.classes
    check_class_names(classes, chosen.class_thresholds)
    storage = open_storage(stage.params.storage.url)
    teacher = stage.params.generations[key].teacher
    findings = check_teacher(stage.params, key, layout.metrics("guard", teacher))
    inputs = layout.digests_of(predictions=predictions) | layout.data_digests("labeled")
    inputs |= {"truth": file_digest(truth_file)}
    parameters = {
        "select": chosen.model_dump(mode="json"),
        "guard": stage.params.guard.model_dump(mode="json"),
    }
    with stage.run(inputs, parameters) as run:
        table = read_shard(truth_file)
        truth = dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))
        out = run.scratch / "pseudo_labels"
        taught = teacher != "0"
        kind = chosen.distribution_alignment
        shares = target_shares(kind, labeled, len(classes), taught=taught)
        rows = [entry.rows for entry in read_manifest(predictions).shards]
        stored = None
        if storage is not None:
            stored = stored_prefix(storage, "pseudo_labels", run.fingerprint)
            mark_in_use(stored)
        with (
            in_ray_tasks(how.select_workers, stored=stored is not None)
            if how.select_workers
            else nullcontext(in_threads(how.select_threads))
        ) as over:
            figures = select_pseudo_labels(
                predictions,
                out,
                classes=classes,
                target_shares=shares,
                truth=truth,
                notes=_teaching(predictions, chosen, taught=taught),
                drop_strangers=chosen.strangers == "drop",
                stored=stored,
                map_shards=with_progress(over, rows, f"{stage.title}: a pass"),
                label_kind=chosen.label_kind,
                temperature=chosen.temperature,
                **chosen.rules,
            )
        about_labels = check_selection(stage.params, key, figures, classes)
        findings += about_labels
        metrics = audit_metrics(figures) | {"guard_findings": len(findings)}
        publish_folder(out, layout.pseudo_labels(key))
        write_json(layout.audit(key), asdict(figures) | {"findings": about_labels})
        write_json(layout.metrics("select", key), metrics)
        run.tracker.metrics(metrics)
        run.tracker.tags({"guard": "; ".join(findings) or "nothing found"})
        run.tracker.artifact(layout.audit(key))
        write_selection_figures(run.scratch / "figures", figures, classes)
        run.tracker.artifact(run.scratch / "figures")
        write_json(run.scratch / "selection.json", selection_table(figures, classes))
        run.tracker.table(run.scratch / "selection.json")
    if findings:
        say(f"{stage.title}: warning: {'; '.join(findings)}")
    right = metrics.get("pseudo_label_accuracy")
    known = f", {right:.2%} right" if right is not None else ""
    result_line(stage, f"{figures.kept} images kept ({figures.coverage:.1%}){known}")


def _teaching(predictions: Path, chosen: SelectParams, *, taught: bool) -> dict[str, Any]:
    """What the manifest says of how predictions become targets, where they were refined."""
    known = read_manifest(predictions).metadata.get(KEY)
    if known is None:
        return {}
    names = ("distribution_alignment", "label_kind", "temperature")
    return {KEY: known | chosen.model_dump(include=set(names)) | {"taught": taught}}


if __name__ == "__main__":
    run_stage("select", select, models="generations")
