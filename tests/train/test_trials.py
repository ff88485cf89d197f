"""Trials before training: what they measure, keep, and take up again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.evaluate.views import predict
from pipeline.files import read_json, write_json
from pipeline.models.checkpoint import network_of
from pipeline.models.pretrained import Weights
from pipeline.models.spec import ModelSpec
from pipeline.params import AugmentParams, ModelParams, SearchParams, Training, TransferParams
from pipeline.tasks.classification import TASK
from pipeline.train.fit import fit
from pipeline.train.head import choose_l2, fit_labeled, stratified_folds
from pipeline.train.training_data import TrainingData
from pipeline.train.trials import FOLDS, ModeTrial, PolicyTrial, Trials, best_policy
from tests.tiny import PLAIN, prepared_stripes, stripe_data, tiny_spec, train_params

PAIRS = [(1, 5.0), (2, 5.0)]
SHORT = train_params(learning_rate=0.03)
AUGMENT = AugmentParams(shift=0.0, operations=("translate_x", "solarize"))


def watched(**changes: Any) -> TrainingData:
    validation = stripe_data(30, seed=8)
    shown = {"validation_images": validation.images, "validation_labels": validation.labels}
    return stripe_data(12, unlabeled=9, **(shown | changes))


def trials_in(folder: Path, data: TrainingData, seed: int = 4, **changes: Any) -> Trials:
    training = Training(model=ModelParams(width=4), augment=AUGMENT, train=SHORT)
    return Trials(data, tiny_spec(), training, seed, folder, **changes)


def search(data: TrainingData, folder: Path, seeds: int = 2, **changes: Any) -> list[PolicyTrial]:
    wanted = SearchParams(num_ops=(1, 2), magnitude=(5.0,), steps=6, seeds=seeds)
    return trials_in(folder, data, **changes).search_policy(wanted)


def test_a_trial_is_training_on_the_labels_alone_with_that_pair(tmp_path: Path) -> None:
    trials = search(watched(), tmp_path, seeds=1)
    assert [(trial.num_ops, trial.magnitude) for trial in trials] == PAIRS
    seed = int(np.random.SeedSequence([4, 3]).generate_state(1)[0] >> 1)
    network, data = network_of(tiny_spec(), seed), watched()
    alone = replace(data, validation_images=None, unlabeled_rows=None)
    augment = AUGMENT.model_copy(update={"num_ops": 2, "magnitude": 5.0})
    train = train_params(steps=6, learning_rate=0.03)
    network.load_state_dict(fit(network, alone, train=train, augment=augment, seed=seed))
    assert data.validation_images is not None
    assert data.validation_labels is not None
    log_probs = predict(network, data.validation_images, TASK, mean=[0.3], std=[0.25])
    labels = data.validation_labels.numpy()
    assert trials[1].score == (log_probs.argmax(axis=1) == labels).mean()
    own = [-float(row[label]) for row, label in zip(log_probs, labels, strict=True)]
    assert trials[1].nll == pytest.approx(sum(own) / 30, rel=1e-6)


def test_trials_are_means_over_seeds_and_repeat(tmp_path: Path) -> None:
    trials = search(watched(), tmp_path / "a")
    assert trials == search(watched(), tmp_path / "b")
    assert trials != search(watched(), tmp_path / "c", seed=5)
    for trial in trials:
        files = (tmp_path / "a").glob(f"{trial.num_ops}_*.json")
        runs = [json.loads(path.read_text()) for path in files]
        assert len(runs) == 2
        assert runs[0]["nll"] != runs[1]["nll"]
        assert trial.score == pytest.approx(sum(run["score"] for run in runs) / 2)
        assert trial.nll == pytest.approx(sum(run["nll"] for run in runs) / 2)


def test_finished_trials_are_kept_and_a_killed_one_goes_on(tmp_path: Path) -> None:
    class KilledError(Exception):
        """Stands for what ends a run from outside."""

    def kill(amount: int = 1, note: str = "") -> None:
        raise KilledError

    expected = search(watched(), tmp_path / "whole")
    with pytest.raises(KilledError):
        search(watched(), tmp_path / "cut", advance=kill)
    (first,) = (tmp_path / "cut").glob("*.json")
    written = first.stat().st_mtime_ns
    assert search(watched(), tmp_path / "cut") == expected
    assert first.stat().st_mtime_ns == written


def test_pseudo_labels_play_no_part(tmp_path: Path) -> None:
    one = search(watched(), tmp_path / "a", seeds=1)
    none: dict[str, Any] = {"unlabeled_images": None, "unlabeled_rows": None}
    assert one == search(watched(**none), tmp_path / "b", seeds=1)


def test_no_validation_images_are_no_ground_to_choose_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"augment\.search: no validation images"):
        search(stripe_data(9), tmp_path)


def test_the_best_is_the_most_accurate_then_the_likeliest_then_the_first() -> None:
    trials = [
        PolicyTrial(1, 5.0, 0.8, 0.1),
        PolicyTrial(2, 5.0, 0.9, 0.5),
        PolicyTrial(3, 5.0, 0.9, 0.4),
        PolicyTrial(4, 5.0, 0.9, 0.4),
    ]
    assert best_policy(trials) == trials[2]
    assert best_policy(trials[:2]) == trials[1]


def test_a_prepared_folder_is_searched(tmp_path: Path) -> None:
    training = Training(model=ModelParams(width=4), augment=AUGMENT, train=SHORT)
    done: list[int] = []
    trials = Trials.of_prepared(
        prepared_stripes(tmp_path / "prepared"),
        training,
        seed=0,
        folder=tmp_path / "trials",
        advance=lambda amount=1, note="": done.append(amount),
    ).search_policy(SearchParams(num_ops=(1, 2), magnitude=(5.0,), steps=40))
    assert done == [1, 1]
    assert all(0 <= trial.score <= 1 and trial.nll > 0 for trial in trials)
    assert max(trial.score for trial in trials) > 0.5


TRAINING = Training(
    model=ModelParams(name="resnet_small", width=4),
    augment=PLAIN,
    train=train_params(steps=99),
    transfer=TransferParams(source="x", mode="auto", trial_steps=40),
)


def trial(features: Any, folder: Path, **changes: Any) -> ModeTrial:
    """Of 24 stripes, the network from random weights."""
    spec = tiny_spec()
    weights = Weights(dict(network_of(spec, 1).state_dict()))
    trials = Trials(stripe_data(24), spec, TRAINING, 0, folder, **changes)
    return trials.compare_modes(features, weights)


def test_the_network_wins_where_features_say_nothing_and_loses_to_the_labels_themselves(
    tmp_path: Path,
) -> None:
    labels = stripe_data(24).labels.numpy()
    nothing = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float16)
    found = trial(nothing, tmp_path)
    assert found.images == 24
    assert found.network > 18
    l2 = choose_l2(nothing, labels, 3, seed=0).l2
    right = 0
    for number in range(FOLDS):
        held = stratified_folds(labels, FOLDS, 0) == number
        head = fit_labeled(nothing[~held], labels[~held], 3, l2=l2)
        right += int((head.log_probs(nothing[held]).argmax(axis=1) == labels[held]).sum())
    assert found.head == right < 18
    assert found.mode == "layerwise"
    told = np.eye(3, dtype=np.float16)[labels]
    easy = trial(told, tmp_path)
    assert (easy.head, easy.mode) == (24, "head")


def test_a_finished_fold_is_not_trained_again(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float16)
    found = trial(features, tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    counts = [int(read_json(file)["right"]) for file in files]
    assert (len(files), sum(counts)) == (FOLDS, found.network)
    write_json(files[0], {"right": 100})
    notes: list[str] = []
    again = trial(features, tmp_path, advance=lambda amount, note: notes.append(note))
    assert again.network == 100 + sum(counts[1:])
    assert len(notes) == FOLDS


def test_the_trial_is_short_and_sees_a_student_s_batch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    used: list[Training] = []

    def train_network(spec: ModelSpec, data: TrainingData, training: Training, **_: Any) -> Any:
        used.append(training)
        return network_of(spec).eval(), spec

    monkeypatch.setattr("pipeline.train.trials.train_network", train_network)
    trial(np.random.default_rng(0).normal(size=(24, 4)).astype(np.float16), tmp_path)
    assert len(used) == FOLDS
    for each in used:
        assert (each.train.steps, each.train.batch_size) == (40, 18)
        assert each.transfer.mode == "layerwise"
