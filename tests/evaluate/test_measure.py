"""A network is measured shard by shard, to the same bytes as with all images in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.shards import read_manifest
from pipeline.data.tensors import load_images
from pipeline.evaluate.checkpoints import checkpoint_log_probs
from pipeline.evaluate.measure import measure_network
from pipeline.evaluate.run import ModelResult, save_result
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.params import ModelParams
from tests.tiny import CLASSES, SIDE, prepared_stripes

VIEWS: dict[str, Any] = {"jitter_views": 3, "batch_size": 20, "seed": 4}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder with several shards of test images, and the folder of a model."""
    made = tmp_path_factory.mktemp("made")
    prepared_stripes(made / "prepared", 300)
    network = ModelParams(width=4).network
    spec = ModelSpec(network, list(CLASSES), SIDE, 1, [0.3], [0.25], "0")
    save_checkpoint(made / "model", network_of(spec).state_dict(), spec)
    return made


def measured(made: Path, view: str, **changes: Any) -> ModelResult:
    how: dict[str, Any] = {"knn": None, "robustness_images": None, "device": "cpu"}
    return measure_network(
        made / "model",
        made / "prepared",
        views=view,
        threads=1,
        interval=0.95,
        advance=lambda amount=1, note="": None,
        **(how | VIEWS | changes),
    )


@pytest.mark.parametrize("view", ["centre", "flip", "jitter"])
def test_log_probabilities_are_those_of_the_whole_set_in_memory(made: Path, view: str) -> None:
    result = measured(made, view)
    test = load_images(made / "prepared" / "test")
    assert len(read_manifest(made / "prepared" / "test").shards) > 2
    expected = checkpoint_log_probs(
        load_checkpoint(made / "model"), test.images, view=view, **VIEWS
    )
    np.testing.assert_array_equal(result.test_log_probs, expected)
    assert result.test_labels.tolist() == test.labels.tolist()


def test_neighbours_and_corruptions_read_shards_too(made: Path, tmp_path: Path) -> None:
    more = {"knn": 3, "robustness_images": 5}
    for name in ("a", "b"):
        save_result(tmp_path / name, measured(made, "centre", **more))
    assert (tmp_path / "a/result.json").read_bytes() == (tmp_path / "b/result.json").read_bytes()
    assert measured(made, "centre", **more).robustness is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_what_the_cpu_says(made: Path) -> None:
    cpu, gpu = (measured(made, "flip", device=device) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.test_log_probs, cpu.test_log_probs, atol=1e-2)
