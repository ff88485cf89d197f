"""The search of num_ops and magnitude: what it measures, keeps, and takes up again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.evaluate.views import predict_log_probs
from pipeline.models.checkpoint import network_of
from pipeline.params import AugmentParams, ModelParams, Training
from pipeline.train.fit import fit
from pipeline.train.search import Trial, best_trial, search_policy, search_prepared
from pipeline.train.training_data import TrainingData
from tests.tiny import prepared_stripes, stripe_data, tiny_spec, train_params

PAIRS = [(1, 5.0), (2, 30.0)]
AUGMENT = AugmentParams(shift=0.0, operations=("translate_x", "solarize"))


def watched(**changes: Any) -> TrainingData:
    validation = stripe_data(30, seed=8)
    shown = {"validation_images": validation.images, "validation_labels": validation.labels}
    return stripe_data(12, unlabeled=9, **(shown | changes))


def search(data: TrainingData, kept: Path, **changes: Any) -> list[Trial]:
    how: dict[str, Any] = {
        "train": train_params(steps=6, learning_rate=0.03),
        "augment": AUGMENT,
        "num_seeds": 2,
        "seed": 4,
        "kept": kept,
    }
    return search_policy(data, tiny_spec(), PAIRS, **(how | changes))


def test_a_trial_is_training_on_the_labels_alone_with_that_pair(tmp_path: Path) -> None:
    trials = search(watched(), tmp_path, num_seeds=1)
    assert [(trial.num_ops, trial.magnitude) for trial in trials] == PAIRS
    seed = int(np.random.SeedSequence([4, 3]).generate_state(1)[0] >> 1)
    network, data = network_of(tiny_spec(), seed), watched()
    alone = replace(data, validation_images=None, unlabeled_rows=None)
    augment = AUGMENT.model_copy(update={"num_ops": 2, "magnitude": 30.0})
    train = train_params(steps=6, learning_rate=0.03)
    network.load_state_dict(fit(network, alone, train=train, augment=augment, seed=seed))
    assert data.validation_images is not None
    assert data.validation_labels is not None
    log_probs = predict_log_probs(network, data.validation_images, mean=[0.3], std=[0.25])
    labels = data.validation_labels.numpy()
    assert trials[1].accuracy == (log_probs.argmax(axis=1) == labels).mean()
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
        assert trial.accuracy == pytest.approx(sum(run["accuracy"] for run in runs) / 2)
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
    one = search(watched(), tmp_path / "a", num_seeds=1)
    none: dict[str, Any] = {"unlabeled_images": None, "unlabeled_rows": None}
    assert one == search(watched(**none), tmp_path / "b", num_seeds=1)


def test_no_validation_images_are_no_ground_to_choose_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"augment\.search: no validation images"):
        search(stripe_data(9), tmp_path)


def test_the_best_is_the_most_accurate_then_the_likeliest_then_the_first() -> None:
    trials = [
        Trial(1, 5.0, 0.8, 0.1),
        Trial(2, 5.0, 0.9, 0.5),
        Trial(3, 5.0, 0.9, 0.4),
        Trial(4, 5.0, 0.9, 0.4),
    ]
    assert best_trial(trials) == trials[2]
    assert best_trial(trials[:2]) == trials[1]


def test_a_prepared_folder_is_searched_for_the_steps_asked(tmp_path: Path) -> None:
    training = Training(
        model=ModelParams(width=4), augment=AUGMENT, train=train_params(steps=10_000_000)
    )
    told: list[int] = []

    def advance(amount: int = 1, note: str = "") -> None:
        told.append(amount)

    trials = search_prepared(
        prepared_stripes(tmp_path / "prepared"),
        training,
        PAIRS,
        steps=40,
        num_seeds=1,
        seed=0,
        kept=tmp_path / "kept",
        advance=advance,
    )
    assert told == [1, 1]
    assert all(0 <= trial.accuracy <= 1 and trial.nll > 0 for trial in trials)
    assert max(trial.accuracy for trial in trials) > 0.5
