from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from pipeline.data.features import features_metadata, features_table, load_features
from pipeline.data.shards import iter_shards, read_labels, read_manifest
from pipeline.data.stored_shards import finish_derived, write_derived
from pipeline.errors import DataError
from pipeline.train.head import choose_l2
from pipeline.train.head_baseline import feature_baseline
from tests.tiny import CLASSES, prepared_stripes

PARTS = ("labeled", "validation", "test")


def embedded(prepared: Path, out: Path) -> Path:
    """Features of a prepared folder: four noisy ones of each image, in which its class shows."""
    for number, part in enumerate(PARTS):
        generator = np.random.default_rng(number)
        shards = read_manifest(prepared / part).shards
        for shard, table in zip(shards, iter_shards(prepared / part, ["id", "label"]), strict=True):
            labels = table.column("label").to_numpy()
            features = generator.normal(size=(table.num_rows, 4))
            features[np.arange(len(labels)), labels] += 1.5
            ids = table.column("id").to_pylist()
            write_derived(out / part, shard.file, features_table(ids, features))
        noted = features_metadata(prepared / part, "body", 4)
        finish_derived(prepared / part, out / part, noted, manifest_in=out / part)
    return out


def test_it_is_scikit_learns_logistic_regression_on_all_labels(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared", count=150, validation_fraction=0.25)
    features = embedded(prepared, tmp_path / "features")
    result = feature_baseline(prepared, features, len(CLASSES), seed=0)
    seen, labels = (
        np.concatenate([load_features(features / part, prepared / part) for part in PARTS[:2]]),
        np.concatenate([read_labels(prepared / part) for part in PARTS[:2]]),
    )
    l2 = choose_l2(seen, labels, len(CLASSES), seed=0).l2
    scaler = StandardScaler().fit(seen.astype(np.float64))
    peer = LogisticRegression(C=1 / l2, tol=1e-9, max_iter=2000)
    peer.fit(scaler.transform(seen), labels)
    test = load_features(features / "test", prepared / "test").astype(np.float64)
    right = peer.predict(scaler.transform(test)) == read_labels(prepared / "test")
    assert result.name == "logistic regression on features"
    assert result.accuracy is not None
    assert result.accuracy == right.mean()
    assert result.low is not None
    assert result.high is not None
    assert 1 / len(CLASSES) < result.low < result.accuracy < result.high


def test_features_of_other_images_are_refused(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    features = embedded(prepared, tmp_path / "features")
    other = prepared_stripes(tmp_path / "other", count=60)
    with pytest.raises(DataError, match="run the stage embed again"):
        feature_baseline(other, features, len(CLASSES), seed=0)
