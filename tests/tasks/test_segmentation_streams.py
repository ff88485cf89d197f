"""Masks from prepared shards: in memory, in the workers' file, and brought along by a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from pipeline.data.class_maps import IGNORED, map_columns, pack_masks
from pipeline.data.encoding import encode_png
from pipeline.data.preparation.shard_writer import write_shards
from pipeline.data.rows import SIZE
from pipeline.data.tensors import GIB, load_images
from pipeline.errors import DataError
from pipeline.files import write_json
from pipeline.params import ModelParams, OnlineParams, Training
from pipeline.train import run as training_run
from pipeline.train.batch import step_batch
from pipeline.train.inputs import training_data
from pipeline.train.run import TrainJob, train_model
from pipeline.train.worker import Worker
from tests.tasks.test_segmentation_training import (
    CLASSES,
    MOVING,
    SIDE,
    TASK,
    dense_network,
    scenes,
    soft_maps,
)
from tests.tiny import PLAIN, train_params

FEW = 2 * 128 * SIDE * SIDE / GIB  # room for 128 images and their masks
SCHEMA = pa.schema([("id", pa.string()), ("image", pa.binary()), TASK.target, *SIZE])
ABOUT = {"channels": 1, "image_size": SIDE}


def write_images(folder: Path, count: int, seed: int, *, known: bool = True) -> torch.Tensor:
    """Scenes as shards of 40 rows; their masks."""
    images, masks = scenes(count, seed)
    files = [encode_png(image.permute(1, 2, 0).numpy()) for image in images]
    values = pack_masks(list(masks.numpy())) if known else [None] * count
    rows = [
        {
            "id": f"{folder.name}_{number}",
            "image": file,
            "mask": mask,
            "width": 100,
            "height": 100 if known or number % 2 else 50,
        }
        for number, (file, mask) in enumerate(zip(files, values, strict=True))
    ]
    write_shards(folder, rows, SCHEMA, rows_per_shard=40, metadata=ABOUT)
    return masks


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 labelled, 160 unlabelled images; every third is not taught, the others once or twice."""
    folder = tmp_path_factory.mktemp("scenes")
    write_images(folder / "prepared/labeled", 200, 1)
    write_images(folder / "prepared/validation", 0, 2)
    masks = write_images(folder / "prepared/unlabeled", 160, 3, known=False)
    write_json(
        folder / "prepared/dataset.json",
        {
            "source": "scenes",
            "classes": ["ground", "grey", "bright"],
            "image_size": SIDE,
            "channels": 1,
            "mean": [0.2],
            "std": [0.25],
            "seed": 0,
            "bits": 16,
            "task": "segmentation",
        },
    )
    columns = map_columns(soft_maps(masks))
    rows = [
        {
            "shard": number // 40,
            "row": number % 40,
            "repeats": number % 3,
            **{name: values[number].as_py() for name, values in columns.items()},
        }
        for number in range(160)
    ]
    own = TASK.pseudo_label_schema(CLASSES)
    numbers = [pa.field(name, pa.int32(), nullable=False) for name in ("shard", "row", "repeats")]
    about = {"num_classes": CLASSES, "label_kind": "soft"}
    write_shards(
        folder / "chosen", rows, pa.schema([*numbers, *own]), rows_per_shard=40, metadata=about
    )
    return folder


def load(made: Path, **changes: Any) -> Any:
    values = {"threads": 1, "cache_gib": 1.0} | changes
    return training_data(made / "prepared", made / "chosen", **values)


def test_masks_come_with_their_images_into_memory_and_the_workers_file(
    made: Path, tmp_path: Path
) -> None:
    images, masks = scenes(200, 1)
    for _ in range(2):
        data = load(made, cache=tmp_path)
        assert torch.equal(data.images, images)
        assert torch.equal(data.labels, masks)
    unknown = load_images(made / "prepared/unlabeled", task=TASK)
    assert (unknown.targets == IGNORED).all()
    assert data.unlabeled_targets.shape == (len(data.unlabeled_rows), 4, SIDE, SIDE)


