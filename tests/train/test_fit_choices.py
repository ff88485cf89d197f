"""What a run can choose beside its losses: an online teacher, fine-tuning, the weights it keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.params import OnlineParams
from pipeline.train import fit
from pipeline.train.training_data import TrainingData
from tests.tiny import (
    PLAIN,
    STRONG,
    accuracy,
    same_tensors,
    stripe_data,
    striped,
    tiny_network,
)
from tests.train.test_fit import KilledError, Logged, train


def test_an_online_teacher_takes_over_and_a_killed_run_goes_on_with_it(tmp_path: Path) -> None:
    data = stripe_data(9, unlabeled=20)
    online = OnlineParams(start_fraction=0.5, confidence_threshold=0.3, label_kind="soft")
    whole: Logged = []
    expected = train(data, logged=whole, online=online)
    covered = {step: "online_coverage" in values for step, values in whole}
    assert [step for step in sorted(covered) if covered[step]] == [5, 6, 7, 8]
    assert not same_tensors(expected, train(data))
    for kill_at in (3, 7):
        with pytest.raises(KilledError):
            train(data, kill_at=kill_at, online=online, state=tmp_path, checkpoint_minutes=1e-9)
    resumed = train(data, online=online, state=tmp_path, checkpoint_minutes=1e-9)
    assert same_tensors(resumed, expected)


def test_generation_0_has_no_online_teacher() -> None:
    data = stripe_data(9)
    assert same_tensors(train(data, online=OnlineParams(start_fraction=0.0)), train(data))


def test_an_online_teacher_learns_where_the_stored_labels_are_wrong() -> None:
    data = stripe_data(12, unlabeled=60)
    assert data.unlabeled_targets is not None
    wrong = stripe_data(12, unlabeled=60, unlabeled_targets=data.unlabeled_targets.roll(1, dims=1))
    how: dict[str, Any] = {"steps": 120, "learning_rate": 0.02, "ema_decay": 0.9}
    online = OnlineParams(start_fraction=0.0, confidence_threshold=0.5, label_kind="hard")
    misled = train(wrong, augment=PLAIN, unlabeled_weight=3.0, **how)
    rescued = train(wrong, augment=PLAIN, unlabeled_weight=3.0, online=online, **how)
    assert accuracy(tiny_network(), misled, data) < 0.5
    assert accuracy(tiny_network(), rescued, data) > 0.9


def test_a_killed_run_that_contrasts_views_goes_on_exactly(tmp_path: Path) -> None:
    data, logged = stripe_data(9, unlabeled=20), []  # type: tuple[TrainingData, Logged]
    how: dict[str, Any] = {"contrastive_weight": 0.5, "augment": STRONG}
    expected = train(data, logged=logged, **how)
    assert all(values["loss_contrastive"] > 0 for _, values in logged)
    with pytest.raises(KilledError):
        train(data, kill_at=5, state=tmp_path, checkpoint_minutes=1e-9, **how)
    assert same_tensors(train(data, state=tmp_path, checkpoint_minutes=1e-9, **how), expected)
    assert not same_tensors(train(data, augment=STRONG), expected)


def test_generation_0_contrasts_nothing() -> None:
    data = stripe_data(9)
    assert same_tensors(train(data, contrastive_weight=1.0), train(data))


def test_contrast_learns_to_tell_images_apart_without_pseudo_labels() -> None:
    data = stripe_data(3, unlabeled=60)
    how: dict[str, Any] = {"steps": 60, "learning_rate": 0.02, "ema_decay": 0.9}
    told: Logged = []
    train(data, logged=told, augment=STRONG, unlabeled_weight=0.0, contrastive_weight=1.0, **how)
    losses = [values["loss_contrastive"] for _, values in told]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_fine_tuning_is_on_plain_labelled_images_at_its_own_rate() -> None:
    data, logged = stripe_data(9, unlabeled=20), []  # type: tuple[TrainingData, Logged]
    train(data, logged=logged, steps=8, finetune_steps=3, finetune_learning_rate=1e-4)
    pseudo = [values["loss_pseudo"] for _, values in logged]
    rates = [values["learning_rate"] for _, values in logged]
    assert all(value > 0 for value in pseudo[:5])
    assert pseudo[5:] == [0, 0, 0]
    assert rates[5] == 1e-4
    assert rates[5] > rates[6] > rates[7] > 0
    plain: Logged = []
    train(data, logged=plain, steps=5)
    assert [values["loss"] for _, values in logged[:5]] == [values["loss"] for _, values in plain]


def with_validation(labeled: int = 12) -> TrainingData:
    labels = torch.arange(30) % 3
    return stripe_data(labeled, validation_images=striped(labels, seed=7), validation_labels=labels)


def test_the_best_weights_on_validation_are_kept() -> None:
    data, logged = with_validation(), []  # type: tuple[TrainingData, Logged]
    how: dict[str, Any] = {"steps": 60, "learning_rate": 0.02, "ema_decay": 0.5}
    best = train(data, logged=logged, keep="best", **how)
    seen = [values["val/accuracy"] for _, values in logged if "val/accuracy" in values]
    network = tiny_network()
    network.load_state_dict(best)
    assert data.validation_images is not None
    inputs = (data.validation_images.float() / 255 - data.mean[0]) / data.std[0]
    with torch.no_grad():
        right = network.eval()(inputs).argmax(dim=1) == data.validation_labels
    assert right.float().mean().item() == pytest.approx(max(seen))


def test_training_stops_when_validation_has_not_become_better() -> None:
    logged: Logged = []
    train(with_validation(), logged=logged, steps=200, learning_rate=0.02, patience=2)
    seen = [values["val/accuracy"] for _, values in logged if "val/accuracy" in values]
    assert max(step for step, _ in logged) < 200
    assert max(seen[-2:]) <= seen[-3] == max(seen)


def test_weights_that_broke_are_told_with_the_step_that_was_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[int] = []
    monkeypatch.setattr(fit, "_check_weights", lambda network, done: checked.append(done))
    logged: Logged = []
    train(with_validation(), logged=logged, steps=200, learning_rate=0.02, patience=2)
    assert checked == [max(step for step, _ in logged)]
