from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.models.parts import features_read
from pipeline.params import OnlineParams
from pipeline.train.batch import step_batch
from pipeline.train.losses import contrastive_loss
from pipeline.train.objective import Losses, model_noise, step_losses
from pipeline.train.online import OnlineTeacher
from pipeline.train.training_data import TrainingData
from pipeline.train.worker import Worker
from tests.tiny import (
    PLAIN,
    STRONG,
    TASK,
    labeled_batch,
    pseudo_labeled_batch,
    stripe_data,
    tiny_network,
    train_params,
)

NETWORK = tiny_network()
ALL_SOFT = OnlineParams(confidence_threshold=0, label_kind="soft", distribution_alignment=False)


def losses(
    data: TrainingData, online: OnlineTeacher | None = None, augment: Any = PLAIN, **changes: Any
) -> Losses:
    network, train = tiny_network().train(), train_params(**changes)
    batch = step_batch(data, train, augment, 0, 3, Worker(), online=online is not None)
    return step_losses(network, batch, train, 0, 3, Worker(), online, task=TASK)


class Wrapped(nn.Module):
    """As torch's DistributedDataParallel holds a network."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.module(images)
        return logits


def logits_of(images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = tiny_network().train()(images)
    return logits


def test_it_is_the_sum_of_both_parts_by_hand() -> None:
    data = stripe_data(9, unlabeled=20)
    params = train_params(unlabeled_weight=0.5)
    labeled = labeled_batch(data, params, PLAIN, 0, 3, Worker())
    more, targets = pseudo_labeled_batch(data, params, PLAIN, 0, 3, Worker())
    logits = logits_of(torch.cat([labeled.images, more]))
    first = F.cross_entropy(logits[:6], labeled.labels)
    second = F.cross_entropy(logits[6:], targets)
    found = losses(data, unlabeled_weight=0.5)
    torch.testing.assert_close(found.total.detach(), first + 0.5 * second)
    torch.testing.assert_close(found.labeled.detach(), first)
    torch.testing.assert_close(found.pseudo.detach(), second)
    assert found.num_images == 18
    assert found.coverage.item() == 1


def test_what_is_taught_replaces_a_share_of_the_true_labels() -> None:
    plain = stripe_data(9)
    taught = torch.rand(9, 3, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    data = stripe_data(9, taught=taught)
    batch = labeled_batch(data, train_params(), PLAIN, 0, 3, Worker())
    assert batch.taught is not None
    for row, label in zip(batch.taught, batch.labels, strict=True):
        sources = taught[data.labels == label]
        assert any(torch.equal(row, source) for source in sources)
    logits = logits_of(batch.images)
    distilled = 4 * F.kl_div(
        (logits / 2).log_softmax(dim=1),
        (batch.taught.log() / 2).softmax(dim=1),
        reduction="batchmean",
    )
    truth = losses(plain).total.detach()
    how: dict[str, Any] = {"distillation_temperature": 2.0}
    torch.testing.assert_close(
        losses(data, distillation_weight=0.3, **how).total.detach(), 0.7 * truth + 0.3 * distilled
    )
    torch.testing.assert_close(
        losses(data, distillation_weight=1.0, **how).total.detach(), distilled
    )


def test_what_is_taught_is_mixed_as_the_labels_are() -> None:
    data = stripe_data(9)
    same = stripe_data(9, taught=torch.eye(3)[data.labels])
    mixing = STRONG.model_copy(update={"mix": "both"})
    batch = labeled_batch(same, train_params(), mixing, 0, 3, Worker())
    assert batch.taught is not None
    assert torch.equal(batch.taught, batch.labels)


def online_of(network: nn.Module, **changes: Any) -> OnlineTeacher:
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    params = ALL_SOFT.model_copy(update=changes)
    return OnlineTeacher(network, weights, torch.full((3,), 1 / 3), params)


def test_an_online_teacher_labels_the_weak_view_in_place_of_the_stored_labels() -> None:
    data = stripe_data(9, unlabeled=20)
    assert data.unlabeled_targets is not None
    wrong = stripe_data(9, unlabeled=20, unlabeled_targets=data.unlabeled_targets.roll(1, dims=1))
    assert losses(data).pseudo.item() != pytest.approx(losses(wrong).pseudo.item())
    first = losses(data, online_of(tiny_network(3))).pseudo.item()
    assert first == pytest.approx(losses(wrong, online_of(tiny_network(3))).pseudo.item())
    assert first != pytest.approx(losses(data, online_of(tiny_network(4))).pseudo.item())


def test_where_the_online_teacher_is_sure_of_nothing_only_the_labels_count() -> None:
    data = stripe_data(9, unlabeled=20)
    found = losses(data, online_of(tiny_network(), confidence_threshold=1.0))
    assert found.pseudo.item() == found.coverage.item() == 0
    torch.testing.assert_close(found.total, found.labeled)


def test_two_views_of_the_same_images_are_contrasted_by_what_the_classifier_reads() -> None:
    data = stripe_data(9, unlabeled=20)
    train = train_params(contrastive_weight=0.5, contrastive_temperature=0.3)
    batch = step_batch(data, train, STRONG, 0, 3, Worker())
    plain = step_batch(data, train_params(), STRONG, 0, 3, Worker())
    assert batch.noised is not None
    assert plain.noised is not None
    assert batch.second is not None
    assert plain.second is None
    assert torch.equal(batch.noised, plain.noised)
    assert not torch.equal(batch.second, batch.noised)
    unmoved = step_batch(data, train, PLAIN, 0, 3, Worker())
    assert unmoved.noised is not None
    assert unmoved.second is not None
    assert torch.equal(unmoved.second, unmoved.noised)

    images = torch.cat([batch.labeled.images, batch.noised, batch.second])
    assert batch.targets is not None
    network = tiny_network().train()
    with features_read(network) as passes:
        logits = network(images)
    (read,) = passes
    contrast = contrastive_loss(read[6:18], read[18:], temperature=0.3)
    labeled = F.cross_entropy(logits[:6], batch.labeled.labels)
    pseudo = F.cross_entropy(logits[6:18], batch.targets)
    found = step_losses(tiny_network().train(), batch, train, 0, 3, Worker(), task=TASK)
    assert found.contrastive is not None
    torch.testing.assert_close(found.contrastive, contrast)
    torch.testing.assert_close(found.total, labeled + pseudo + 0.5 * contrast)
    torch.testing.assert_close(found.pseudo, pseudo)
    assert found.num_images == train.images_a_step(taught=True) == 30


def test_an_online_teacher_and_contrast_see_the_same_images() -> None:
    data = stripe_data(9, unlabeled=20)
    train = train_params(contrastive_weight=1.0)
    batch = step_batch(data, train, PLAIN, 0, 3, Worker(), online=True)
    assert batch.weak is not None
    assert batch.second is not None
    assert torch.equal(batch.second, batch.weak)
    teacher = online_of(NETWORK)
    found = step_losses(tiny_network().train(), batch, train, 0, 3, Worker(), teacher, task=TASK)
    assert found.contrastive is not None
    torch.testing.assert_close(found.total, found.labeled + found.pseudo + found.contrastive)


def test_views_are_contrasted_in_a_network_that_is_wrapped_for_several_workers() -> None:
    data, train = stripe_data(9, unlabeled=20), train_params(contrastive_weight=1.0)
    batch = step_batch(data, train, STRONG, 0, 3, Worker())
    plain = step_losses(tiny_network().train(), batch, train, 0, 3, Worker(), task=TASK)
    wrapped = Wrapped(tiny_network().train())
    found = step_losses(wrapped, batch, train, 0, 3, Worker(), task=TASK)
    torch.testing.assert_close(found.total, plain.total)


def test_training_images_may_be_smaller_than_stored() -> None:
    stored = stripe_data(9).images.repeat(1, 1, 2, 2)
    how = (PLAIN, 0, 3, Worker())
    batch = labeled_batch(stripe_data(9, images=stored), train_params(), *how).images
    smaller = labeled_batch(stripe_data(9, images=stored), train_params(image_size=8), *how).images
    assert smaller.shape == (6, 1, 8, 8)
    torch.testing.assert_close(smaller.mean(dim=(2, 3)), batch.mean(dim=(2, 3)), atol=0.1, rtol=0)


CPU = torch.device("cpu")


def drawn(seed: int = 0, step: int = 0, rank: int = 0) -> list[float]:
    with model_noise(seed, step, rank, CPU):
        return [float(value) for value in torch.rand(4)]


def test_seed_step_and_rank_decide_the_draws_and_nothing_else() -> None:
    torch.rand(1)
    first = drawn(1, 2, 3)
    torch.rand(1)
    assert drawn(1, 2, 3) == first
    others = [drawn(0, 2, 3), drawn(1, 0, 3), drawn(1, 2, 0), drawn(2, 1, 3)]
    assert all(other != first for other in others)


def test_the_default_generator_is_left_as_it_was() -> None:
    before = torch.get_rng_state()
    drawn()
    assert torch.equal(torch.get_rng_state(), before)
