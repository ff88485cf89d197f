from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipeline.evaluate.baseline import label_spreading, prepared_label_spreading
from tests.tiny import prepared_stripes


def test_it_beats_a_nearest_neighbour_on_digits_with_fifty_labels() -> None:
    pixels, classes = load_digits(return_X_y=True)
    images = (pixels / 16 * 255).astype(np.uint8).reshape(-1, 1, 8, 8)
    train, test, train_labels, test_labels = train_test_split(
        images, classes, test_size=0.5, random_state=0, stratify=classes
    )
    labeled, unlabeled, labels, _ = train_test_split(
        train, train_labels, train_size=50, random_state=0, stratify=train_labels
    )
    result = label_spreading(labeled, labels, unlabeled, test, test_labels)
    distances = (test.reshape(len(test), -1).astype(int)[:, None] - labeled.reshape(50, -1)) ** 2
    nearest = (labels[distances.sum(axis=2).argmin(axis=1)] == test_labels).mean()
    assert result.accuracy is not None
    assert result.accuracy > nearest
    assert result.accuracy > 0.88
    assert result.low is not None
    assert result.high is not None
    assert result.low < result.accuracy < result.high


def test_what_scikit_learn_warns_of_is_noted_not_shown() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, size=(60, 9)).astype(np.uint8)
    labels = np.arange(10) % 2
    result = label_spreading(images[:10], labels, images[10:50], images[50:], labels, max_iter=1)
    assert result.accuracy is not None
    assert "max_iter=1 was reached" in result.note


@pytest.mark.parametrize(
    ("labeled", "test", "reason"), [(10, 0, "no test images"), (0, 10, "two classes")]
)
def test_where_it_can_not_run_it_says_why(labeled: int, test: int, reason: str) -> None:
    images = np.zeros((100, 4), dtype=np.uint8)
    labels = np.arange(100) % 2
    result = label_spreading(
        images[:labeled],
        labels[:labeled],
        images[:40],
        images[:test],
        labels[:test],
    )
    assert result.accuracy is None
    assert reason in result.note


def test_a_prepared_folder_is_read_with_its_validation_images_as_labels(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared", validation_fraction=0.25)
    result = prepared_label_spreading(prepared)
    assert result.accuracy is not None
    assert result.accuracy > 0.8


def test_too_many_images_are_not_even_decoded(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    for shard in (prepared / "unlabeled").glob("*.parquet"):
        shard.write_bytes(b"not to be read")
    result = prepared_label_spreading(prepared, most_images=89)
    assert result.accuracy is None
    assert "not run on 90 images: its cost is quadratic" in result.note
