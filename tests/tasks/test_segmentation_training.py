"""Training on masks: scenes of a few shapes on noise, a class a pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.augment import Draws, Warp
from pipeline.data.class_maps import IGNORED, map_probabilities, pack_maps
from pipeline.models.spec import ModelSpec
from pipeline.params import AugmentParams, OnlineParams
from pipeline.tasks import open_task
from pipeline.tasks.metrics import fit_temperature
from pipeline.train import run as training_run
from pipeline.train.batch import step_batch
from pipeline.train.fit import fit
from pipeline.train.objective import step_losses
from pipeline.train.run import sampled_units
from pipeline.train.training_data import TrainingData
from pipeline.train.worker import Worker
from tests.tiny import same_tensors, train_params

SIDE, CLASSES = 16, 3
TASK = open_task("segmentation")
MOVING = AugmentParams(
    flip=True, num_ops=2, operations=("rotate", "translate_x", "brightness"), magnitude=6.0
)


def dense_network(seed: int = 0) -> nn.Module:
    """Three convolutions that give each pixel logits."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, CLASSES, 3, padding=1),
    )


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, S, S) uint8 of noise with a grey and a bright square, and their masks."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 60, (count, 1, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.uint8)
    for image, mask in zip(images, masks, strict=True):
        for number in (1, 2):
            top, left = torch.randint(0, SIDE - 6, (2,), generator=generator).tolist()
            image[0, top : top + 6, left : left + 6] = 90 * number
            mask[top : top + 6, left : left + 6] = number
    masks[:, 0] = IGNORED
    return images, masks


def scene_data(labeled: int = 12, unlabeled: int = 0, **changes: Any) -> TrainingData:
    images, masks = scenes(labeled, 1)
    seen, true = scenes(20, 3)
    more: dict[str, Any] = {"validation_images": seen, "validation_labels": true}
    if unlabeled:
        pixels, hidden = scenes(unlabeled, 2)
        rows = torch.arange(unlabeled)
        maps = torch.from_numpy(soft_maps(hidden))
        more |= {"unlabeled_images": pixels, "unlabeled_rows": rows, "unlabeled_targets": maps}
    more |= {"images": images, "labels": masks, "num_classes": CLASSES, "task": TASK}
    return TrainingData(mean=(0.2,), std=(0.25,), **(more | changes))


def soft_maps(masks: Tensor) -> np.ndarray[Any, Any]:
    """Maps that say these masks with 0.8, ignored where they are."""
    ignored = masks == IGNORED
    shares = nn.functional.one_hot(masks.long().masked_fill(ignored, 0), CLASSES).movedim(-1, 1)
    maps = pack_maps((shares * 0.7 + 0.1).log())
    maps[:, 0][ignored.numpy()] = IGNORED
    return maps


def spec_of(data: TrainingData) -> ModelSpec:
    return ModelSpec(
        network={"name": "unet_small"},
        classes=[str(number) for number in range(CLASSES)],
        image_size=SIDE,
        channels=1,
        mean=list(data.mean),
        std=list(data.std),
        generation="0",
        task="segmentation",
    )


def trained(data: TrainingData, augment: AugmentParams, **train: Any) -> tuple[float, nn.Module]:
    """The best validation score, and the network."""
    network, scores = dense_network(), [0.0]

    def log(step: int, values: dict[str, float]) -> None:
        scores.append(values.get("val/miou", 0.0))

    params = train_params(**({"steps": 120, "batch_size": 8, "learning_rate": 0.02} | train))
    network.load_state_dict(fit(network, data, train=params, augment=augment, seed=0, log=log))
    return max(scores), network.eval()


@pytest.mark.parametrize("mix", ["none", "cutmix", "classmix"])
def test_a_network_learns_masks_by_heart_and_scores_by_mean_iou(mix: Any) -> None:
    data = scene_data()
    score, network = trained(data, MOVING.model_copy(update={"mix": mix}))
    assert score > 0.85
    assert data.validation_images is not None
    assert data.validation_labels is not None
    units = sampled_units(network, data.validation_images, data.validation_labels, spec_of(data))
    assert 0.05 < fit_temperature(*units) < 3


