"""Train through Ray Train: in the stage's own process, or spread over workers with DDP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor, distributed, nn

from pipeline.errors import SelftrainError
from pipeline.models.device import resolve_device
from pipeline.params import Training, TrainParams
from pipeline.progress import progress
from pipeline.runtime.quiet import quiet_ray
from pipeline.runtime.ray_session import ray_session
from pipeline.runtime.tracking import Tracker
from pipeline.train.batch import Worker
from pipeline.train.history import Point, read_history
from pipeline.train.run import TrainJob, train_model

POLL_SECONDS = 0.5
MAX_FAILURES = 2


def distributed_train(job: TrainJob, scratch: Path, tracker: Tracker, title: str) -> list[Point]:
    """Train the job's model through Ray Train; returns what it logged, in order of steps.

    `train.workers` 0: in this process; N: over N Ray workers, whose rank 0 writes the checkpoint.
    A worker that dies is replaced and training goes on from the last saved state.
    """
    quiet_ray()
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    train = job.training.train
    history = scratch / "history.jsonl"
    trainer = TorchTrainer(
        _worker_loop,
        train_loop_config={"job": _plain(job), "history": str(history)},
        scaling_config=ScalingConfig(
            num_workers=train.workers,
            use_gpu=resolve_device(train.device).type == "cuda",
            resources_per_worker={"CPU": train.threads} if train.workers else None,
        ),
        run_config=RunConfig(
            name=scratch.name,
            storage_path=str((scratch / "ray").resolve()),
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
        ),
    )
    _keep_whole_lines(history)
    cpus = train.workers * train.threads
    session = ray_session(cpus) if train.workers else nullcontext()
    with session, _following(history, tracker, title, train):
        _unwrapped_fit(trainer)
    return read_history(history)


def _keep_whole_lines(history: Path) -> None:
    """Cut the torn last line that a killed run has left, so that nothing is appended to it."""
    if history.exists():
        whole, newline, _ = history.read_bytes().rpartition(b"\n")
        history.write_bytes(whole + newline)


def _unwrapped_fit(trainer: Any) -> None:
    """Run the trainer; a user's error in a worker comes out as itself."""
    from ray.train.base_trainer import TrainingFailedError

    try:
        trainer.fit()
    except TrainingFailedError as error:
        for cause in getattr(error, "worker_failures", {}).values():
            if isinstance(cause, SelftrainError):
                raise cause from None
        raise


def _worker_loop(config: dict[str, Any]) -> None:
    """What each Ray worker runs."""
    import ray.train

    context = ray.train.get_context()
    job = _job_of(config["job"])
    rank, world_size = context.get_world_rank(), context.get_world_size()
    device = resolve_device(job.training.train.device)
    worker = Worker(rank, world_size, device)
    if world_size > 1:
        worker = Worker(rank, world_size, device, _data_parallel, _mean_over_workers)
    history = Path(config["history"])
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a", encoding="utf-8", buffering=1) as file:

        def log(step: int, values: dict[str, float]) -> None:
            if rank == 0:
                file.write(json.dumps({"step": step, "values": values}) + "\n")

        train_model(job, worker, log)


def _data_parallel(network: nn.Module) -> nn.Module:
    return nn.parallel.DistributedDataParallel(network)


def _mean_over_workers(values: Tensor) -> Tensor:
    total = values.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def _plain(job: TrainJob) -> dict[str, Any]:
    values = {key: str(v) if isinstance(v, Path) else v for key, v in vars(job).items()}
    return values | {"training": job.training.model_dump(mode="json")}


def _job_of(values: dict[str, Any]) -> TrainJob:
    paths = {
        key: Path(values[key]) if values[key] is not None else None
        for key in ("prepared", "pseudo_labels", "model", "state", "teacher_model", "source")
    }
    training = Training.model_validate(values["training"], strict=False)
    return TrainJob(**(values | paths | {"training": training}))


@contextmanager
def _following(history: Path, tracker: Tracker, title: str, train: TrainParams) -> Iterator[None]:
    """Show and track what rank 0 appends to `history` while the block trains."""
    ended = threading.Event()
    with progress(title, train.steps, "steps") as advance:
        follower = threading.Thread(
            target=_follow, args=(history, ended, tracker, advance), daemon=True
        )
        follower.start()
        try:
            yield
        finally:
            ended.set()
            follower.join()


def _follow(history: Path, ended: threading.Event, tracker: Tracker, advance: Any) -> None:
    offset = shown = 0
    last = False
    while not last:
        last = ended.wait(POLL_SECONDS)
        if not history.exists():
            continue
        with history.open("rb") as file:
            file.seek(offset)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            continue
        offset += len(whole) + 1
        for line in whole.splitlines():
            point = json.loads(line)
            tracker.metrics(point["values"], point["step"])
            if point["step"] > shown:
                advance(point["step"] - shown, _note(point["values"]))
                shown = point["step"]


def _note(values: dict[str, float]) -> str:
    return f"loss {values['loss']:.3f}" if "loss" in values else ""
