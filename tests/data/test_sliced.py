from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.data.shards import read_manifest, shard_name
from pipeline.data.sliced import ShardSlices
from pipeline.data.sources import Row
from pipeline.data.tensors import decoding_pool, load_images
from pipeline.errors import DataError
from tests.data.helpers import ListSource, encoded, noise, run_prepare
from tests.tiny import prepared_stripes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unlabelled stripes in several shards of 16."""
    return prepared_stripes(tmp_path_factory.mktemp("made")) / "unlabeled"


@pytest.mark.parametrize("size", [1, 5, 16, 40, 1000])
def test_slices_are_those_of_all_images_together(folder: Path, size: int) -> None:
    whole = load_images(folder).images
    assert len(read_manifest(folder).shards) > 2
    with decoding_pool(2) as pool:
        slices = ShardSlices(folder, pool)
        assert len(slices) == len(whole)
        for _ in range(2):  # from the start again
            parts = [slices[at : at + size] for at in range(0, len(slices), size)]
            assert torch.equal(torch.cat(parts), whole)
        assert slices[3:3].shape == (0, *whole.shape[1:])


def test_two_shards_at_most_are_in_memory(folder: Path) -> None:
    with decoding_pool(1) as pool:
        slices = ShardSlices(folder, pool)
        for at in range(0, len(slices), 7):
            _ = slices[at : at + 7]
            assert len(slices._decoded) <= 2
        assert len(read_manifest(folder).shards) - 1 in slices._decoded


def test_a_shard_that_is_not_as_noted_is_refused(tmp_path: Path) -> None:
    folder = prepared_stripes(tmp_path) / "unlabeled"
    (folder / shard_name(0)).write_bytes(b"no shard")
    with decoding_pool(1) as pool, pytest.raises(DataError, match="shard"):
        _ = ShardSlices(folder, pool)[0:4]


def test_jpegs_are_decoded_for_networks_in_inference_mode(tmp_path: Path) -> None:
    rows = [
        Row(f"{number}", encoded(noise(number, 16, 3), "JPEG"), number % 2) for number in range(60)
    ]
    options: dict[str, Any] = {"image_size": 16, "channels": 3, "images_per_shard": 8}
    run_prepare(ListSource(rows), tmp_path, test_fraction=0.5, **options)
    whole = load_images(tmp_path / "test").images
    with torch.inference_mode(), decoding_pool(2) as pool:
        slices = ShardSlices(tmp_path / "test", pool)
        parts = [slices[at : at + 8] for at in range(0, len(slices), 8)]
    assert len(parts) > 2
    assert torch.equal(torch.cat(parts), whole)
