from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.features import features_metadata, load_features
from pipeline.data.stored_shards import finish_derived, missing_shards
from pipeline.data.tensors import load_images
from pipeline.errors import ModelError
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.embed import ShardEmbedder, save_body
from pipeline.models.parts import batched_features, features_read, mean_features
from pipeline.models.pretrained import Weights
from pipeline.models.spec import read_spec
from tests.tiny import prepared_stripes, save_model, tiny_network, tiny_spec


def embedded(prepared: Path, body: Path, out: Path) -> None:
    images = prepared / "unlabeled"
    work = ShardEmbedder((body,), images, out, batch_size=5)
    for number in reversed(missing_shards(images, out)):
        work(number)
    finish_derived(images, out, features_metadata(images, "body", 8))


def test_every_image_has_what_the_classifier_reads_of_it(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    save_model(tmp_path / "body", seed=3)
    embedded(prepared, tmp_path / "body", tmp_path / "one")
    embedded(prepared, tmp_path / "body", tmp_path / "two")
    checkpoint = load_checkpoint(tmp_path / "body")
    images = load_images(prepared / "unlabeled").images
    spec = checkpoint.spec
    expected = batched_features(checkpoint.network, images, mean=spec.mean, std=spec.std)
    found = load_features(tmp_path / "one", prepared / "unlabeled")
    np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=1e-4)
    for shard in (tmp_path / "one").glob("*.parquet"):
        assert shard.read_bytes() == (tmp_path / "two" / shard.name).read_bytes()


def test_a_body_has_the_weights_of_its_source_and_a_classifier_of_zeros(tmp_path: Path) -> None:
    source = tiny_network(seed=7, num_classes=5)
    weights = Weights(dict(source.state_dict()), mean=(0.4,), std=(0.2,))
    assert save_body(tmp_path / "body", tiny_spec(), weights, "file") == 8
    checkpoint = load_checkpoint(tmp_path / "body")
    assert (checkpoint.spec.mean, checkpoint.spec.generation) == ([0.4], "body")
    saved = checkpoint.network.state_dict()
    for key, value in source.state_dict().items():
        if key.startswith("classifier"):
            assert not saved[key].any()
        else:
            assert torch.equal(saved[key], value)
    assert read_spec(tmp_path / "body").notes == {"classifier": "classifier"}


@pytest.mark.slow
def test_a_network_of_two_classifiers_is_no_body(tmp_path: Path) -> None:
    import timm

    name = "deit_tiny_distilled_patch16_224"
    network = timm.create_model(name, num_classes=3)
    spec = tiny_spec(network={"name": f"timm/{name}"}, image_size=224, channels=3)
    spec = type(spec)(**(vars(spec) | {"mean": [0.5] * 3, "std": [0.5] * 3}))
    with pytest.raises(ModelError, match="ends in more than one classifier"):
        save_body(tmp_path / "body", spec, Weights(dict(network.state_dict())), "timm")


@pytest.mark.parametrize("filled_up", [0, 3])
def test_features_of_several_views_are_averaged_image_by_image(filled_up: int) -> None:
    network = tiny_network().eval()
    images = torch.randn(7, 1, 8, 8)
    with torch.no_grad(), features_read(network) as read:
        for part in (images[:4], images[4:]):
            rest = torch.zeros(4 - len(part) if filled_up else 0, 1, 8, 8)
            for view in (part, part.flip(-1)):
                network(torch.cat([view, rest]))
    found = mean_features(read, 7, 2)
    with torch.no_grad(), features_read(network) as whole:
        network(images)
        network(images.flip(-1))
    assert torch.allclose(found, (whole[0] + whole[1]) / 2, atol=1e-5)


def test_a_node_that_does_not_see_the_images_keeps_what_the_driver_has_read(
    tmp_path: Path,
) -> None:
    images = prepared_stripes(tmp_path / "prepared") / "unlabeled"
    work = ShardEmbedder((tmp_path / "body",), images, tmp_path / "out", batch_size=5)
    rows = work.manifest.rows
    images.rename(tmp_path / "elsewhere")
    there = work.fetched(lambda path: tmp_path / "node" / path.name)
    assert (there.models, there.manifest.rows) == ((tmp_path / "node" / "body",), rows)
    assert work.models == (tmp_path / "body",)
