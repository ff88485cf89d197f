"""One generation by the functions that the stages call, with and without storage."""

from __future__ import annotations

import pickle
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.data.shards import read_manifest
from pipeline.data.storage import StoredFolder
from pipeline.data.stored_shards import missing_shards, stored_prefix, upload_shards
from pipeline.labels.predict import ShardPredictor, finish_predictions
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.shard_selector import Truth
from pipeline.params import ModelParams, PredictParams, SelectParams, Training
from pipeline.tasks.classification import TASK
from pipeline.train.run import TrainJob, train_model
from pipeline.train.worker import Worker
from tests.s3 import BUCKET, s3_url
from tests.tiny import CLASSES, PLAIN, prepared_stripes, train_params

FOLDERS = [f"prepared/{part}" for part in ("labeled", "unlabeled", "validation", "test")]
FOLDERS += ["predictions", "pseudo_labels"]
MODELS = [f"{name}/model.{kind}" for name in ("0", "1") for kind in ("safetensors", "json")]


def train(folder: Path, job: TrainJob) -> None:
    train_model(replace(job, state=folder / "state" / job.generation), Worker(), lambda *_: None)


def one_generation(folder: Path, storage: StoredFolder | None) -> None:
    """Prepare, train a teacher, predict, select and train a student under `folder`."""
    prepared = prepared_stripes(folder / "prepared", storage=storage)
    job = TrainJob(
        prepared=prepared,
        pseudo_labels=None,
        model=folder / "0",
        state=folder,
        generation="0",
        teacher=None,
        seed=3,
        training=Training(
            model=ModelParams(width=4),
            augment=PLAIN,
            train=train_params(steps=30, learning_rate=0.03),
        ),
    )
    train(folder, job)
    local = folder / "predictions"
    out = local if storage is None else stored_prefix(storage, "predictions", "ab" * 32)
    predictor = ShardPredictor(
        models=(folder / "0",),
        folder=prepared / "unlabeled",
        out=out,
        params=PredictParams(views="flip", batch_size=16, device="cpu", precision="float32"),
        seed=3,
    )
    for number in missing_shards(prepared / "unlabeled", out):
        pickle.loads(pickle.dumps(predictor))(number)
    finish_predictions(prepared / "unlabeled", out, len(CLASSES), manifest_in=local)
    select_pseudo_labels(
        local,
        folder / "pseudo_labels",
        SelectParams(fraction_per_class=0.8, max_repeats=2, distribution_alignment="labeled"),
        classes=CLASSES,
        labeled=prepared / "labeled",
        truth=Truth.of({}, 8),
        task=TASK,
    )
    upload_shards(folder / "pseudo_labels", storage, "pseudo_labels")
    student = replace(
        job,
        pseudo_labels=folder / "pseudo_labels",
        model=folder / "1",
        generation="1",
        teacher=folder / "0",
    )
    train(folder, student)


@pytest.mark.slow
def test_models_are_the_same_to_the_byte_wherever_the_shards_are(tmp_path: Path, s3: str) -> None:
    one_generation(tmp_path / "local", None)
    urls = {
        "file": (tmp_path / "shared").as_uri(),
        "s3": s3_url(s3, f"{BUCKET}/{uuid.uuid4().hex}"),
    }
    for kind, url in urls.items():
        one_generation(tmp_path / kind, StoredFolder(url))
        for name in FOLDERS:
            folder, local = tmp_path / kind / name, tmp_path / "local" / name
            assert [path.name for path in folder.iterdir()] == ["manifest.json"], name
            stored, kept = read_manifest(folder), read_manifest(local)
            assert [e.sha256 for e in stored.shards] == [e.sha256 for e in kept.shards], name
            assert (stored.rows, stored.metadata) == (kept.rows, kept.metadata)
        for name in MODELS:
            assert (tmp_path / kind / name).read_bytes() == (
                tmp_path / "local" / name
            ).read_bytes(), name
        paths = [Path(item.path) for item in StoredFolder(url).listing()]
        assert len({path.parent for path in paths if path.name.startswith("shard_")}) == 6


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["prepared/unlabeled", "predictions", "pseudo_labels"])
def test_a_lost_shard_is_restored_by_the_same_work(tmp_path: Path, lost: str) -> None:
    storage = StoredFolder((tmp_path / "shared").as_uri())
    one_generation(tmp_path / "first", storage)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "shared").rglob("*.parquet")}
    entry = read_manifest(tmp_path / "first" / lost).shards[0]
    assert entry.prefix is not None
    gone = StoredFolder(entry.prefix)
    gone.remove(entry.stored_name)
    one_generation(tmp_path / "second", storage)
    changed = [path.name for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert changed == [entry.stored_name]
