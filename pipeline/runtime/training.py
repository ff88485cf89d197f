"""Train in the stage's own process, or spread over Ray Train's workers with DDP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from pipeline.data.tensors import DATASET_FILE
from pipeline.errors import ParameterError, SelftrainError
from pipeline.models.device import resolve_device
from pipeline.models.spec import SPEC
from pipeline.params import Training, TrainParams
from pipeline.progress import say
from pipeline.runtime.home import Home, at_home, blind_nodes, node_folder
from pipeline.runtime.quiet import quiet_ray
from pipeline.runtime.ray_session import has_gpus, ray_session, unmet_demand
from pipeline.runtime.stop import stop_is_a_wish
from pipeline.runtime.stop_workers import StopFiles, fit_or_stop
from pipeline.runtime.training_progress import following
from pipeline.tracking.tracker import Tracker
from pipeline.train.fit import Log
from pipeline.train.history import Point, read_history
from pipeline.train.run import TrainJob, train_model
from pipeline.train.state import STATE
from pipeline.train.worker import Worker

MAX_FAILURES = 2
RESIZE_CHECKPOINTS = 4  # a larger group starts from the last state: at most a quarter is lost


def distributed_train(job: TrainJob, scratch: Path, tracker: Tracker, title: str) -> list[Point]:
    """Train the job's model; returns what it logged, in order of steps.

    `train.workers` 0: in this process, without Ray; N: over N workers of Ray Train, whose rank 0
    writes the checkpoint. A worker that dies is replaced, or with `train.min_workers` done without,
    and training goes on from the last saved state; where the model is there already, nothing is
    trained. Raises ParameterError for synchronised statistics without a GPU.
    """
    scratch, train = scratch.resolve(), job.training.train
    history = scratch / "history.jsonl"
    _keep_whole_lines(history)
    if (job.model / SPEC).exists():
        with following(history, tracker, title, train):
            return read_history(history)
    if train.workers:
        _train_over_workers(job, history, tracker, title)
    else:
        with following(history, tracker, title, train), stop_is_a_wish() as wish:
            worker = Worker(device=torch.device(_device(train)), stop=wish)
            with _logging(history, Home(), worker.rank) as log:
                train_model(job, worker, log)
    return read_history(history)


def _train_over_workers(job: TrainJob, history: Path, tracker: Tracker, title: str) -> None:
    quiet_ray()
    scratch, train = history.parent, job.training.train
    with ray_session(train.workers * train.threads), at_home(scratch) as home:
        device = _device(train)
        _announce(train, home, device, title)
        how = {"job": _plain(job), "history": str(history), "home": home, "device": device}
        resize = RESIZE_CHECKPOINTS * job.checkpoint_minutes * 60
        trainer = _trainer(how, train, scratch, device, resize)
        with following(history, tracker, title, train), stop_is_a_wish() as wish:
            fit_or_stop(lambda: _unwrapped_fit(trainer), scratch, wish)


def _device(train: TrainParams) -> str:
    """What the parameter `device` means: of this process, or of a cluster's workers."""
    if train.workers and train.device == "auto":
        device = "cuda" if has_gpus() else "cpu"
    else:
        device = resolve_device(train.device).type
    if train.sync_batchnorm and device == "cpu":
        raise ParameterError(
            "train.sync_batchnorm = True: torch has it for GPUs only, and there is none; "
            "set it to false"
        )
    return device


def _announce(train: TrainParams, home: Home, device: str, title: str) -> None:
    """Say what makes the work slow, or wait, before it begins."""
    gpus = train.gpus_per_worker if device == "cuda" else 0.0
    if missing := unmet_demand({"CPU": train.threads, "GPU": gpus}):
        say(f"{title}: no node has {missing} for a worker; waiting until the cluster has one")
    if blind := blind_nodes(home):
        say(
            f"{title}: {', '.join(blind)} can't see {home.token_file.parent}; what they train on "
            "and the state they save travel through this machine"
        )


