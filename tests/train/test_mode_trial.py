"""A head and a network are held against each other on labels that neither was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.files import read_json, write_json
from pipeline.models.checkpoint import network_of
from pipeline.models.pretrained import Weights
from pipeline.params import Training, TransferParams
from pipeline.params.network import ModelParams
from pipeline.train.head import choose_l2, fit_labeled, stratified_folds
from pipeline.train.mode_trial import FOLDS, ModeTrial, compare_modes
from tests.tiny import PLAIN, stripe_data, tiny_spec, train_params

TRAINING = Training(
    model=ModelParams(name="resnet_small", width=4),
    augment=PLAIN,
    train=train_params(steps=99),
    transfer=TransferParams(source="x", mode="auto", trial_steps=40),
)


def trial(features: Any, **changes: Any) -> ModeTrial:
    """Of 24 stripes, the network from random weights."""
    spec = tiny_spec()
    weights = Weights(dict(network_of(spec, 1).state_dict()))
    return compare_modes(stripe_data(24), features, spec, TRAINING, weights, seed=0, **changes)


def test_the_network_wins_where_features_say_nothing_and_loses_to_the_labels_themselves() -> None:
    labels = stripe_data(24).labels.numpy()
    nothing = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float16)
    found = trial(nothing)
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
    assert (trial(told).head, trial(told).mode) == (24, "head")


def test_a_finished_fold_is_not_trained_again(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float16)
    found = trial(features, kept=tmp_path)
    files = sorted(tmp_path.glob("*.json"))
    counts = [int(read_json(file)["right"]) for file in files]
    assert (len(files), sum(counts)) == (FOLDS, found.network)
    write_json(files[0], {"right": 100})
    notes: list[str] = []
    again = trial(features, kept=tmp_path, advance=lambda amount, note: notes.append(note))
    assert again.network == 100 + sum(counts[1:])
    assert len(notes) == FOLDS


def test_the_trial_is_short_and_sees_a_student_s_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Training] = []

    def fit_network(network: torch.nn.Module, *_: Any, training: Training, **__: Any) -> Any:
        seen.append(training)
        return network.state_dict()

    monkeypatch.setattr("pipeline.train.mode_trial.fit_network", fit_network)
    trial(np.random.default_rng(0).normal(size=(24, 4)).astype(np.float16))
    assert len(seen) == FOLDS
    for each in seen:
        assert (each.train.steps, each.train.batch_size) == (40, 18)
        assert each.transfer.mode == "layerwise"
