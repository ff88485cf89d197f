from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import ParameterError, TrainingError
from pipeline.params import AugmentParams
from pipeline.train.fit import fit
from pipeline.train.state import STATE
from pipeline.train.training_data import TrainingData
from pipeline.train.worker import Worker
from tests.tiny import (
    PLAIN,
    STRONG,
    accuracy,
    same_tensors,
    stripe_data,
    tiny_network,
    train_params,
)

NOISE: dict[str, Any] = {"dropout_rate": 0.3, "stochastic_depth_rate": 0.3}
Logged = list[tuple[int, dict[str, float]]]


class KilledError(Exception):
    """Stands for what ends a run from outside."""


def train(
    data: TrainingData,
    *,
    augment: AugmentParams = STRONG,
    seed: int = 1,
    logged: Logged | None = None,
    kill_at: int | None = None,
    state: Path | None = None,
    worker: Worker | None = None,
    checkpoint_minutes: float = 5.0,
    **changes: Any,
) -> dict[str, Tensor]:
    """Fit a noisy tiny network; `kill_at`: the step whose log raises."""

    def log(step: int, values: dict[str, float]) -> None:
        if step == kill_at:
            raise KilledError
        if logged is not None:
            logged.append((step, values))

    return fit(
        tiny_network(**NOISE),
        data,
        train=train_params(**changes),
        augment=augment,
        seed=seed,
        log=log,
        state_folder=state,
        checkpoint_minutes=checkpoint_minutes,
        worker=worker,
    )


@pytest.mark.parametrize(
    ("optimizer", "precision"), [("adamw", "float32"), ("sgd", "float32"), ("adamw", "bfloat16")]
)
def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, optimizer: str, precision: str
) -> None:
    data = stripe_data(9, unlabeled=20)
    whole: Logged = []
    expected = train(data, logged=whole, optimizer=optimizer, precision=precision)
    pieces: Logged = []
    how: dict[str, Any] = {"state": tmp_path, "optimizer": optimizer, "checkpoint_minutes": 1e-9}
    how["precision"] = precision
    for kill_at in (3, 4, 7):
        with pytest.raises(KilledError):
            train(data, kill_at=kill_at, logged=pieces, **how)
    torch.rand(3)  # what else a process draws is of no matter
    resumed = train(data, logged=pieces, **how)
    assert same_tensors(resumed, expected)
    assert [(s, v["loss"]) for s, v in pieces] == [(s, v["loss"]) for s, v in whole]


def test_a_run_that_is_asked_to_stop_ends_its_step_saves_and_goes_on(tmp_path: Path) -> None:
    data = stripe_data(9, unlabeled=20)
    whole, pieces = list[Any](), list[Any]()
    expected = train(data, logged=whole)
    asked = iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        train(data, logged=pieces, state=tmp_path, worker=Worker(stop=lambda: next(asked)))
    assert [step for step, _ in pieces] == [1, 2]
    resumed = train(data, logged=pieces, state=tmp_path)
    assert same_tensors(resumed, expected)
    assert [(s, v["loss"]) for s, v in pieces] == [(s, v["loss"]) for s, v in whole]


def test_only_rank_0_is_asked_whether_to_stop() -> None:
    def stop() -> bool:
        raise AssertionError

    data = stripe_data(8)
    train(data, worker=Worker(1, 2, stop=stop), batch_size=4)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    data = stripe_data(9)
    first = train(data, state=tmp_path, checkpoint_minutes=1e-9)
    logged: Logged = []
    assert same_tensors(train(data, state=tmp_path, logged=logged), first)
    assert logged == []


def test_without_a_folder_or_before_the_interval_nothing_is_saved(tmp_path: Path) -> None:
    train(stripe_data(9), state=tmp_path, checkpoint_minutes=60.0)
    assert not (tmp_path / STATE).exists()


def test_the_seed_alone_decides_the_weights() -> None:
    data = stripe_data(9, unlabeled=20)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = train(data)
        torch.manual_seed(2)
        second = train(data)
    assert same_tensors(first, second)
    assert not same_tensors(first, train(data, seed=2))


def test_the_default_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    train(stripe_data(9, unlabeled=20))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_that_workers_cannot_share_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"train\.batch_size = 6: .*train\.workers = 4"):
        fit(
            tiny_network(),
            stripe_data(9),
            train=train_params(),
            augment=PLAIN,
            seed=0,
            worker=Worker(0, 4),
        )


@pytest.mark.parametrize(("log_every", "named"), [(1, 1), (3, 3), (100, 8)])
def test_a_loss_that_is_no_number_ends_training_with_its_step(log_every: int, named: int) -> None:
    data = stripe_data(9, std=(float("nan"),))
    with pytest.raises(TrainingError, match=f"at step {named};") as caught:
        train(data, log_every=log_every)
    assert "train.learning_rate" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_state_of_a_broken_run_is_saved(tmp_path: Path) -> None:
    data = stripe_data(9, std=(float("nan"),))
    with pytest.raises(TrainingError):
        train(data, state=tmp_path, checkpoint_minutes=1e-9, log_every=100)
    assert not (tmp_path / STATE).exists()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_loss_goes_down_and_stripes_are_learned(optimizer: str) -> None:
    data = stripe_data(45)
    network, logged = tiny_network(), []
    weights = fit(
        network,
        data,
        train=train_params(steps=60, batch_size=15, learning_rate=0.03, optimizer=optimizer),
        augment=PLAIN,
        seed=0,
        log=lambda step, values: logged.append(values["loss"]),
    )
    assert sum(logged[-5:]) < 0.3 * sum(logged[:5])
    assert accuracy(network, weights, data) >= 0.95


