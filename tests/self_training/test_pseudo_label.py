"""What features add to a folder of predictions."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.predictions import read_predictions
from pipeline.data.shards import read_manifest, read_shard
from pipeline.data.tensors import load_images
from pipeline.labels.pool import network_features
from pipeline.labels.predict import finish_predictions, predict_folder
from pipeline.labels.propagate import combine_with_neighbors
from pipeline.labels.teaching import refine_predictions
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params import EvaluateParams, PropagationParams
from pipeline.tasks.classification import TASK
from tests.tiny import prepared_stripes, save_model

NEIGHBORS = PropagationParams(num_neighbors=5)


def refined(folder: Path, propagation: PropagationParams | None) -> dict[str, NDArray[Any]]:
    """Predictions of a tiny model in folder/alone, refined in folder/refined; what they rest on."""
    prepared = prepared_stripes(folder / "prepared")
    save_model(folder / "teacher", seed=1)
    unlabeled, labeled = prepared / "unlabeled", prepared / "labeled"
    predict_folder(folder / "teacher", unlabeled, folder / "alone", EvaluateParams(threads=1))
    network = load_checkpoint(folder / "teacher").network
    embed = network_features(network, mean=(0.3,), std=(0.25,), batch_size=16)
    images, known = load_images(unlabeled), load_images(labeled)
    arrays = {
        "features": embed(images.images).numpy(),
        "labeled_features": embed(known.images).numpy(),
        "labels": known.targets.numpy(),
        "strangers": np.arange(len(images)) % 3 == 0,
    }
    refine_predictions(folder / "alone", folder / "refined", propagation=propagation, **arrays)
    finish_predictions(unlabeled, folder / "refined", 3)
    return arrays


def test_neighbours_are_asked_over_all_shards_and_strangers_marked(tmp_path: Path) -> None:
    arrays = refined(tmp_path, NEIGHBORS)
    before, after = (list(read_predictions(tmp_path / name, TASK)) for name in ("alone", "refined"))
    assert [shard.ids for shard in after] == [shard.ids for shard in before]
    assert len(after) > 1
    log_probs = np.concatenate([shard.values for shard in before])
    expected = combine_with_neighbors(
        log_probs,
        arrays["labeled_features"],
        arrays["labels"],
        arrays["features"],
        NEIGHBORS,
    )
    found = np.concatenate([shard.values for shard in after])
    np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-3)
    marked = np.concatenate([shard.strangers for shard in after])
    np.testing.assert_array_equal(marked, arrays["strangers"])
    for folder in ("alone", "refined"):
        shard = read_manifest(tmp_path / folder).shards[0]
        metadata = read_shard(tmp_path / folder / shard.file, ["id"]).schema.metadata
        assert metadata[b"precision"] == b"float32"


def test_without_neighbours_the_predictions_stay(tmp_path: Path) -> None:
    refined(tmp_path, None)
    before, after = (list(read_predictions(tmp_path / name, TASK)) for name in ("alone", "refined"))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.strangers is None