def test_pseudo_labels_teach_without_many_labels() -> None:
    score, _ = trained(scene_data(2, unlabeled=40), MOVING, unlabeled_weight=2.0)
    assert score > 0.85


def test_an_online_teacher_teaches_in_the_strong_views_frame() -> None:
    online = OnlineParams(start_fraction=0.2, confidence_threshold=0.6, label_kind="soft")
    score, _ = trained(scene_data(6, unlabeled=40), MOVING, online=online, steps=160)
    assert score > 0.8
    hard = OnlineParams(start_fraction=0.0, distribution_alignment=False)
    assert trained(scene_data(6, unlabeled=40), MOVING, online=hard, steps=20)[0] > 0.1


def test_smaller_training_images_are_compared_at_the_masks_side() -> None:
    train = {"image_size": 12, "finetune_steps": 40, "unlabeled_weight": 0.5}
    score, _ = trained(scene_data(12, unlabeled=12), MOVING, **train)
    assert score > 0.8


def test_a_distilled_teacher_teaches_pixel_by_pixel() -> None:
    data = scene_data()
    maps = torch.from_numpy(soft_maps(data.labels))
    blank = torch.full_like(data.labels, IGNORED)
    taught = scene_data(labels=blank, taught=maps)
    score, _ = trained(taught, MOVING, distillation_weight=1.0)
    assert score > 0.8


@pytest.mark.parametrize("mix", ["none", "cutmix", "classmix"])
@pytest.mark.parametrize("online", [False, True])
def test_workers_pieces_interleave_to_the_one_workers_batch(mix: Any, online: bool) -> None:
    data = scene_data(9, unlabeled=20)
    augment = MOVING.model_copy(update={"mix": mix, "cutout": 0.3})
    params = train_params(batch_size=8)
    whole = step_batch(data, params, augment, 3, 2, Worker(), online=online)
    for rank in range(2):
        part = step_batch(data, params, augment, 3, 2, Worker(rank, 2), online=online)
        torch.testing.assert_close(part.labeled.images, whole.labeled.images[rank::2])
        assert torch.equal(part.labeled.labels, whole.labeled.labels[rank::2])
        assert part.noised is not None
        assert whole.noised is not None
        torch.testing.assert_close(part.noised, whole.noised[rank::2])
        if part.targets is not None and whole.targets is not None:
            assert torch.equal(part.targets, whole.targets[rank::2])


def test_a_stopped_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    data = scene_data(8, unlabeled=12)
    params = train_params(steps=10, batch_size=4, online=OnlineParams(), keep="best")
    augment = MOVING

    def run(folder: Path, stop_after: int | None = None) -> dict[str, Tensor]:
        steps = iter(range(100))
        stop = (lambda: next(steps) == stop_after) if stop_after is not None else (lambda: False)
        return fit(
            dense_network(),
            data,
            train=params,
            augment=augment,
            seed=0,
            worker=Worker(stop=stop),
            state_folder=folder,
        )

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", 4)
    assert same_tensors(run(tmp_path / "stopped"), run(tmp_path / "whole"))


def test_nothing_known_costs_nothing() -> None:
    data = scene_data()
    data = scene_data(labels=torch.full_like(data.labels, IGNORED))
    params = train_params(label_smoothing=0.1)
    batch = step_batch(data, params, MOVING, 0, 0, Worker())
    network = dense_network()
    losses = step_losses(network, batch, params, 0, 0, Worker(), task=TASK)
    assert losses.total.item() == 0
    losses.total.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and not weight.grad.any() for weight in network.parameters())