def test_masks_count_in_the_memory_that_images_may_take(made: Path) -> None:
    """200 images with as many masks; half of the bytes hold the images alone."""
    pixels = load(made).images.nbytes + load(made).labels.nbytes
    assert load(made, cache_gib=pixels / GIB).labeled_stream is None
    assert load(made, cache_gib=(pixels - 1) / GIB).labeled_stream is not None
    with pytest.raises(DataError, match=r"train\.cache_gib"):
        load_images(made / "prepared/labeled", task=TASK, cache_gib=(pixels - 1) / GIB)


def test_a_stream_brings_masks_and_maps_of_its_own_images(made: Path) -> None:
    data = load(made, cache_gib=FEW)
    assert data.labels.shape == (0, SIDE, SIDE)
    assert torch.equal(
        data.class_shares(torch.device("cpu")), load(made).class_shares(torch.device("cpu"))
    )
    (images, masks), (pixels, hidden) = scenes(200, 1), scenes(160, 3)
    maps = torch.from_numpy(soft_maps(hidden))
    params = train_params(labeled_augment="none", unlabeled_augment="none")
    for step in (0, 9, 30):
        batch = step_batch(data, params, PLAIN, 0, step, Worker())
        for seen, found, stored, true in (
            (batch.labeled.images, batch.labeled.labels, images, masks),
            (batch.noised, batch.targets, pixels, maps),
        ):
            assert seen is not None
            assert found is not None
            for image, target in zip(seen, found, strict=True):
                apart = (data.normalized(stored.float() / 255) - image).abs().amax(dim=(1, 2, 3))
                assert torch.equal(target, true[int(apart.argmin())])


@pytest.mark.parametrize("cache_gib", [1.0, FEW])
def test_what_of_a_view_shows_an_image_is_known_by_the_image(made: Path, cache_gib: float) -> None:
    data, pixels = load(made, cache_gib=cache_gib), scenes(160, 3)[0]
    both = data.normalized(torch.cat([pixels, pixels.flip(-1)]).float() / 255)
    for step in (0, 7):
        batch = step_batch(data, train_params(), PLAIN, 0, step, Worker(), online=True)
        assert batch.weak is not None
        assert batch.known is not None
        for seen, known in zip(batch.weak, batch.known, strict=True):
            number = int((both - seen).abs().amax(dim=(1, 2, 3)).argmin()) % 160
            assert known.mean() == (1 if number % 2 else 0.5)


@pytest.mark.parametrize("cache_gib", [1.0, FEW])
def test_a_job_trains_alike_whether_streamed_or_stopped(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_gib: float
) -> None:
    monkeypatch.setattr(training_run, "network_of", lambda spec, seed: dense_network(seed))
    online = OnlineParams(start_fraction=0.5)
    params = train_params(cache_gib=cache_gib, online=online, batch_size=4)

    def run(name: str, stop_after: int | None = None) -> bytes:
        steps = iter(range(100))
        job = TrainJob(
            prepared=made / "prepared",
            pseudo_labels=made / "chosen",
            model=tmp_path / name / "model",
            state=tmp_path / name / "state",
            generation="1",
            teacher=None,
            seed=3,
            training=Training(model=ModelParams(), augment=MOVING, train=params),
        )
        worker = Worker(stop=lambda: next(steps) == stop_after)
        train_model(job, worker, lambda step, values: None)
        return (job.model / "model.safetensors").read_bytes()

    with pytest.raises(KeyboardInterrupt):
        run("stopped", 5)
    assert run("stopped") == run("whole")


def test_masks_that_can_not_be_are_refused(made: Path, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    for part, count in (("labeled", 3), ("validation", 0), ("unlabeled", 3)):
        write_images(prepared / part, count, 0)
    dataset = (made / "prepared/dataset.json").read_text()
    (prepared / "dataset.json").write_text(dataset.replace('"bright"', '"b"'))
    training_data(prepared, None, threads=1, cache_gib=1.0)
    few = dataset.replace('"ground",', "")
    assert few != dataset
    (prepared / "dataset.json").write_text(few)
    with pytest.raises(DataError, match="not one of the 2 classes"):
        training_data(prepared, None, threads=1, cache_gib=1.0)
    streamed = training_data(prepared, None, threads=1, cache_gib=2 * SIDE * SIDE / GIB)
    with pytest.raises(DataError, match="not one of the 2 classes"):
        step_batch(streamed, train_params(), PLAIN, 0, 0, Worker())
