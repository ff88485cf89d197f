"""Digits and Fashion-MNIST are read and split as the benchmarks' protocols say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.data import balanced_rows, digits, fashion_part, few_labels, split_digits
from tests.data.helpers import encoded


def test_digits_are_split_in_halves_stratified() -> None:
    split = split_digits(4, 50)
    parts = [split.labeled, split.unlabeled, split.test]
    assert [len(part) for part in parts] == [50, 848, 899]
    assert sorted(np.concatenate(parts).tolist()) == list(range(1797))
    assert np.bincount(split.labels[split.labeled]).tolist() == [5] * 10


def test_images_of_digits_are_those_of_the_rows() -> None:
    split, images = split_digits(1, 50), digits(1, 50, 8)
    expected = np.round(split.pixels[split.labeled] * 255 / 16).reshape(-1, 1, 8, 8)
    assert np.abs(images.labeled.numpy() - expected).max() == 0
    assert images.test_labels.tolist() == split.labels[split.test].tolist()


def test_a_part_is_the_first_rows_of_its_split(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), np.uint8)
    table = pa.table(
        {
            "image": [encoded(image) for image in pixels],
            "label": [5, 4, 3, 2, 1, 0],
            "split": ["train", "test"] * 3,
        }
    )
    pq.write_table(table, tmp_path / "images.parquet")
    images, labels = fashion_part(tmp_path / "images.parquet", "test", 2)
    assert (images.dtype, labels.tolist()) == (torch.uint8, [4, 2])
    assert torch.equal(images[:, 0], torch.from_numpy(pixels[[1, 3], :, :, 0]))


def test_labels_are_balanced_and_differ_by_seed() -> None:
    labels = torch.arange(400) % 10
    rows = balanced_rows(labels, 10, seed=1)
    assert torch.bincount(labels[rows]).tolist() == [10] * 10
    assert len(set(rows.tolist())) == 100
    assert set(rows.tolist()) != set(balanced_rows(labels, 10, seed=2).tolist())


def test_no_image_is_both_labelled_and_unlabelled() -> None:
    labels = torch.arange(200) % 10
    images = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1)
    split = few_labels(
        (images, labels), (images[:3], labels[:3]), num_labels=50, num_unlabeled=100, seed=0
    )
    numbers = [part.flatten().tolist() for part in (split.labeled, split.unlabeled)]
    assert [len(part) for part in numbers] == [50, 100]
    assert len({*numbers[0], *numbers[1]}) == 150
    assert labels[numbers[0]].tolist() == split.labels.tolist()
    for part in numbers:
        assert torch.bincount(labels[part]).tolist() == [len(part) // 10] * 10
