"""Train generation 0, the first teacher, on the labelled images alone."""

from dataclasses import asdict

from pipeline.evaluate.checkpoints import count_on_validation
from pipeline.files import publish_folder, write_json
from pipeline.models.device import resolve_device
from pipeline.models.spec import model_digest
from pipeline.report.samples import write_samples
from pipeline.runtime.policy import with_found_policy
from pipeline.runtime.ray_kept import start_early
from pipeline.runtime.stage import Stage, result_line, run_stage
from pipeline.runtime.training import distributed_train
from pipeline.train.history import write_curves
from pipeline.train.run import TrainJob
from pipeline.train.transfer import find_source


def train(stage: Stage) -> None:
    """Train the model of the stage's generation; teacher and student are the same code."""
    layout, key, model = stage.layout, stage.key, stage.model
    seed = stage.params.model_seed(model)
    pseudo_labels = None if key == "0" else layout.pseudo_labels(key)
    before = teacher = None
    inputs = layout.data_digests("labeled", "validation")
    if pseudo_labels is not None:
        inputs |= layout.digests_of(pseudo_labels=pseudo_labels)
        inputs |= layout.data_digests("unlabeled")
        before = layout.model(stage.params.generations[key].teacher)
        inputs["teacher"] = teacher = model_digest(before)
    training = with_found_policy(stage.params, layout.policy).training(model)
    transfer = training.transfer
    source = find_source(transfer.source, sha256=transfer.sha256, root=stage.root, teacher=before)
    inputs |= {"transfer": source.digest} if source else {}
    parameters = training.model_dump(mode="json") | {"seed": seed}
    start_early(stage.params, model)
    with stage.run(inputs, parameters) as run:
        finished = run.scratch / "model"
        job = TrainJob(
            prepared=layout.prepared,
            pseudo_labels=pseudo_labels,
            model=finished,
            state=run.scratch,
            generation=model,
            teacher=teacher,
            seed=seed,
            training=training,
            source=source.path if source else None,
            teacher_model=before,
        )
        history = distributed_train(job, run.scratch, run.tracker, stage.title)
        write_curves(layout.curves(model), history)
        publish_folder(finished, layout.model(model))
        counts = count_on_validation(
            layout.model(model),
            before,
            layout.prepared / "validation",
            threads=training.train.threads,
            cache_gib=training.train.cache_gib,
            device=resolve_device(training.train.device).type,
        )
        write_json(layout.metrics("guard", model), asdict(counts))
        run.tracker.model(layout.model(model))
        looks = (layout.classes, training.augment, seed)
        sheets = write_samples(run.scratch, layout.prepared, pseudo_labels, *looks)
        for sheet in sheets:
            run.tracker.artifact(sheet, "figures")
        run.images = history[-1].step * training.train.images_a_step(taught=key != "0")
    last = [point.values for point in history if "loss" in point.values][-1]
    if key == "0":
        last.pop("loss_pseudo", None)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in last.items() if "loss" in name)
    result_line(stage, f"{history[-1].step} steps, {shown}")


if __name__ == "__main__":
    run_stage("train_teacher", train)