def test_maps_teach_their_two_likeliest_classes_as_they_are_stored() -> None:
    maps = np.zeros((2, 4, 4, 4), np.uint8)
    maps[:, 0], maps[:, 1], maps[:, 2], maps[:, 3] = 2, 0, 150, 60
    maps[0, 0, 0, 0] = IGNORED
    maps[1, 0] = maps[1, 1] = maps[1, 3] = 0  # as hard pseudo-labels come
    maps[1, 2] = 255
    shares, counts = TASK.taught(torch.from_numpy(maps), 4)
    expected = torch.from_numpy(map_probabilities(maps, 4))
    known = torch.from_numpy(maps[:, 0] != IGNORED)[:, None].expand_as(shares)
    assert torch.allclose(shares[known], expected[known], atol=1e-3)
    assert torch.allclose(shares.sum(dim=1), torch.ones(2, 4, 4))
    assert counts is not None
    assert counts[0, 0, 0] == 0
    assert counts[0, 1, 1] == pytest.approx(150 / 255)
    assert (counts[1] == 1).all()


def test_targets_move_with_their_images_and_only_the_class_is_ignored() -> None:
    _, masks = scenes(4, 0)
    warp = Warp(SIDE, SIDE)
    warp.shift(torch.tensor([3, 0, 0, 0]), torch.tensor([0, 2, 0, 0]), None)
    moved = TASK.warp(masks, warp)
    assert torch.equal(moved[0, :, 3:], masks[0, :, :-3])
    assert (moved[0, :, :3] == IGNORED).all()
    assert torch.equal(moved[2:], masks[2:])
    maps = torch.from_numpy(soft_maps(masks))
    carried = TASK.warp(maps, warp)
    assert torch.equal(carried[:, 0], moved)
    assert torch.equal(carried[0, 2, :, 3:], maps[0, 2, :, :-3])


@pytest.mark.parametrize("mix", ["cutmix", "classmix"])
def test_what_is_pasted_brings_its_classes_along(mix: Any) -> None:
    _, masks = scenes(8, 0)
    images = masks[:, None].float()
    augment = AugmentParams(mix=mix)
    maps = torch.from_numpy(soft_maps(masks))
    mixed, (targets, shown) = TASK.mix(images, [masks, maps], Draws(0, 8), augment, CLASSES)
    assert torch.equal(mixed[:, 0], targets.float())
    assert torch.equal(targets, shown[:, 0])
    pasted = targets != masks
    assert pasted.any()
    assert torch.equal(targets[pasted], masks.roll(-4, dims=0)[pasted])
    if mix == "classmix":
        for target, place in zip(targets, pasted, strict=True):
            assert len(target[place].unique()) <= 2


def test_calibration_samples_known_pixels_of_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "SAMPLED", 20 * 16)
    data = scene_data()
    assert data.validation_images is not None
    assert data.validation_labels is not None
    log_probs, classes = sampled_units(
        dense_network().eval(), data.validation_images, data.validation_labels, spec_of(data)
    )
    assert log_probs.shape == (20 * 16, CLASSES)
    assert set(classes.tolist()) == {0, 1, 2}
    assert np.allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)


def test_class_shares_are_of_known_pixels() -> None:
    data = scene_data()
    counts = data.labels[data.labels != IGNORED].long().bincount()
    assert data.class_shares(torch.device("cpu")).tolist() == (counts / counts.sum()).tolist()


def test_evidence_and_score_are_of_pixels_that_count() -> None:
    _, masks = scenes(5, 0)
    maps = soft_maps(masks)
    perfect = TASK.evidence(maps, masks.numpy(), CLASSES)
    assert perfect[:, :, 2].sum() == (masks != IGNORED).sum()
    assert TASK.scores(perfect).score == 1
    wrong = maps.copy()
    wrong[:, 0][maps[:, 0] == 2] = 1
    score = TASK.scores(TASK.evidence(wrong, masks.numpy(), CLASSES))
    both, more = int((masks == 1).sum()), int((masks == 2).sum())
    assert score.per_class == (1.0, both / (both + more), 0.0)
