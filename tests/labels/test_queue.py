"""The queue asks for what a slow reading asks for, never twice, and from a bounded sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.data.rows import read_rows
from pipeline.data.shards import read_manifest
from pipeline.data.sources import Row
from pipeline.errors import DataError
from pipeline.labels.doubt import class_pairs, diverse, doubt
from pipeline.labels.pool import network_features, pixel_features, read_pool, sampled_rows
from pipeline.labels.queue import choose_strategy, doubtful_queue, same_images, typical_queue
from tests.data.helpers import ListSource, encoded, run_prepare
from tests.labels.folders import write_predictions
from tests.tiny import CLASSES, striped, tiny_network


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stripes at the left, in the middle and at the right; only the left has labels to train on."""
    out = tmp_path_factory.mktemp("prepared")
    truth = [0] * 8 + [1] * 4 + [2] * 4 + [0, 1, 2] * 20
    images = striped(torch.tensor(truth), 0)
    rows = []
    for number, (image, label) in enumerate(zip(images, truth, strict=True)):
        known = number < 16
        split = "test" if known and number % 2 else "train" if known else None
        shown = label if known else None
        pixels = image.permute(1, 2, 0).numpy()
        rows.append(Row(f"{CLASSES[label]}_{number}", encoded(pixels), shown, split))
    run_prepare(ListSource(rows, CLASSES), out, validation_fraction=0.0, near_duplicate_distance=0)
    return out


def ids_of(folder: Path) -> list[str]:
    rows = list(range(read_manifest(folder).rows))
    names: list[str] = read_rows(folder, rows, ["id"])["id"].to_pylist()
    return names


def test_few_labels_or_no_teacher_ask_for_typical_images() -> None:
    assert choose_strategy(num_labels=29, num_classes=3, taught=True) == "typical"
    assert choose_strategy(num_labels=30, num_classes=3, taught=True) == "doubtful"
    assert choose_strategy(num_labels=30, num_classes=3, taught=False) == "typical"


def test_typical_images_are_unlabelled_and_answered_ones_are_not_asked_again(
    prepared: Path,
) -> None:
    folders = prepared / "unlabeled", prepared / "labeled"
    names = ids_of(folders[0])
    first = typical_queue(*folders, pixel_features, count=6)
    assert len({image.id for image in first}) == 6
    assert [names[image.row] for image in first] == [image.id for image in first]
    assert {image.id.split("_")[0] for image in first} == set(CLASSES)
    assert first == typical_queue(*folders, pixel_features, count=6)
    answered = [image.id for image in first]
    second = typical_queue(*folders, pixel_features, count=100, answered=answered)
    assert sorted([*answered, *(image.id for image in second)]) == sorted(names)


def test_a_sample_bounds_what_is_clustered(prepared: Path) -> None:
    folders = prepared / "unlabeled", prepared / "labeled"
    seen: list[int] = []

    def see(images: Tensor) -> Tensor:
        seen.append(len(images))
        return pixel_features(images)

    typical_queue(*folders, see, count=2, most_images=12)
    assert max(seen) <= 12
    assert sum(seen) <= 12 + read_manifest(folders[1]).rows
    assert sampled_rows(5, 5, seed=0).tolist() == [0, 1, 2, 3, 4]
    drawn = sampled_rows(1000, 50, seed=1).tolist()
    assert len(set(drawn)) == 50
    assert drawn == sorted(drawn)
    assert drawn != sampled_rows(1000, 50, seed=2).tolist()


def test_a_pool_has_the_features_of_its_rows(prepared: Path) -> None:
    folder = prepared / "unlabeled"
    network = tiny_network()
    see = network_features(network, mean=[0.3], std=[0.25], batch_size=3)
    rows = np.array([0, 2, 15, 16, 40], np.int64)
    pool = read_pool(folder, rows, see, lambda amount=1, note="": None)
    for row, features in zip(rows.tolist(), pool, strict=True):
        alone = read_pool(folder, np.array([row]), see, lambda amount=1, note="": None)
        np.testing.assert_allclose(features, alone[0], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(pool, axis=1), 1, rtol=1e-5)


def test_pixels_of_large_images_are_averaged() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    means = images.float().reshape(2, 3, 16, 2, 16, 2).mean(dim=(3, 5)) / 255
    torch.testing.assert_close(pixel_features(images), means.flatten(1))
    assert pixel_features(images[:, :, :8, :8]).shape == (2, 3 * 64)


def test_doubtful_images_are_those_of_looking_at_all_predictions(
    prepared: Path, tmp_path: Path
) -> None:
    unlabeled = prepared / "unlabeled"
    names = ids_of(unlabeled)
    draw = np.random.default_rng(0)
    teachers = [draw.dirichlet(np.ones(3), len(names)).astype(np.float16) for _ in range(2)]
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder, seen in zip(folders, teachers, strict=True):
        write_predictions(folder, seen, rows_per_shard=16, ids=names)
    stored = [np.exp(np.log(seen.astype(np.float32)).astype(np.float16)) for seen in teachers]
    members = [np.asarray(seen, np.float32) for seen in stored]
    expected = diverse(doubt(members), class_pairs(np.mean(members, axis=0)), 12)
    queue = doubtful_queue(unlabeled, folders, CLASSES, count=12)
    assert [image.row for image in queue] == expected
    assert [image.id for image in queue] == [names[row] for row in expected]
    assert all(set(image.why.split(" or ")) < set(CLASSES) for image in queue)
    rest = doubtful_queue(
        unlabeled, folders, CLASSES, count=500, answered=[image.id for image in queue]
    )
    assert sorted(image.id for image in (*queue, *rest)) == sorted(names)


def test_predictions_of_other_images_are_refused(prepared: Path, tmp_path: Path) -> None:
    unlabeled = prepared / "unlabeled"
    names = ids_of(unlabeled)
    seen = np.full((len(names), 3), 1 / 3)
    write_predictions(tmp_path / "own", seen, rows_per_shard=16, ids=names)
    write_predictions(tmp_path / "other", seen, rows_per_shard=16)
    write_predictions(tmp_path / "short", seen[:16], rows_per_shard=16, ids=names[:16])
    assert same_images(unlabeled, tmp_path / "own")
    for name in ("other", "short"):
        assert not same_images(unlabeled, tmp_path / name)
        with pytest.raises(DataError, match=r"not of the images in .*selftrain run"):
            doubtful_queue(unlabeled, [tmp_path / name], CLASSES, count=1)
