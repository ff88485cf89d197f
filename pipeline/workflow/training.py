"""What the training stages have around their work: a classifier on features, or a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import CheckpointError, counted
from pipeline.evaluate.guard import ValidationCounts
from pipeline.files import publish_folder, write_json
from pipeline.params import Training
from pipeline.train.history import Point, drop_torn_line, history_log, read_history, write_curves
from pipeline.workflow.stage import Run, Stage

if TYPE_CHECKING:
    from pipeline.tracking.tracker import Tracker
    from pipeline.train.run import TrainJob
    from pipeline.train.transfer import Source


def train_head(stage: Stage, run: Run, training: Training) -> str:
    """Write models/, curves/ and metrics/guard/ of the stage's model; returns what it came to."""
    from threadpoolctl import threadpool_limits

    from pipeline.self_training.heads import L2, HeadJob

    layout, key = stage.layout, stage.key
    job = HeadJob(
        prepared=layout.prepared,
        features=layout.body.parent,
        classes=layout.classes,
        generation=stage.model,
        pseudo_labels=None if key == "0" else layout.pseudo_labels(key),
        teacher=None if key == "0" else layout.model(stage.params.generations[key].teacher),
        weight=training.train.unlabeled_weight,
        num_folds=layout.folds,
        seed=stage.params.seed,
    )
    # Sums come out the same wherever as many threads make them.
    with threadpool_limits(training.train.threads):
        fitted = job.fit(run.scratch / "model")
    _publish(stage, run, [], fitted.counts)
    counts, figures = fitted.counts, {L2: fitted.l2}
    shown = f"a classifier on {fitted.num_features} features, l2 {fitted.l2:g}"
    if counts.score is not None:
        figures[f"val/{stage.task.score}"] = counts.score
        by = "out of fold" if fitted.out_of_fold else "on validation"
        shown += f": {counts.score:.1%} of {counted(counts.images, 'image')} {by}"
    run.tracker.metrics(figures)
    return shown


def train_network(stage: Stage, run: Run, training: Training, source: Source | None) -> str:
    """Write the same of a network; source: weights to start from."""
    from pipeline.evaluate.checkpoints import count_on_validation
    from pipeline.models.passes import resolve_device
    from pipeline.train.run import TrainJob

    layout, key, train = stage.layout, stage.key, training.train
    teacher = None if key == "0" else layout.model(stage.params.generations[key].teacher)
    job = TrainJob(
        prepared=layout.prepared,
        pseudo_labels=None if key == "0" else layout.pseudo_labels(key),
        model=run.scratch / "model",
        state=run.scratch,
        generation=stage.model,
        teacher=teacher,
        seed=stage.params.model_seed(stage.model),
        training=training,
        source=source.path if source else None,
        checkpoint_minutes=stage.params.run.checkpoint_minutes,
    )
    history = train_job(job, run.tracker, stage.title)
    counts = count_on_validation(
        job.model,
        teacher,
        layout.prepared / "validation",
        stage.task,
        threads=train.threads,
        device=resolve_device(train.device).type,
    )
    _publish(stage, run, history, counts)
    run.images = history[-1].step * train.images_a_step(taught=key != "0")
    last = [point.values for point in history if "loss" in point.values][-1]
    if key == "0":
        last.pop("loss_pseudo", None)
    shown = ", ".join(f"{name} {value:.4f}" for name, value in last.items() if "loss" in name)
    return f"{history[-1].step} steps, {shown}"


def train_job(job: TrainJob, tracker: Tracker, title: str) -> list[Point]:
    """Train the job's model; returns what it logged, in order of steps.

    In this process, or with `train.workers` over so many of Ray's. A run that was stopped goes on
    from its last saved state; where the model is there already, nothing is trained.
    """
    from pipeline.models.passes import resolve_device
    from pipeline.models.spec import SPEC
    from pipeline.ray.training import check_sync_batchnorm, distributed_train
    from pipeline.train.run import train_model
    from pipeline.train.worker import Worker
    from pipeline.workflow.stop import stop_requested
    from pipeline.workflow.training_progress import following

    train, history = job.training.train, job.state / "history.jsonl"
    drop_torn_line(history)
    with following(history, tracker, title, train), stop_requested() as stop:
        if (job.model / SPEC).exists():
            pass
        elif train.workers:
            distributed_train(job, history, title, stop)
        else:
            device = resolve_device(train.device)
            check_sync_batchnorm(train, device.type)
            with history_log(history) as log:
                train_model(job, Worker(device=device, stop=stop), log)
    if not (points := read_history(history)):
        raise CheckpointError(f"{history}: gone or damaged; train again")
    return points


def _publish(stage: Stage, run: Run, history: Sequence[Point], counts: ValidationCounts) -> None:
    """Put the model in the scratch folder in its place, with its curves and what it is worth."""
    layout, model = stage.layout, stage.model
    publish_folder(run.scratch / "model", layout.model(model))
    write_curves(layout.curves(model), history, stage.task.score)
    write_json(layout.metrics("guard", model), counts.to_json(stage.task))
    run.tracker.model(layout.model(model))
