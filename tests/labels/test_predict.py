import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.data.features import features_metadata
from pipeline.data.predictions import read_predictions
from pipeline.data.shards import read_manifest, read_shard
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import (
    derived_entries,
    finish_derived,
    missing_shards,
    stored_prefix,
)
from pipeline.data.tensors import load_images
from pipeline.errors import CheckpointError, DataError
from pipeline.evaluate.checkpoints import checkpoint_predictions
from pipeline.labels.predict import ShardPredictor, finish_predictions, predict_folder
from pipeline.models import passes
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.embed import ShardEmbedder
from pipeline.models.head import save_head
from pipeline.models.spec import model_digest
from pipeline.params import EvaluateParams, PredictParams, ViewParams
from pipeline.tasks.classification import TASK
from tests.data.helpers import ids
from tests.models.test_head import body, some_head
from tests.tiny import CLASSES, prepared_stripes, save_model

TEMPERATURE = 0.002


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared images in shards of 16 rows, and a teacher, cold so that no two look alike."""
    folder = tmp_path_factory.mktemp("project")
    prepared_stripes(folder / "prepared")
    save_model(folder / "teacher", seed=1, temperature=TEMPERATURE)
    return folder


def predictor(project: Path, out: Path | StoredFolder, **changes: Any) -> ShardPredictor:
    values: dict[str, Any] = {"views": "jitter", "jitter_views": 2, "batch_size": 5}
    values |= {"device": "cpu", "precision": "float32"}
    values |= {name: changes.pop(name) for name in PredictParams.model_fields if name in changes}
    options: dict[str, Any] = {
        "models": (project / "teacher",),
        "folder": project / "prepared" / "unlabeled",
        "out": out,
        "params": PredictParams(**values),
        "seed": 0,
    }
    return ShardPredictor(**(options | changes))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_predictions_are_the_teachers_in_the_order_of_the_ids(
    project: Path, tmp_path: Path
) -> None:
    unlabeled = project / "prepared" / "unlabeled"
    predict = predictor(project, tmp_path, views="centre")
    shards = read_manifest(unlabeled).shards
    assert len(shards) > 1
    assert [predict(number) for number in range(len(shards))] == [e.rows for e in shards]
    manifest = finish_predictions(unlabeled, tmp_path, 3)
    assert manifest.metadata == {"num_classes": 3}
    images, teacher = load_images(unlabeled), load_checkpoint(project / "teacher")
    found = list(read_predictions(tmp_path, TASK))
    assert [name for shard in found for name in shard.ids] == ids(project / "prepared", "unlabeled")
    for number, entry in enumerate(shards):
        assert found[number].shard.tolist() == [number] * entry.rows
        assert found[number].row.tolist() == list(range(entry.rows))
    pixels = (images.images.float() / 255 - 0.3) / 0.25
    with torch.no_grad():
        expected = torch.log_softmax(teacher.network(pixels) / TEMPERATURE, dim=1).numpy()
    assert expected.std(axis=0).max() > 1
    np.testing.assert_allclose(
        np.concatenate([shard.values for shard in found]), expected, rtol=2e-3, atol=2e-3
    )


def test_the_same_shard_gives_the_same_bytes_in_whatever_order(
    project: Path, tmp_path: Path
) -> None:
    count = len(read_manifest(project / "prepared" / "unlabeled").shards)
    first = predictor(project, tmp_path / "a")
    for number in range(count):
        first(number)
    for number in reversed(range(count)):  # each by a predictor of its own
        predictor(project, tmp_path / "b")(number)
    again = predictor(project, tmp_path / "a")
    again(0)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    other = predictor(project, tmp_path / "c", seed=100)
    other(0)
    assert (
        files(tmp_path / "c")["shard_00000.parquet"] != files(tmp_path / "a")["shard_00000.parquet"]
    )


def test_a_long_prediction_says_the_same_in_whatever_order_and_notes_its_precision(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    predict = predictor(project, tmp_path / "short", views="flip")
    count = len(predict.manifest.shards)
    for number in range(count):
        predict(number)
    monkeypatch.setattr(passes, "LONG_WORK", 1.0)
    how = {"views": "flip", "batch_size": 512, "precision": "bfloat16"}
    for number in range(count):
        predictor(project, tmp_path / "long", **how)(number)
    for number in reversed(range(count)):
        predictor(project, tmp_path / "again", **how)(number)
    assert files(tmp_path / "long") == files(tmp_path / "again")
    noted, found = {}, {}
    for name in ("short", "long"):
        shard = tmp_path / name / "shard_00000.parquet"
        noted[name] = pq.read_schema(shard).metadata[b"precision"]
        finish_predictions(predict.folder, tmp_path / name, 3)
        shards = [np.exp(shard.values) for shard in read_predictions(tmp_path / name, TASK)]
        found[name] = np.concatenate(shards)
    assert noted == {"short": b"float32", "long": b"bfloat16"}
    assert np.abs(found["short"] - found["long"]).max() > 0
    assert (found["short"].argmax(1) == found["long"].argmax(1)).mean() > 0.7  # a cold teacher


def test_a_predictor_travels_before_and_after_use(project: Path, tmp_path: Path) -> None:
    predict = predictor(project, tmp_path)
    assert pickle.loads(pickle.dumps(predict))(0) == 16
    predict(1)
    assert pickle.loads(pickle.dumps(predict))(1) == 16


def test_missing_or_cut_shards_are_noticed_and_done_again(project: Path, tmp_path: Path) -> None:
    unlabeled = project / "prepared" / "unlabeled"
    predict = predictor(project, tmp_path)
    count = len(predict.manifest.shards)
    assert missing_shards(unlabeled, tmp_path) == list(range(count))
    for number in range(count):
        predict(number)
    assert missing_shards(unlabeled, tmp_path) == []
    whole = files(tmp_path)
    names = sorted(whole)
    (tmp_path / names[0]).write_bytes(whole[names[0]][:-20])
    (tmp_path / names[1]).unlink()
    (tmp_path / names[2]).write_bytes(whole[names[0]] if count > 3 else b"")
    left = missing_shards(unlabeled, tmp_path)
    assert {0, 1} <= set(left)
    with pytest.raises(DataError, match="are missing") as caught:
        finish_predictions(unlabeled, tmp_path, 3)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "manifest.json").exists()
    for number in range(count):
        predict(number)
    assert files(tmp_path) == whole
    finish_predictions(unlabeled, tmp_path, 3)


def test_an_altered_input_or_missing_teacher_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nobody"):
        predictor(project, tmp_path / "out", models=(tmp_path / "nobody",))(0)
    prepared = prepared_stripes(tmp_path / "prepared")
    shard = prepared / "unlabeled" / "shard_00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match="shard_00000"):
        predictor(project, tmp_path / "out", folder=prepared / "unlabeled")(0)
    assert not (tmp_path / "out").exists()


def test_the_views_asked_are_those_averaged(project: Path, tmp_path: Path) -> None:
    predict = predictor(project, tmp_path, views="flip")
    predict(0)
    images = load_images(predict.folder).images[:16]
    teacher = load_checkpoint(project / "teacher")
    flipped = checkpoint_predictions(teacher, images, ViewParams(views="flip"))
    centre = checkpoint_predictions(teacher, images)
    for number in range(1, len(predict.manifest.shards)):
        predict(number)
    finish_predictions(predict.folder, tmp_path, 3)
    found = next(iter(read_predictions(tmp_path, TASK))).values
    np.testing.assert_allclose(found, flipped, rtol=2e-3, atol=2e-3)
    assert np.abs(found - centre).max() > 0.1


def test_an_ensemble_is_the_mean_of_members_that_each_see_as_they_were_trained_to(
    project: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "other", seed=2, temperature=0.01, mean=[0.6], std=[0.5])
    models = (project / "teacher", tmp_path / "other")
    predict = predictor(project, tmp_path / "both", models=models, views="flip")
    predict(0)
    alone = []
    for number, model in enumerate(models):
        out = tmp_path / f"alone_{number}"
        predictor(project, out, models=(model,), views="flip")(0)
        alone.append(probabilities(out))
    assert np.abs(alone[0] - alone[1]).max() > 0.3
    np.testing.assert_allclose(
        probabilities(tmp_path / "both"), (alone[0] + alone[1]) / 2, atol=2e-3
    )


def test_a_classifier_on_features_and_a_network_are_one_teacher(
    project: Path, tmp_path: Path
) -> None:
    images = project / "prepared" / "unlabeled"
    embed = ShardEmbedder((body(tmp_path / "body"),), images, tmp_path / "features", 5)
    for number in missing_shards(images, tmp_path / "features"):
        embed(number)
    noted = features_metadata(images, model_digest(tmp_path / "body"), 8)
    finish_derived(images, tmp_path / "features", noted, manifest_in=tmp_path / "features")
    save_head(tmp_path / "1", some_head(8), tmp_path / "body", generation="1", classes=CLASSES)
    models = (tmp_path / "1", project / "teacher")
    alone = []
    for number, members in enumerate(((models[0],), (models[1],), models)):
        out = tmp_path / f"out_{number}"
        seen = {"models": members, "views": "centre", "features": tmp_path / "features"}
        predictor(project, out, **seen)(0)
        alone.append(probabilities(out))
    assert np.abs(alone[0] - alone[1]).max() > 0.3
    np.testing.assert_allclose(alone[2], (alone[0] + alone[1]) / 2, atol=2e-3)


def probabilities(out: Path) -> Any:
    """Of the first shard in `out`."""
    table = read_shard(out / "shard_00000.parquet")
    return np.exp(np.array(table["log_probs"].to_pylist(), np.float64))


def test_members_of_other_classes_are_refused(project: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "other", classes=["a", "b", "c"])
    models = (project / "teacher", tmp_path / "other")
    with pytest.raises(CheckpointError, match="other classes"):
        predictor(project, tmp_path / "out", models=models)(0)


def test_one_model_predicts_a_whole_folder(project: Path, tmp_path: Path) -> None:
    labeled = project / "prepared" / "labeled"
    predict_folder(project / "teacher", labeled, tmp_path, EvaluateParams(batch_size=5, threads=1))
    names = [name for shard in read_predictions(tmp_path, TASK) for name in shard.ids]
    assert names == ids(project / "prepared", "labeled")
    assert read_manifest(tmp_path).metadata == {"num_classes": 3}


def test_predictions_in_storage_are_those_of_a_folder(
    project: Path, tmp_path: Path, storage_url: str
) -> None:
    """Images and predictions in storage; each predictor travels as Ray sends it."""
    storage = StoredFolder(storage_url)
    prepared_stripes(tmp_path / "prepared", storage=storage)
    local, unlabeled = project / "prepared" / "unlabeled", tmp_path / "prepared" / "unlabeled"
    out = stored_prefix(storage, "predictions", "0" * 64)
    at_home, abroad = (
        predictor(project, tmp_path / "local"),
        predictor(project, out, folder=unlabeled),
    )
    count = len(abroad.manifest.shards)
    assert missing_shards(unlabeled, out) == list(range(count))
    with pytest.raises(DataError, match="are missing"):
        finish_predictions(unlabeled, out, 3, manifest_in=tmp_path / "here")
    for number in reversed(range(count)):
        assert pickle.loads(pickle.dumps(abroad))(number) == at_home(number)
    assert missing_shards(unlabeled, out) == []
    stored = finish_predictions(unlabeled, out, 3, manifest_in=tmp_path / "here")
    kept = finish_predictions(local, tmp_path / "local", 3)
    assert [entry.sha256 for entry in stored.shards] == [entry.sha256 for entry in kept.shards]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["manifest.json"]
    first, second = (
        read_predictions(folder, TASK) for folder in (tmp_path / "here", tmp_path / "local")
    )
    for one, other in zip(first, second, strict=True):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.values, other.values)


def test_only_what_storage_lacks_is_predicted_again(
    project: Path, tmp_path: Path, storage_url: str
) -> None:
    out = stored_prefix(StoredFolder(storage_url), "predictions", "0" * 64)
    predict = predictor(project, out)
    for number in range(3):
        predict(number)
    shards = predict.manifest.shards
    first = {entry.file: entry for entry in derived_entries(out, [e.file for e in shards]) if entry}
    out.remove(first["shard_00001.parquet"].stored_name)
    assert missing_shards(predict.folder, out) == [1, *range(3, len(shards))]
    predict(1)
    assert derived_entries(out, list(first)) == list(first.values())
