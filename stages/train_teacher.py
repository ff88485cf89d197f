"""Train generation 0, the first teacher, on the labelled images alone."""

from pipeline.models.spec import model_digest
from pipeline.self_training.choices import with_choices
from pipeline.workflow.stage import Stage, result_line, run_stage
from pipeline.workflow.training import train_head, train_network


def train(stage: Stage) -> None:
    """Train the model of the stage's generation; teacher and student are the same code."""
    layout, key, model = stage.layout, stage.key, stage.model
    training = with_choices(stage.params, layout.choices).training(model)
    inputs = layout.data_digests("labeled", "validation")
    before = None
    if key != "0":
        inputs |= layout.digests_of(pseudo_labels=layout.pseudo_labels(key))
        inputs |= layout.data_digests("unlabeled")
        before = layout.model(stage.params.generations[key].teacher)
        inputs["teacher"] = model_digest(before)
    parameters = training.model_dump(mode="json") | {"seed": stage.params.model_seed(model)}
    if training.transfer.mode == "head":
        inputs |= {"body": model_digest(layout.body)}
        inputs |= layout.digests_of(
            **{f"features.{part}": layout.features(part) for part in ("labeled", "validation")}
        )
        with stage.run(inputs, parameters) as run:
            shown = train_head(stage, run, training)
    else:
        from pipeline.report.samples import write_samples
        from pipeline.tasks import open_task
        from pipeline.train.transfer import find_source

        transfer = training.transfer
        source = find_source(
            transfer.source, sha256=transfer.sha256, root=stage.root, teacher=before
        )
        inputs |= {"transfer": source.digest} if source else {}
        with stage.run(inputs, parameters) as run:
            shown = train_network(stage, run, training, source)
            pseudo_labels = None if key == "0" else layout.pseudo_labels(key)
            task = open_task(stage.params.task)
            drawn_by = (layout.classes, training.augment, stage.params.model_seed(model), task)
            for sheet in write_samples(run.scratch, layout.prepared, pseudo_labels, *drawn_by):
                run.tracker.artifact(sheet, "figures")
    result_line(stage, shown)


if __name__ == "__main__":
    run_stage("train_teacher", train)