def test_bfloat16_is_for_passes_and_learns_as_well() -> None:
    data = stripe_data(90)
    full = train(data, steps=60, augment=PLAIN)
    half = train(data, steps=60, augment=PLAIN, precision="bfloat16")
    assert {value.dtype for value in half.values()} == {value.dtype for value in full.values()}
    assert not same_tensors(full, half)
    assert accuracy(tiny_network(**NOISE), half, data) > 0.9


def test_a_student_learns_from_pseudo_labels_where_labels_are_few() -> None:
    # The three labelled images are blank: all that there is to learn is in the pseudo-labels.
    blank: dict[str, Any] = {"images": torch.zeros(3, 1, 8, 8, dtype=torch.uint8)}
    data = stripe_data(3, unlabeled=60, **blank)
    params = train_params(steps=60, learning_rate=0.03, unlabeled_ratio=3)
    for weight, least, most in ((1.0, 0.9, 1.0), (0.0, 0.0, 0.7)):
        network = tiny_network()
        changed = params.model_copy(update={"unlabeled_weight": weight})
        weights = fit(network, data, train=changed, augment=PLAIN, seed=0)
        assert least <= accuracy(network, weights, data) <= most


def test_with_weight_zero_the_targets_are_of_no_matter() -> None:
    data = stripe_data(9, unlabeled=20)
    other = stripe_data(9, unlabeled=20, unlabeled_targets=torch.full((20, 3), 1 / 3))
    assert same_tensors(train(data, unlabeled_weight=0.0), train(other, unlabeled_weight=0.0))
    assert not same_tensors(train(data), train(other))


def test_with_ratio_zero_the_pseudo_labels_are_not_there() -> None:
    alone = train(stripe_data(9), unlabeled_ratio=0)
    assert same_tensors(train(stripe_data(9, unlabeled=20), unlabeled_ratio=0), alone)
    assert same_tensors(train(stripe_data(9)), alone)
    none = stripe_data(
        9,
        unlabeled=20,
        unlabeled_rows=torch.empty(0, dtype=torch.int64),
        unlabeled_targets=torch.empty(0, 3),
    )
    assert same_tensors(train(none), alone)


def test_what_is_logged(tmp_path: Path) -> None:
    data = stripe_data(9, unlabeled=20)
    logged: Logged = []
    train(
        stripe_data(9, unlabeled=20, validation_images=data.images, validation_labels=data.labels),
        logged=logged,
        steps=20,
        log_every=8,
        unlabeled_weight=0.5,
    )
    losses = [(step, values) for step, values in logged if "loss" in values]
    assert [step for step, _ in losses] == [8, 16, 20]
    for _, values in losses:
        total = values["loss_labeled"] + 0.5 * values["loss_pseudo"]
        assert values["loss"] == pytest.approx(total, rel=1e-5)
        assert values["images_per_second"] > 0
        assert 0 < values["learning_rate"] <= 0.01
    validated = [step for step, values in logged if "val/accuracy" in values]
    assert validated == list(range(2, 21, 2))
    assert all(0 <= v["val/accuracy"] <= 1 for _, v in logged if "val/accuracy" in v)


def test_validation_changes_nothing_and_measures_the_average() -> None:
    data = stripe_data(30)
    watched = stripe_data(30, validation_images=data.images, validation_labels=data.labels)
    logged: Logged = []
    weights = train(watched, logged=logged, steps=30)
    assert same_tensors(weights, train(data, steps=30))
    network = tiny_network()
    network.load_state_dict(weights)
    pixels = (data.images.float() / 255 - 0.3) / 0.25
    with torch.no_grad():
        right = network.eval()(pixels).argmax(dim=1) == data.labels
    measured = [values["val/accuracy"] for _, values in logged if "val/accuracy" in values]
    assert measured[-1] == pytest.approx(float(right.float().mean()))


def test_clipping_bounds_a_step() -> None:
    data = stripe_data(9)
    how: dict[str, Any] = {
        "steps": 1,
        "optimizer": "sgd",
        "momentum": 0.0,
        "weight_decay": 0.0,
        "learning_rate": 1.0,
        "warmup_fraction": 0.0,
        "ema_decay": 0.0,
    }
    start = {n: w.detach() for n, w in tiny_network(**NOISE).named_parameters()}

    def moved(clip_norm: float | None) -> float:
        weights = train(data, clip_norm=clip_norm, **how)
        squares = [(weights[name] - value).square().sum() for name, value in start.items()]
        return float(torch.stack(squares).sum().sqrt())

    assert moved(0.01) == pytest.approx(0.01, rel=1e-3)
    assert moved(None) > 0.1
