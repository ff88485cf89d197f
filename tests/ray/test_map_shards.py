"""Passes by Ray Data: the same bytes as in one process, and a user's mistakes."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.shards import read_manifest
from pipeline.data.storage import StoredFolder
from pipeline.errors import DataError
from pipeline.labels.predict import ShardPredictor
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.shard_selector import Truth
from pipeline.mapping import in_threads
from pipeline.params import PredictParams, SelectParams
from pipeline.ray.map_shards import distributed_map, in_ray_tasks, packed, unpacked
from pipeline.report.galleries import unlabeled_galleries
from pipeline.tasks.classification import TASK
from tests.labels.folders import write_predictions
from tests.labels.test_passes import teacher
from tests.report.pictures import make_pictures
from tests.tiny import CLASSES as STRIPES
from tests.tiny import prepared_stripes, save_model

CLASSES = ("cat", "dog", "owl")


def through_ray(test: Callable[[Path], None]) -> Callable[[Path], None]:
    """The marks of a test that starts Ray."""
    ignored = pytest.mark.filterwarnings("ignore")  # of Ray, about itself
    return pytest.mark.slow(pytest.mark.timeout(300)(ignored(test)))


def select(folder: Path, out: Path, workers: int, stored: StoredFolder | None = None) -> object:
    ray = in_ray_tasks(workers, stored=stored is not None, title="select", grouped=True)
    with ray if workers else nullcontext(in_threads(1)) as over:
        return select_pseudo_labels(
            folder,
            out,
            SelectParams(
                images_per_class=100,
                max_repeats=2,
                temperature=0.5,
                distribution_alignment="uniform",
            ),
            classes=CLASSES,
            labeled=folder,
            task=TASK,
            truth=Truth.of({f"image_{place}": place % 3 for place in range(0, 900, 2)}, 8),
            stored=stored,
            map_items=over,
        )


@through_ray
def test_ray_tasks_select_what_one_process_selects(tmp_path: Path) -> None:
    predictions = tmp_path / "predictions"
    write_predictions(predictions, teacher(900, 3, 6.0, 0), rows_per_shard=25)
    storage = StoredFolder((tmp_path / "shared").as_uri())
    here = select(predictions, tmp_path / "here", 0)
    assert here == select(predictions, tmp_path / "ray", 2)
    assert here == select(predictions, tmp_path / "stored", 1, storage)  # two shards a task
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()
    alone, stored = (read_manifest(tmp_path / name) for name in ("here", "stored"))
    assert [entry.sha256 for entry in alone.shards] == [entry.sha256 for entry in stored.shards]
    assert {entry.prefix for entry in stored.shards} == {storage.uri}


@through_ray
def test_ray_tasks_find_the_images_that_the_report_shows(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path)
    folders = pictures.prepared / "unlabeled", pictures.predictions, pictures.pseudo_labels
    with in_ray_tasks(1, stored=False, title="report", grouped=True) as over:
        assert unlabeled_galleries(*folders, STRIPES, over) == pictures.galleries


@through_ray
def test_a_users_mistake_comes_out_of_a_task_as_itself(tmp_path: Path) -> None:
    values = teacher(60, 3, 2.0, 0)
    values[33, 1] = np.nan
    write_predictions(tmp_path / "predictions", values, rows_per_shard=10)
    with pytest.raises(DataError, match="'image_33'"):
        select(tmp_path / "predictions", tmp_path / "out", 1)


def alone(folder: Path, number: int) -> int:
    """The number, and that no other task is at work in the folder."""
    (folder / str(number)).touch()
    time.sleep(0.1)
    others = len(list(folder.iterdir())) - 1
    (folder / str(number)).unlink()
    return -1 if others else number


@through_ray
def test_no_more_tasks_are_at_work_than_workers(tmp_path: Path) -> None:
    with in_ray_tasks(1, stored=False, title="alone") as over:
        assert list(over(partial(alone, tmp_path), range(12))) == list(range(12))


def predictor_of(model: Path, images: Path, out: Path) -> ShardPredictor:
    params = PredictParams(batch_size=16, device="cpu", precision="float32")
    return ShardPredictor((model,), images, out, params, seed=3)


def test_models_arrive_whole_and_predict_the_same(tmp_path: Path) -> None:
    images = prepared_stripes(tmp_path / "prepared") / "unlabeled"
    save_model(tmp_path / "models" / "0")
    work = predictor_of(tmp_path / "models" / "0", images, tmp_path / "here")
    places = unpacked(packed([work]), tmp_path / "node")
    there = work.fetched(places.__getitem__)
    assert [path.parents[1] for path in there.models] == [tmp_path / "node"]
    there.out = tmp_path / "there"
    work(0), there(0)
    (name,) = (path.name for path in (tmp_path / "here").iterdir())
    assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@through_ray
def test_actors_predict_what_one_process_does_and_hand_over_a_users_mistake(tmp_path: Path) -> None:
    images = prepared_stripes(tmp_path / "prepared") / "unlabeled"
    save_model(tmp_path / "model")
    alone = predictor_of(tmp_path / "model", images, tmp_path / "alone")
    work = predictor_of(tmp_path / "model", images, tmp_path / "ray")
    numbers = list(range(len(work.manifest.shards)))
    one_actor: Any = {"actors": (1, 1), "gpus_per_actor": 1.0, "scratch": tmp_path, "title": "p"}
    distributed_map((work, numbers), **one_actor)
    for number in numbers:
        alone(number)
        name = alone.manifest.shards[number].file
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    (images / name).write_bytes(b"")
    with pytest.raises(DataError, match=name):
        distributed_map((work, numbers[-1:]), **one_actor)
