"""Every network falls into an ordered body and its classifier, without rest or overlap."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import ModelError
from pipeline.models.build import build_network
from pipeline.models.parts import (
    batched_features,
    features,
    network_parts,
)
from tests.tiny import striped, tiny_network

# name, stages before the classifier, the classifier
NETWORKS = [
    ("resnet18", 5, "fc"),
    ("mobilenet_v3_small", 14, "classifier.3"),
    ("densenet121", 8, "classifier"),
    ("vgg11", 10, "classifier.6"),
    ("efficientnet_b0", 9, "classifier.1"),
    ("vit_b_16", 13, "heads.head"),
    ("squeezenet1_1", 9, "classifier.1"),
    ("timm/resnet18", 5, "fc"),
    ("timm/vit_tiny_patch16_224", 13, "head"),
    ("timm/convnext_atto", 5, "head.fc"),
    ("timm/efficientnet_b0", 9, "classifier"),
    ("timm/vgg11", 9, "head.fc"),
]


def library_network(name: str) -> nn.Module:
    """The network without memory for its weights."""
    import timm
    from torchvision import models

    library, _, bare = name.rpartition("/")
    make = timm.create_model if library == "timm" else models.get_model
    with torch.device("meta"):
        network: nn.Module = make(bare, num_classes=7)
    return network


@pytest.mark.parametrize(("name", "stages", "head"), NETWORKS)
def test_every_weight_is_in_exactly_one_part(name: str, stages: int, head: str) -> None:
    network = library_network(name)
    parts = network_parts(network)
    assert (len(parts.stages), parts.head) == (stages, (head,))
    names = [*(name for stage in parts.stages for name in stage), *parts.head]
    for key, _ in network.named_parameters():
        holders = [name for name in names if key == name or key.startswith(f"{name}.")]
        assert len(holders) == 1, key


def test_stages_follow_the_input() -> None:
    network = build_network(
        "resnet_small", num_classes=3, channels=1, image_size=8, seed=0, width=4, depth=2
    )
    parts = network_parts(network)
    assert parts.stages == (("stem",), *((f"blocks.{number}",) for number in range(6)))
    assert parts.head == ("classifier",)
    stages = [parts.stage_of(key) for key, _ in network.named_parameters()]
    assert stages == [*sorted(s for s in stages if s is not None), None, None]
    with pytest.raises(KeyError):
        parts.stage_of("elsewhere.weight")


def test_weights_that_a_network_holds_itself_go_with_their_neighbours() -> None:
    parts = network_parts(library_network("timm/vit_tiny_patch16_224"))
    assert parts.stages[0] == ("cls_token", "pos_embed", "patch_embed")
    assert parts.stages[-1] == ("blocks.11", "norm")


def test_two_classifiers_of_one_network_are_both_its_head() -> None:
    parts = network_parts(library_network("timm/deit_tiny_distilled_patch16_224"))
    assert parts.head == ("head", "head_dist")


def test_what_ends_in_no_classifier_is_refused() -> None:
    with pytest.raises(ModelError, match="no linear or convolutional classifier"):
        network_parts(nn.Sequential(nn.BatchNorm2d(3)))


@pytest.mark.parametrize("name", ["resnet_small", "mobilenet_v3_small", "timm/resnet18"])
def test_the_classifier_makes_the_logits_of_the_features(name: str) -> None:
    network = build_network(name, num_classes=5, channels=1, image_size=32, seed=0).eval()
    images = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = features(network, images)
        head = network.get_submodule(network_parts(network).head[0])
        torch.testing.assert_close(head(seen), network(images))


def test_features_of_our_network_are_the_means_of_its_last_maps() -> None:
    network = tiny_network().eval()
    images = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        maps = network.get_submodule("blocks")(network.get_submodule("stem")(images))
        torch.testing.assert_close(features(network, images), maps.mean(dim=(2, 3)))


def test_what_a_convolutional_classifier_reads_is_averaged() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1))
    images = torch.randn(3, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(features(network, images), network[0](images).mean(dim=(2, 3)))


def test_batches_make_no_difference_and_the_modes_stay() -> None:
    network = tiny_network(dropout_rate=0.5, stochastic_depth_rate=0.5)
    network.get_submodule("stem").eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = striped(torch.arange(7) % 3, seed=0)
    whole = batched_features(network, images, mean=(0.3,), std=(0.25,))
    parts = batched_features(network, images, mean=(0.3,), std=(0.25,), batch_size=2)
    torch.testing.assert_close(whole, parts)
    assert network.training
    assert not network.get_submodule("stem").training
    assert network.get_submodule("blocks").training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with torch.no_grad():
        pixels = (images.float() / 255 - 0.3) / 0.25
        torch.testing.assert_close(whole, features(network.eval(), pixels))
