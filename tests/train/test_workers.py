"""Workers that share a batch have the gradients of one that has it all: real processes, gloo.

The network's batch normalisation keeps its statistics, which each worker would take from its own
part (train.sync_batchnorm, which needs GPUs, takes them from all).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn

from pipeline.params import AugmentParams
from pipeline.train.batch import step_batch
from pipeline.train.inputs import training_data
from pipeline.train.objective import step_losses
from pipeline.train.transfer import keep_statistics, training_mode
from pipeline.train.worker import Worker
from tests.tiny import TASK, stripe_data, train_params
from tests.train.test_streamed_training import FEW, make_streamed

WORLD = 2
STEP = 5
SECONDS = 300


def gradients(worker: Worker, made: str = "") -> dict[str, Tensor]:
    """Of one step on labelled and pseudo-labelled images, by name, once workers are joined.

    made: a folder of images and pseudo-labels that are streamed; "" for some in memory.
    """
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 3),
    )
    nn.init.normal_(network.get_buffer("1.running_mean"))
    kept = network.get_buffer("1.running_mean").clone()
    keep_statistics(network, {"1.running_mean"})
    training_mode(network)
    data = stripe_data(18, unlabeled=30)
    if made:
        data = training_data(
            Path(made) / "prepared", Path(made) / "chosen", threads=1, cache_gib=FEW
        )
        assert data.labeled_stream is not None
        assert data.unlabeled_stream is not None
    train = train_params(batch_size=6, unlabeled_ratio=2)
    augment = AugmentParams(num_ops=2, operations=("rotate", "brightness"), cutout=0.3)
    forward = worker.wrap(network)
    batch = step_batch(data, train, augment, 3, STEP, worker)
    losses = step_losses(forward, batch, train, 3, STEP, worker, task=TASK)
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert torch.equal(network.get_buffer("1.running_mean"), kept)
    return {
        name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None
    }


def run_worker(rank: int, meeting: str, out: str, made: str) -> None:
    """What each of the processes does."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD
    )
    wrap = nn.parallel.DistributedDataParallel
    worker = Worker(rank, WORLD, torch.device("cpu"), wrap)
    torch.save(gradients(worker, made), f"{out}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True])
def test_two_workers_have_the_gradients_of_one(tmp_path: Path, streamed: bool) -> None:
    meeting, made = str(tmp_path / "meeting"), ""
    if streamed:
        made = str(make_streamed(tmp_path / "made"))
    command = [sys.executable, "-m", "tests.train.test_workers"]
    workers = [
        subprocess.Popen([*command, str(rank), meeting, str(tmp_path), made])
        for rank in range(WORLD)
    ]
    try:
        assert [worker.wait(SECONDS) for worker in workers] == [0] * WORLD
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    alone = gradients(Worker(), made)
    assert len(alone) == 6
    assert all(float(value.abs().max()) > 1e-4 for value in alone.values())
    for rank in range(WORLD):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert shared.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(shared[name], value, rtol=1e-5, atol=1e-6)


def test_one_worker_alone_has_only_its_part_of_them() -> None:
    alone, part = gradients(Worker()), gradients(Worker(0, WORLD))
    assert any(not torch.allclose(part[name], alone[name], rtol=1e-2) for name in alone)


if __name__ == "__main__":
    run_worker(int(sys.argv[1]), *sys.argv[2:])
