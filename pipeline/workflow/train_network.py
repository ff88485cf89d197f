"""A network trained on images: the work of a training stage."""

from __future__ import annotations

from dataclasses import asdict

from pipeline.evaluate.checkpoints import count_on_validation
from pipeline.files import publish_folder, write_json
from pipeline.models.passes import resolve_device
from pipeline.models.spec import SPEC
from pipeline.params import Training
from pipeline.ray.training import check_sync_batchnorm, distributed_train
from pipeline.tracking.tracker import Tracker
from pipeline.train.history import (
    Point,
    drop_torn_line,
    history_log,
    read_history,
    write_curves,
)
from pipeline.train.run import TrainJob, train_model
from pipeline.train.transfer import Source
from pipeline.train.worker import Worker
from pipeline.workflow.stage import Run, Stage
from pipeline.workflow.stop import stop_is_a_wish
from pipeline.workflow.training_progress import following


def train_network(
    stage: Stage, run: Run, training: Training, *, teacher: str | None, source: Source | None
) -> str:
    """Write models/, curves/ and metrics/guard/ of the stage's model; returns what it came to.

    teacher: the digest of its teacher, None for generation 0; source: weights to start from.
    """
    layout, key, model = stage.layout, stage.key, stage.model
    pseudo_labels = None if key == "0" else layout.pseudo_labels(key)
    before = None if key == "0" else layout.model(stage.params.generations[key].teacher)
    finished = run.scratch / "model"
    job = TrainJob(
        prepared=layout.prepared,
        pseudo_labels=pseudo_labels,
        model=finished,
        state=run.scratch,
        generation=model,
        teacher=teacher,
        seed=stage.params.model_seed(model),
        training=training,
        source=source.path if source else None,
        teacher_model=before,
        checkpoint_minutes=stage.params.run.checkpoint_minutes,
    )
    history = train_job(job, run.tracker, stage.title)
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
    run.images = history[-1].step * training.train.images_a_step(taught=key != "0")
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
    train, history = job.training.train, job.state / "history.jsonl"
    drop_torn_line(history)
    with following(history, tracker, title, train), stop_is_a_wish() as stop:
        if (job.model / SPEC).exists():
            pass
        elif train.workers:
            distributed_train(job, history, title, stop)
        else:
            device = resolve_device(train.device)
            check_sync_batchnorm(train, device.type)
            with history_log(history) as log:
                train_model(job, Worker(device=device, stop=stop), log)
    return read_history(history)
