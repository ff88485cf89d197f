"""Train over several workers of Ray Train, with DDP."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from pipeline.errors import ClusterError, ParameterError, SelftrainError
from pipeline.params import TrainParams
from pipeline.ray.limits import GROUP_FAILURES, RESIZE_CHECKPOINTS
from pipeline.ray.nodes import SharedFolder, has_gpus, say_if_waiting, shared_folder
from pipeline.ray.session import ray_session
from pipeline.train.history import history_log
from pipeline.train.run import TrainJob, train_model
from pipeline.train.state import STATE
from pipeline.train.worker import Worker

STOP = "stop"  # in the folder of the state, while rank 0 is to save it and to go on no further
POLL_SECONDS = 0.5
SAVE_SECONDS = 60.0  # a step and its saving; a scheduler's patience is seldom longer


def distributed_train(
    job: TrainJob, history: Path, title: str, stop: Callable[[], bool] = lambda: False
) -> None:
    """Train the job's model over `train.workers` workers, whose rank 0 writes the checkpoint.

    history: the file to which rank 0 appends what it logs; stop: whether to save and to end, with
    KeyboardInterrupt. A worker that dies is replaced, or with `train.min_workers` the others go on
    alone, from the last saved state. Raises ClusterError where a node can't see `job.state`, and
    ParameterError for synchronised statistics without a GPU.
    """
    train = job.training.train
    with (
        ray_session(train.workers * train.threads, title),
        shared_folder(job.state, "train on one node, with train.workers = 0") as shared,
    ):
        wants_gpu = has_gpus() if train.device == "auto" else train.device == "cuda"
        device = "cuda" if wants_gpu else "cpu"
        check_sync_batchnorm(train, device)
        demand = {"CPU": float(train.threads)}
        if wants_gpu:
            demand["GPU"] = train.gpus_per_worker
        say_if_waiting(title, "a worker", demand)
        config = {"job": job, "history": history, "device": device, "shared": shared}
        try:
            _fit(_trainer(config, demand), job.state, stop)
        finally:
            shutil.rmtree(_node_cache(job.state), ignore_errors=True)


def check_sync_batchnorm(train: TrainParams, device: str) -> None:
    """Raise ParameterError for batch statistics over all workers where torch has none."""
    if train.sync_batchnorm and device == "cpu":
        raise ParameterError(
            "train.sync_batchnorm = True: torch has it for GPUs only, and there is none; "
            "set it to false"
        )


def _trainer(config: dict[str, Any], demand: dict[str, float]) -> Any:
    """Ray's trainer of `_train_worker`; demand: the resources of each worker."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    job: TrainJob = config["job"]
    train = job.training.train
    sizes = train.world_sizes
    scaling: Any = ScalingConfig  # of Ray Train V2, whose types its first version hides
    # NCCL refuses two workers on one GPU.
    shared_gpu = 0 < demand.get("GPU", 0) < 1 and train.workers > 1
    return TorchTrainer(
        _train_worker,
        train_loop_config=config,
        torch_config=TorchConfig(backend="gloo") if shared_gpu else None,
        scaling_config=scaling(
            num_workers=(sizes[0], sizes[-1]) if len(sizes) > 1 else train.workers,
            use_gpu="GPU" in demand,
            resources_per_worker=demand,
            elastic_resize_monitor_interval_s=RESIZE_CHECKPOINTS * job.checkpoint_minutes * 60,
        ),
        run_config=RunConfig(
            name=job.state.name,
            storage_path=str(job.state / "ray"),
            failure_config=FailureConfig(max_failures=GROUP_FAILURES + len(sizes) - 1),
        ),
    )


def _fit(trainer: Any, state: Path, stop: Callable[[], bool]) -> None:
    """Run the trainer until it ends, or `stop` says so and rank 0 has saved the state.

    In a thread of its own, as Ray would take the signals of the main thread. A user's error in a
    worker comes out as itself.
    """
    from ray.train import WorkerGroupError

    stop_file, ended = state / STOP, futures.Future[Any]()
    stop_file.unlink(missing_ok=True)

    def work() -> None:
        try:
            ended.set_result(trainer.fit())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    while not ended.done() and not stop():
        futures.wait([ended], POLL_SECONDS)
    if stop():
        before, until = _version(state / STATE), time.monotonic() + SAVE_SECONDS
        stop_file.touch()
        while not ended.done() and _version(state / STATE) == before and time.monotonic() < until:
            futures.wait([ended], POLL_SECONDS)
        raise KeyboardInterrupt
    try:
        ended.result()
    except WorkerGroupError as error:
        known = (e for e in error.worker_failures.values() if isinstance(e, SelftrainError))
        raise next(known, error) from None


def _version(path: Path) -> tuple[int, int] | None:
    """What differs once a file was replaced, whatever the clock says; None where there is none."""
    status = path.stat() if path.exists() else None
    return status and (status.st_ino, status.st_mtime_ns)


def _train_worker(config: dict[str, Any]) -> None:
    """What each worker of Ray Train runs."""
    import ray.train

    job: TrainJob = config["job"]
    shared: SharedFolder = config["shared"]
    shared.check()
    context = ray.train.get_context()
    worker = Worker(
        context.get_world_rank(),
        context.get_world_size(),
        torch.device(config["device"]),
        stop=(job.state / STOP).exists,
        stopped=_wait_for_the_end,
    )
    if worker.world_size > 1:
        wrap = partial(_data_parallel, sync_batchnorm=job.training.train.sync_batchnorm)
        worker = replace(worker, wrap=wrap, mean=_mean_over_workers)
    cache = _node_cache(job.state)
    with history_log(config["history"], worker.rank) as log:
        train_model(job, worker, log, cache=cache)
    if context.get_local_rank() == 0:
        shutil.rmtree(cache, ignore_errors=True)


def _wait_for_the_end() -> None:
    """Wait for the driver to end this process."""
    threading.Event().wait()


def _node_cache(state: Path) -> Path:
    """Where the workers of a node share decoded images: under the node's temporary folder.

    Raises ClusterError where another user has taken its place.
    """
    above = Path(tempfile.gettempdir()) / f"selftrain-{os.getuid()}"
    above.mkdir(mode=0o700, exist_ok=True)
    if above.stat().st_uid != os.getuid():
        raise ClusterError(f"{above}: belongs to another user; set TMPDIR on the nodes")
    return above / state.name


def _data_parallel(network: nn.Module, *, sync_batchnorm: bool) -> nn.Module:
    """The network, its gradients joined over all workers, and its batch statistics if asked for."""
    if sync_batchnorm:
        import timm.layers

        convert: Any = timm.layers.convert_sync_batchnorm  # type: ignore[attr-defined]
        network = convert(network)
    return nn.parallel.DistributedDataParallel(network)


def _mean_over_workers(values: Tensor) -> Tensor:
    total = values.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
