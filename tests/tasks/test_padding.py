"""What lies around a letterboxed image in its square says, teaches and counts nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from pipeline.data.class_maps import IGNORED, map_columns
from pipeline.data.encoding import encode_png
from pipeline.data.fit import place_of
from pipeline.data.predictions import read_predictions, read_pseudo_labels
from pipeline.data.preparation.shard_writer import write_shards
from pipeline.data.rows import SIZE, read_sizes
from pipeline.errors import DataError
from pipeline.labels.predict import ShardPredictor, finish_predictions
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.shard_selector import Truth
from pipeline.mapping import in_threads
from pipeline.params import AugmentParams, OnlineParams, PredictParams, SelectParams
from pipeline.tasks import open_task
from pipeline.train.batch import step_batch
from pipeline.train.inputs import _boxes
from pipeline.train.objective import _taught_online
from pipeline.train.online import OnlineTeacher
from pipeline.train.run import _taught
from pipeline.train.worker import Worker
from tests.tasks.test_segmentation_training import dense_network, scene_data
from tests.tiny import CLASSES, save_model, train_params

TASK = open_task("segmentation")
SIDE = 16
BLANK = encode_png(np.zeros((SIDE, SIDE, 1), np.uint8))
SIZES = ((40, 40), (30, 17), (5, 31), (1, 900), (8, 7))
MOVING = AugmentParams(
    flip=True, num_ops=2, operations=("rotate", "translate_x"), magnitude=6.0, cutout=0.2
)


def write_images(folder: Path, sizes: Any = SIZES) -> NDArray[np.bool_]:
    """Images, bright in their place, as prepared shards; which pixels those are."""
    inside = np.zeros((len(sizes), SIDE, SIDE), np.bool_)
    rows = []
    for number, (place, (width, height)) in enumerate(zip(inside, sizes, strict=True)):
        left, top, right, bottom = place_of(width, height, SIDE)
        place[top:bottom, left:right] = True
        image = encode_png((place * np.uint8(200))[:, :, None])
        rows.append({"id": f"i{number}", "image": image, "width": width, "height": height})
    schema = pa.schema([("id", pa.string()), ("image", pa.binary()), *SIZE])
    about = {"channels": 1, "image_size": SIDE}
    write_shards(folder, rows, schema, rows_per_shard=2, metadata=about)
    return inside


def predict(folder: Path, out: Path, model: Path) -> NDArray[Any]:
    save_model(model, task="segmentation", network={"name": "unet_small"}, image_size=SIDE)
    predictor = ShardPredictor((model,), folder, out, PredictParams(threads=1), seed=0)
    for number in range(len(predictor.manifest.shards)):
        predictor(number)
    finish_predictions(folder, out, len(CLASSES), notes={"task": "segmentation"})
    return np.concatenate([shard.values for shard in read_predictions(out, TASK)])


def test_predictions_are_ignored_outside_and_neither_selected_nor_counted(tmp_path: Path) -> None:
    inside = write_images(tmp_path / "images")
    maps = predict(tmp_path / "images", tmp_path / "out", tmp_path / "model")
    np.testing.assert_array_equal(maps[:, 0] != IGNORED, inside)
    truth = Truth.of({"i1": BLANK, "i2": BLANK}, SIDE)
    figures = select_pseudo_labels(
        tmp_path / "out",
        tmp_path / "chosen",
        SelectParams(confidence_threshold=0.0, fraction_per_class=None),
        task=TASK,
        classes=CLASSES,
        labeled=Path("nowhere"),
        truth=truth,
        map_items=in_threads(1),
    )
    assert figures.kept == sum(figures.histogram) == inside.sum()  # every pixel is in the grid
    assert figures.coverage == 1
    zeros = (maps[1:3, 0] == 0).sum() / inside[1:3].sum()
    assert figures.prediction_accuracy == pytest.approx(zeros)
    found = read_pseudo_labels(tmp_path / "chosen", TASK)
    np.testing.assert_array_equal(found.targets[:, 0] != IGNORED, inside)
    shares, counts = TASK.taught(torch.from_numpy(found.targets), len(CLASSES))
    assert counts is not None
    assert not counts[~torch.from_numpy(inside)].any()
    assert shares.isfinite().all()


def test_square_images_are_predicted_as_before(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [(9, 9), (300, 300)])
    maps = predict(tmp_path / "images", tmp_path / "out", tmp_path / "model")
    assert (maps[:, 0] != IGNORED).all()
    np.testing.assert_array_equal(TASK.outside(maps, read_sizes(tmp_path / "images")), maps)
    assert _boxes(tmp_path / "images", SIDE) is None


def test_a_distilled_teacher_says_nothing_of_what_is_outside(tmp_path: Path) -> None:
    inside = write_images(tmp_path / "images")
    save_model(tmp_path / "m", task="segmentation", network={"name": "unet_small"}, image_size=SIDE)
    images = torch.from_numpy(inside[:, None] * np.uint8(200))
    folder, cpu = tmp_path / "images", torch.device("cpu")
    taught = _taught(tmp_path / "m", images, folder, cpu)
    np.testing.assert_array_equal(taught[:, 0] != IGNORED, inside)


@pytest.mark.parametrize("aligned", [False, True])
def test_an_online_teacher_does_not_teach_what_is_outside(tmp_path: Path, aligned: bool) -> None:
    inside = write_images(tmp_path / "images")
    images = torch.from_numpy(inside[:, None] * np.uint8(255))
    rows = torch.arange(len(images))
    data = scene_data(
        6,
        unlabeled_images=images,
        unlabeled_rows=rows,
        unlabeled_targets=torch.zeros(len(images), 4, SIDE, SIDE, dtype=torch.uint8),
        unlabeled_boxes=_boxes(tmp_path / "images", SIDE),
    )
    params = train_params(batch_size=20, unlabeled_ratio=1)
    batch = step_batch(data, params, MOVING, 0, 0, Worker(), online=True)
    assert batch.known is not None
    network = dense_network()
    weights = {key: value.clone() for key, value in network.state_dict().items()}
    rules = OnlineParams(confidence_threshold=0.0, distribution_alignment=aligned)
    teacher = OnlineTeacher(network, weights, torch.full((3,), 1 / 3), rules)
    assert batch.weak is not None
    _, counts = teacher.targets(batch.weak, batch.known)
    np.testing.assert_array_equal(counts, batch.known)
    if aligned:
        shares = network(batch.weak).detach().softmax(dim=1)
        known = batch.known[:, None].bool().expand_as(shares)
        mean = torch.stack(
            [
                part[where].mean()
                for part, where in zip(shares.unbind(1), known.unbind(1), strict=True)
            ]
        )
        torch.testing.assert_close(teacher.mean, torch.full((3,), 1 / 3).lerp(mean, 0.01))
    noised, _, counts = _taught_online(batch, params, Worker(), teacher, TASK)
    black = noised[:, 0] <= data.normalized(torch.zeros(1, 1, 1, 1)).item() + 1e-5
    assert counts.any()
    assert black.any()
    assert not counts[black].any()
    whole = teacher.targets(batch.weak)[1]
    assert whole.all()


def test_images_without_sizes_and_maps_that_say_nothing_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [(0, 4)])
    with pytest.raises(DataError, match="an image without its size"):
        read_sizes(tmp_path / "images")
    maps = np.zeros((1, 4, SIDE, SIDE), np.uint8)
    maps[:, 0] = IGNORED
    table = pa.table(map_columns(maps))
    with pytest.raises(DataError, match="a map that says nothing"):
        TASK.read_predictions(table, 3, "here")
    np.testing.assert_array_equal(TASK.read_pseudo_labels(table, 3, "soft", "here"), maps)