def _trainer(
    how: dict[str, Any], train: TrainParams, scratch: Path, device: str, resize_seconds: float
) -> Any:
    """Ray's trainer of `_worker_loop` with `how`, which may grow once in `resize_seconds`."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    scaling: Any = ScalingConfig  # of Ray Train V2, whose types its first version hides
    use_gpu = device == "cuda"
    resources = {"CPU": float(train.threads)} | ({"GPU": train.gpus_per_worker} if use_gpu else {})
    sizes = train.world_sizes
    elastic = len(sizes) > 1
    # NCCL refuses two workers on one GPU.
    shared_gpu = use_gpu and train.gpus_per_worker < 1 and train.workers > 1
    return TorchTrainer(
        _worker_loop,
        train_loop_config=how,
        torch_config=TorchConfig(backend="gloo") if shared_gpu else None,
        scaling_config=scaling(
            num_workers=(sizes[0], sizes[-1]) if elastic else train.workers,
            use_gpu=use_gpu,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=resize_seconds,
        ),
        run_config=RunConfig(
            name=scratch.name,
            storage_path=str(scratch / "ray"),
            failure_config=FailureConfig(max_failures=MAX_FAILURES + len(sizes) - 1),
        ),
    )


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
    home: Home = config["home"]
    rank, world_size = context.get_world_rank(), context.get_world_size()
    there = _job_of(config["job"])
    job = there if home.here else _copied(there, home, rank)
    train = job.training.train
    worker = Worker(rank, world_size, torch.device(config["device"]))
    if world_size > 1:
        wrap = _synchronised if train.sync_batchnorm else _data_parallel
        worker = replace(worker, wrap=wrap, mean=_mean_over_workers)
    if not home.here:
        worker = replace(
            worker, saved=lambda folder: home.give(folder / STATE, there.state / STATE)
        )
    wish = StopFiles(there.state, home)
    worker = replace(worker, stop=wish, stopped=wish.wait_for_end)
    with _logging(Path(config["history"]), home, rank) as log:
        train_model(job, worker, log, cache=node_folder() / "decoded")
    if rank == 0 and not home.here:
        home.give(job.model, there.model)


def _copied(job: TrainJob, home: Home, rank: int) -> TrainJob:
    """The job with what it reads copied to this node, and a folder here for what it writes."""
    needed = [DATASET_FILE, "labeled", "validation"]
    needed += ["unlabeled"] if job.pseudo_labels is not None else []
    own = node_folder() / f"rank-{rank}"
    shutil.rmtree(own, ignore_errors=True)
    home.fetch(job.state / STATE, own / STATE)
    return replace(
        job,
        prepared=home.folder(job.prepared, needed),
        pseudo_labels=home.folder(job.pseudo_labels) if job.pseudo_labels else None,
        teacher_model=home.folder(job.teacher_model) if job.teacher_model else None,
        source=home.folder(job.source) if job.source else None,
        model=own / "model",
        state=own,
    )


@contextmanager
def _logging(history: Path, home: Home, rank: int) -> Iterator[Log]:
    """A log that appends to the driver's `history`; of other ranks than 0 one that drops all."""
    with ExitStack() as stack:
        if rank:
            write: Callable[[str], Any] = lambda line: None  # noqa: E731
        elif home.here:
            history.parent.mkdir(parents=True, exist_ok=True)
            write = stack.enter_context(history.open("a", encoding="utf-8", buffering=1)).write
        else:
            write = partial(home.append, history)

        def log(step: int, values: dict[str, float]) -> None:
            write(json.dumps({"step": step, "values": values}) + "\n")

        yield log


def _synchronised(network: nn.Module) -> nn.Module:
    """The network with batch statistics over all workers, and their gradients joined."""
    import timm.layers

    convert: Any = timm.layers.convert_sync_batchnorm  # type: ignore[attr-defined]
    return _data_parallel(convert(network))


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
