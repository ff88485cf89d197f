import pytest
import torch
from torch import Tensor, nn

from pipeline.params import OnlineParams
from pipeline.train.online import MEAN_DECAY, OnlineTeacher
from tests.tiny import tiny_network

UNIFORM = torch.full((3,), 1 / 3)
PLAIN = OnlineParams(
    confidence_threshold=0.0, label_kind="soft", temperature=1.0, distribution_alignment=False
)


def teacher(network: nn.Module, prior: Tensor = UNIFORM, **changes: object) -> OnlineTeacher:
    params = PLAIN.model_copy(update=changes)
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    return OnlineTeacher(network, weights, prior, params)


def noisy() -> nn.Module:
    return tiny_network(dropout_rate=0.5).train()


WEAK = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def expected() -> Tensor:
    """What the network says without noise, image by image."""
    network = tiny_network().eval()
    with torch.no_grad():
        return torch.cat([network(image[None]).softmax(dim=1) for image in WEAK])


def test_it_says_what_the_averaged_weights_say_without_noise_and_leaves_the_network_training() -> (
    None
):
    network = noisy()
    network.get_submodule("stem.1").eval().requires_grad_(False)  # a frozen layer
    online = teacher(network)
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()  # the student goes on; its average does not
    before = {key: value.clone() for key, value in network.state_dict().items()}
    targets, kept = online.targets(WEAK)
    torch.testing.assert_close(targets, expected())
    assert kept.tolist() == [1.0] * 16
    assert network.training
    assert not network.get_submodule("stem.1").training
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_only_sure_images_count() -> None:
    confidence = expected().max(dim=1).values
    threshold = confidence.median().item()
    _, kept = teacher(noisy(), confidence_threshold=threshold).targets(WEAK)
    assert kept.tolist() == [float(c >= threshold) for c in confidence.tolist()]
    assert 0 < kept.sum() < 16


def test_hard_targets_are_the_likeliest_class() -> None:
    targets, _ = teacher(noisy(), label_kind="hard").targets(WEAK)
    assert torch.equal(targets, nn.functional.one_hot(expected().argmax(dim=1), 3).float())


def test_a_temperature_sharpens() -> None:
    targets, _ = teacher(noisy(), temperature=0.5).targets(WEAK)
    squared = expected() ** 2
    torch.testing.assert_close(targets, squared / squared.sum(dim=1, keepdim=True))


def test_alignment_scales_by_the_prior_over_the_running_mean() -> None:
    prior = torch.tensor([0.5, 0.3, 0.2])
    online = teacher(noisy(), prior=prior, distribution_alignment=True)
    mean = prior.clone()
    for _ in range(3):
        targets, _ = online.targets(WEAK)
        mean = MEAN_DECAY * mean + (1 - MEAN_DECAY) * expected().mean(dim=0)
    scaled = expected() * prior / mean
    torch.testing.assert_close(targets, scaled / scaled.sum(dim=1, keepdim=True))
    torch.testing.assert_close(online.mean, mean)


def test_alignment_brings_a_class_that_is_seldom_predicted_up() -> None:
    online = teacher(noisy(), distribution_alignment=True)
    for _ in range(500):
        targets, _ = online.targets(WEAK)
    distance = (targets.mean(dim=0) - UNIFORM).abs().max()
    assert distance < (expected().mean(dim=0) - UNIFORM).abs().max() / 2


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_running_mean_is_that_of_the_whole_batch(world_size: int) -> None:
    alone = teacher(noisy(), distribution_alignment=True)
    alone.targets(WEAK)
    means = expected()
    parts = [means[rank::world_size].mean(dim=0) for rank in range(world_size)]
    network = noisy()
    together = OnlineTeacher(
        network,
        {key: value.clone() for key, value in network.state_dict().items()},
        UNIFORM,
        PLAIN.model_copy(update={"distribution_alignment": True}),
        across_workers=lambda values: torch.stack(parts).mean(dim=0),
    )
    together.targets(WEAK[::world_size])
    torch.testing.assert_close(together.mean, alone.mean)


class Dense(nn.Module):
    """Says of each pixel what its image says."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = tiny_network()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.whole(images)
        return logits[:, :, None, None].repeat(1, 1, 2, 4)


@pytest.mark.parametrize("changes", [{"label_kind": "hard"}, {"distribution_alignment": True}])
def test_pixels_are_taught_as_images_are(changes: dict[str, object]) -> None:
    prior = torch.tensor([0.5, 0.3, 0.2])
    changes = {"confidence_threshold": 0.36, **changes}
    one, many = (teacher(each, prior, **changes) for each in (tiny_network(), Dense()))
    (targets, counts), (pixels, places) = one.targets(WEAK), many.targets(WEAK)
    assert pixels.shape == (16, 3, 2, 4)
    torch.testing.assert_close(pixels, targets[:, :, None, None].expand_as(pixels))
    assert torch.equal(places, counts[:, None, None].expand_as(places))
    torch.testing.assert_close(one.mean, many.mean)
