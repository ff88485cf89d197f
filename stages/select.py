"""Choose the predictions that become pseudo-labels, and audit the choice."""

from contextlib import nullcontext
from dataclasses import asdict

from pipeline.data.storage import open_storage
from pipeline.data.stored_shards import stored_prefix
from pipeline.errors import counted
from pipeline.files import file_digest, publish_folder, write_json
from pipeline.labels.audit import audit_metrics, selection_table
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.select import check_class_names
from pipeline.labels.shard_selector import read_truth
from pipeline.mapping import in_threads
from pipeline.progress import say
from pipeline.ray.map_shards import in_ray_tasks
from pipeline.report.selection_figures import write_selection_figures
from pipeline.self_training.guard import check_selection, check_teacher
from pipeline.workflow.stage import Stage, result_line, run_stage


def select(stage: Stage) -> None:
    """Write pseudo_labels/, audits/ and metrics/select/ of the stage's generation."""
    layout, key, workers = stage.layout, stage.key, stage.params.run.select_workers
    truth_file = layout.prepared / "unlabeled_truth.parquet"
    params, classes = stage.params.selection(key), layout.classes
    check_class_names(classes, params)
    storage = open_storage(stage.params.storage.url)
    teacher = stage.params.generations[key].teacher
    findings = check_teacher(stage.params, key, layout.metrics("guard", teacher))
    inputs = layout.digests_of(predictions=layout.predictions(key)) | layout.data_digests("labeled")
    inputs |= {"truth": file_digest(truth_file)}
    sections = {"select": params, "guard": stage.params.guard}
    fingerprint = {name: section.model_dump(mode="json") for name, section in sections.items()}
    with stage.run(inputs, fingerprint) as run:
        stored = storage and stored_prefix(storage, "pseudo_labels", run.fingerprint)
        if stored is not None:
            run.marks.add(stored)
        with (
            in_ray_tasks(workers, stored=stored is not None, title=stage.title, grouped=True)
            if workers
            else nullcontext(in_threads(stage.params.run.select_threads))
        ) as map_items:
            figures = select_pseudo_labels(
                layout.predictions(key),
                run.scratch / "pseudo_labels",
                params,
                task=stage.task,
                classes=classes,
                labeled=layout.prepared / "labeled",
                truth=read_truth(truth_file, stage.task, layout.image_size),
                taught=teacher != "0",
                stored=stored,
                map_items=map_items,
                title=f"{stage.title}: a pass",
            )
        about_labels = check_selection(stage.params, key, figures, classes, unit=stage.task.unit)
        findings += about_labels
        metrics = audit_metrics(figures) | {"guard_findings": len(findings)}
        publish_folder(run.scratch / "pseudo_labels", layout.pseudo_labels(key))
        write_json(layout.audit(key), asdict(figures) | {"findings": about_labels})
        write_json(layout.metrics("select", key), metrics)
        run.tracker.metrics(metrics)
        run.tracker.tags({"guard": "; ".join(findings) or "nothing found"})
        run.tracker.artifact(layout.audit(key))
        write_selection_figures(run.scratch / "figures", figures, classes, stage.task)
        run.tracker.artifact(run.scratch / "figures")
        write_json(run.scratch / "selection.json", selection_table(figures, classes))
        run.tracker.table(run.scratch / "selection.json")
    if findings:
        say(f"{stage.title}: warning: {'; '.join(findings)}")
    right = metrics.get("pseudo_label_accuracy")
    known = f", {right:.2%} right" if right is not None else ""
    result_line(
        stage, f"{counted(figures.kept, stage.task.unit)} kept ({figures.coverage:.1%}){known}"
    )


if __name__ == "__main__":
    run_stage("select", select, models="generations")
