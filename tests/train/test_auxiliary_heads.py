"""GoogLeNet's auxiliary classifiers are in the loss, in the state of a run, and in no model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.build import build_network
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.spec import model_digest
from pipeline.params import ModelParams, Training
from pipeline.train.batch import labeled_batch, pseudo_labeled_batch
from pipeline.train.fit import fit
from pipeline.train.run import TrainJob, train_model
from pipeline.train.state import STATE
from pipeline.train.worker import Worker
from tests.tiny import PLAIN, prepared_stripes, same_tensors, stripe_data, train_params

DATA = stripe_data(6, unlabeled=12)
PARAMS = train_params(
    steps=2, batch_size=4, unlabeled_ratio=1, unlabeled_weight=0.5, precision="float32"
)


def googlenet(auxiliary: bool = True) -> nn.Module:
    return build_network(
        "googlenet", num_classes=3, channels=1, image_size=8, seed=0, auxiliary=auxiliary
    )


class KilledError(Exception):
    pass


def train(state: Path | None = None, kill: bool = False) -> tuple[dict[str, Tensor], list[float]]:
    losses: list[float] = []

    def log(step: int, values: dict[str, float]) -> None:
        losses.append(values["loss"])
        if kill and step == 2:
            raise KilledError

    how: dict[str, Any] = {"state_folder": state, "checkpoint_minutes": 1e-9}
    weights = fit(googlenet(), DATA, train=PARAMS, augment=PLAIN, seed=0, log=log, **how)
    return weights, losses


def loss_by_hand() -> float:
    """The first step's loss, head by head."""
    params = PARAMS, PLAIN, 0, 0, Worker()
    images, labels, _ = labeled_batch(DATA, *params)
    more, targets, _ = pseudo_labeled_batch(DATA, *params)
    total = 0.0
    with torch.no_grad():
        heads = googlenet()(torch.cat([images, more]))
    for weight, logits in zip((1.0, 0.3, 0.3), heads, strict=True):
        labeled = F.cross_entropy(logits[: len(labels)], labels)
        pseudo = F.cross_entropy(logits[len(labels) :], targets)
        total += weight * float(labeled + 0.5 * pseudo)
    return total


def test_they_train_are_dropped_and_a_stopped_run_goes_on_exactly(tmp_path: Path) -> None:
    weights, losses = train()
    assert losses[0] == pytest.approx(loss_by_hand(), rel=1e-4)
    plain = googlenet(auxiliary=False)
    plain.load_state_dict(weights)  # strict: no auxiliary weights, and none missing
    with pytest.raises(KilledError):
        train(tmp_path, kill=True)
    assert (tmp_path / STATE).exists()
    resumed, _ = train(tmp_path)
    assert same_tensors(resumed, weights)


def test_the_checkpoint_is_the_plain_network_byte_for_byte(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    digests = []
    for name in ("a", "b"):
        job = TrainJob(
            prepared=prepared,
            pseudo_labels=None,
            model=tmp_path / name / "model",
            state=tmp_path / name / "state",
            generation="0",
            teacher=None,
            seed=0,
            training=Training(
                model=ModelParams(name="googlenet"),
                augment=PLAIN,
                train=train_params(steps=2, batch_size=4),
            ),
        )
        train_model(job, Worker(), lambda step, values: None)
        loaded = load_checkpoint(job.model)
        assert not [key for key in loaded.network.state_dict() if "aux" in key]
        digests.append(model_digest(job.model))
    assert digests[0] == digests[1]
