"""Choose the predictions that become pseudo-labels, and audit the choice."""

from dataclasses import asdict

from pipeline.data.shards import read_shard
from pipeline.files import file_digest, replace_folder, write_json
from pipeline.labels.audit import audit_metrics
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.runtime.stage import Stage, result_line, run_stage


def select(stage: Stage) -> None:
    """Write pseudo_labels/, audits/ and metrics/select/ of the stage's generation."""
    layout, key = stage.layout, stage.key
    predictions = layout.predictions(key)
    truth_file = layout.prepared / "unlabeled_truth.parquet"
    selection = stage.params.selection(key)
    inputs = layout.digests_of(predictions=predictions) | {"truth": file_digest(truth_file)}
    with stage.run(inputs, {"select": selection.model_dump(mode="json")}) as run:
        table = read_shard(truth_file)
        truth = dict(zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True))
        out = run.scratch / "pseudo_labels"
        figures = select_pseudo_labels(predictions, out, truth=truth, **selection.model_dump())
        metrics = audit_metrics(figures)
        replace_folder(out, layout.pseudo_labels(key))
        write_json(layout.audit(key), asdict(figures))
        write_json(layout.metrics("select", key), metrics)
        run.tracker.metrics(metrics)
        run.tracker.artifact(layout.audit(key))
    right = metrics.get("pseudo_label_accuracy")
    known = f", {right:.2%} right" if right is not None else ""
    result_line(stage, f"{figures.kept} images kept ({figures.coverage:.1%}){known}")


if __name__ == "__main__":
    run_stage("select", select, per_generation=True)
