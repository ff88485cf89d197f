from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file
from torch import nn, optim

from pipeline.errors import CheckpointError, TrainingError
from pipeline.train.optimizer import build_optimizer
from pipeline.train.state import STATE, load_state, save_state
from pipeline.train.weights import WeightAverage
from tests.tiny import same_tensors, stripe_data, tiny_network
from tests.train.test_fit import KilledError, train

Kind = Literal["adamw", "sgd"]


class Run:
    """A network, its average and its optimizer, a few steps into training."""

    def __init__(self, seed: int, steps: int, kind: Kind = "adamw", width: int = 4) -> None:
        network = tiny_network(seed, width=width)
        self.network: nn.Module = network.to(memory_format=torch.channels_last)
        self.average = WeightAverage(self.network, 0.9)
        self.optimizer: optim.Optimizer = build_optimizer(
            self.network, kind, learning_rate=0.01, momentum=0.9, weight_decay=0.1
        )
        self.more = {"mean": torch.zeros(3), "count": torch.tensor(0)}
        for step in range(steps):
            self.step(step)

    def step(self, step: int) -> None:
        images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        self.network(images).square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update(self.network, step)
        self.more["mean"] += images.mean()
        self.more["count"] += 1

    def save(self, folder: Path, step: int) -> None:
        save_state(
            folder,
            step=step,
            network=self.network,
            average=self.average.tensors,
            optimizer=self.optimizer,
            more=self.more,
        )

    def load(self, folder: Path) -> int:
        return load_state(
            folder,
            network=self.network,
            average=self.average.tensors,
            optimizer=self.optimizer,
            more=self.more,
        )


def test_nothing_saved_is_step_zero(tmp_path: Path) -> None:
    run = Run(0, 0)
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    assert run.load(tmp_path / "nowhere") == 0
    assert same_tensors(run.network.state_dict(), before)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_what_is_loaded_goes_on_as_what_was_saved(tmp_path: Path, kind: Kind) -> None:
    first = Run(0, 5, kind)
    first.save(tmp_path, 5)
    second = Run(1, 2, kind)
    assert second.load(tmp_path) == 5
    assert same_tensors(second.average.tensors, first.average.tensors)
    for step in range(5, 9):
        first.step(step)
        second.step(step)
    assert same_tensors(second.network.state_dict(), first.network.state_dict())
    assert same_tensors(second.average.tensors, first.average.tensors)


def test_loading_keeps_the_learning_rate_of_now(tmp_path: Path) -> None:
    Run(0, 1).save(tmp_path, 1)
    run = Run(0, 0)
    run.optimizer.param_groups[0]["lr"] = 0.5
    run.load(tmp_path)
    assert run.optimizer.param_groups[0]["lr"] == 0.5


def test_a_later_state_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    run = Run(0, 1)
    run.save(tmp_path, 1)
    run.step(1)
    run.save(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    assert Run(0, 0).load(tmp_path) == 2


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_cut_state_is_refused(tmp_path: Path, keep: int) -> None:
    Run(0, 1).save(tmp_path, 1)
    path = tmp_path / STATE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="delete it") as caught:
        Run(0, 0).load(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_state_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    Run(0, 2).save(tmp_path, 2)
    data = bytearray((tmp_path / STATE).read_bytes())
    data[-5] ^= 1
    (tmp_path / STATE).write_bytes(data)
    with pytest.raises(CheckpointError, match=r"not this run's state \(other bytes.*delete it"):
        Run(0, 0).load(tmp_path)


def test_a_state_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    Run(0, 1, width=6).save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="delete it") as caught:
        Run(0, 0).load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / STATE)
    with pytest.raises(CheckpointError, match="delete it"):
        Run(0, 0).load(tmp_path)


def test_the_state_of_before_a_loss_that_is_no_number_stays(tmp_path: Path) -> None:
    how: dict[str, Any] = {"state": tmp_path, "checkpoint_minutes": 1e-9}
    with pytest.raises(KilledError):
        train(stripe_data(9), kill_at=4, **how)
    good = (tmp_path / STATE).read_bytes()
    with pytest.raises(TrainingError, match="at step 4;"):
        train(stripe_data(9, std=(float("nan"),)), **how)
    assert (tmp_path / STATE).read_bytes() == good


@pytest.mark.parametrize("state", [True, False])
def test_weights_that_a_step_of_a_finite_loss_broke_are_neither_saved_nor_given_back(
    tmp_path: Path, state: bool
) -> None:
    how: dict[str, Any] = {"optimizer": "sgd", "learning_rate": 1e39, "log_every": 100}
    where = {"state": tmp_path, "checkpoint_minutes": 1e-9} if state else {"steps": 1}
    with pytest.raises(TrainingError, match="weights are not finite after step 1;"):
        train(stripe_data(9), **how, **where)
    assert not (tmp_path / STATE).exists()
