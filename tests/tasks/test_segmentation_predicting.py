"""Predictions of pixels, what is selected of them, and the pseudo-labels that they become."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from pipeline.data.class_maps import (
    IGNORED,
    map_columns,
    map_probabilities,
    pack_maps,
    pack_masks,
    read_maps,
)
from pipeline.data.predictions import (
    predictions_table,
    read_predictions,
    read_pseudo_labels,
)
from pipeline.data.shards import iter_shards, shard_name, write_manifest, write_shard
from pipeline.errors import DataError, SelectionError
from pipeline.labels.audit import Audit
from pipeline.labels.pseudo_label import select_pseudo_labels
from pipeline.labels.select import id_hashes, unit_hashes
from pipeline.labels.shard_selector import Truth
from pipeline.mapping import in_threads
from pipeline.params import SelectParams
from pipeline.tasks import noted, open_task
from pipeline.tasks.taught_maps import LOG_CONFIDENCES, grid_pixels

TASK = open_task("segmentation")
CLASSES = ("sky", "road", "tree", "car")
SIDE = 20
Maps = NDArray[np.uint8]


def smooth(count: int, classes: int, side: int, seed: int = 0, scale: float = 6) -> torch.Tensor:
    """Log-probabilities (n, K, S, S) whose classes are areas with soft borders."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, classes, 6, 6, generator=generator) * scale
    logits = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    return logits.log_softmax(dim=1)


def write(out: Path, maps: Maps, rows: int = 4) -> list[str]:
    ids = [f"image_{place}" for place in range(len(maps))]
    entries = []
    for number, start in enumerate(range(0, len(maps), rows)):
        part = slice(start, start + rows)
        columns = TASK.prediction_columns(maps[part])
        table = predictions_table(ids[part], number, columns)
        entries.append(write_shard(out / shard_name(number), table))
    write_manifest(out, entries, {"num_classes": len(CLASSES), **noted(TASK)})
    return ids


def run(predictions: Path, out: Path, truth: dict[str, bytes] | None = None, **rules: Any) -> Audit:
    return select_pseudo_labels(
        predictions,
        out,
        SelectParams(**rules),
        task=TASK,
        classes=CLASSES,
        labeled=Path("nowhere"),
        truth=Truth.of(truth or {}, SIDE),
        map_items=in_threads(2),
    )


def selected(folder: Path) -> tuple[Maps, list[dict[str, Any]]]:
    """Every map of a folder of pseudo-labels, kept or not, and its rows."""
    tables = list(iter_shards(folder))
    maps = [TASK.read_pseudo_labels(table, len(CLASSES), "soft", folder) for table in tables]
    return np.concatenate(maps), [row for table in tables for row in table.to_pylist()]


@pytest.fixture
def maps() -> Maps:
    return pack_maps(smooth(6, len(CLASSES), SIDE, scale=2))


def test_predictions_come_back_as_they_were_written(tmp_path: Path, maps: Maps) -> None:
    ids = write(tmp_path, maps)
    shards = list(read_predictions(tmp_path, TASK))
    assert [name for shard in shards for name in shard.ids] == ids
    np.testing.assert_array_equal(np.concatenate([shard.values for shard in shards]), maps)


@pytest.mark.parametrize(("areas", "most"), [(6, 11_000), (12, 15_000), (24, 20_000)])
def test_a_map_of_a_photograph_takes_under_20_kb(areas: int, most: int) -> None:
    """Also one of some six hundred areas of 12 classes, of which hardly a pixel is sure."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 12, areas, areas, generator=generator) * 4
    logits = torch.nn.functional.interpolate(coarse, (256, 256), mode="bicubic")
    maps = pack_maps(logits.log_softmax(dim=1))
    table = pa.table(map_columns(maps))
    assert sum(len(column[0].as_py()) for column in table.columns) < most
    np.testing.assert_array_equal(read_maps(table, 12, "a table"), maps)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.7, 0.3), (1.0, 0.0)])
def test_members_are_merged_as_probabilities(weights: tuple[float, float]) -> None:
    members = [pack_maps(smooth(3, 4, SIDE, seed, 2)) for seed in (1, 2)]
    merged = TASK.merge(members, weights, 4)
    mean = np.sum(
        [w * map_probabilities(part, 4) for w, part in zip(weights, members, strict=True)], axis=0
    )
    shares = map_probabilities(merged, 4)
    order = np.sort(mean, axis=1)
    clear = order[:, -1] - order[:, -2] > 0.01
    np.testing.assert_array_equal(merged[:, 0][clear], mean.argmax(axis=1)[clear])
    assert np.abs(shares.max(axis=1) - mean.max(axis=1)).max() < 0.01
    with pytest.raises(DataError, match="same images"):
        TASK.merge([members[0], members[1][:2]], [0.5, 0.5], 4)


def test_of_a_class_the_surest_share_of_its_pixels_is_kept(tmp_path: Path, maps: Maps) -> None:
    ids = write(tmp_path / "predictions", maps)
    figures = run(tmp_path / "predictions", tmp_path / "out", fraction_per_class=0.3)
    kept, rows = selected(tmp_path / "out")
    pixels = grid_pixels(SIDE, 256)
    assert len(pixels) == 256
    flat = maps.reshape(len(maps), 4, -1)
    everything = []  # slow: each pixel of the grid as a tuple that sorts as it is selected
    for image, name in enumerate(ids):
        hashes = unit_hashes(np.repeat(id_hashes([name]), len(pixels)), pixels)
        for pixel, number in zip(pixels.tolist(), hashes.tolist(), strict=True):
            label, _, sure, _ = flat[image, :, pixel].tolist()
            everything.append((label, -sure, number, image, pixel))
    counts = [sum(entry[0] == label for entry in everything) for label in range(4)]
    for label in range(4):
        own = sorted(entry for entry in everything if entry[0] == label)
        target = max(1, round(0.3 * counts[label]))
        for place, (_, _, _, image, pixel) in enumerate(own):
            expected = label if place < target else IGNORED
            assert kept[image, 0].reshape(-1)[pixel] == expected
        assert figures.images[label] == min(target, counts[label])
    assert figures.repeats == figures.images  # a pixel counts once, however rare its class
    assert sum(figures.reasons.values()) == 256 * len(maps)
    for image, row in enumerate(rows):
        labels = kept[image, 0][kept[image, 0] != IGNORED]
        assert row["repeats"] == (1 if len(labels) else 0)
        assert row["reason"] == ("kept" if len(labels) else "over_class_target")
        if len(labels):
            assert row["label"] == np.bincount(labels).argmax()
        assert row["confidence"] == pytest.approx(maps[image, 2].mean() / 255, abs=1e-6)


def test_thresholds_hold_for_every_pixel(tmp_path: Path, maps: Maps) -> None:
    write(tmp_path / "predictions", maps)
    run(
        tmp_path / "predictions",
        tmp_path / "out",
        confidence_threshold=0.6,
        class_thresholds={"car": 0.9},
        fraction_per_class=None,
    )
    kept, _ = selected(tmp_path / "out")
    least = np.where(maps[:, 0] == 3, 0.9, 0.6)
    sure = np.exp(LOG_CONFIDENCES[maps[:, 2]].astype(np.float32)) >= least
    np.testing.assert_array_equal(kept[:, 0], np.where(sure, maps[:, 0], IGNORED))
    np.testing.assert_array_equal(kept[:, 1:], maps[:, 1:])


def test_an_image_that_is_nowhere_sure_does_not_count(tmp_path: Path, maps: Maps) -> None:
    maps[2, 2] = np.minimum(maps[2, 2], 120)
    maps[:, 2] = np.minimum(maps[:, 2], 250)
    write(tmp_path / "predictions", maps)
    run(tmp_path / "predictions", tmp_path / "out", confidence_threshold=0.5)
    kept, rows = selected(tmp_path / "out")
    assert (kept[2, 0] == IGNORED).all()
    assert (rows[2]["repeats"], rows[2]["reason"]) == (0, "below_threshold")
    found = read_pseudo_labels(tmp_path / "out", TASK)
    assert (found.shard * 4 + found.row).tolist() == [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(found.targets, kept[[0, 1, 3, 4, 5]])
    with pytest.raises(SelectionError, match="no prediction is that sure"):
        run(tmp_path / "predictions", tmp_path / "none", confidence_threshold=1.0)


def test_hard_labels_are_sure_of_one_class(tmp_path: Path, maps: Maps) -> None:
    write(tmp_path / "predictions", maps)
    run(tmp_path / "predictions", tmp_path / "out", label_kind="hard", confidence_threshold=0.5)
    found = read_pseudo_labels(tmp_path / "out", TASK).targets
    some = found[:, 0] != IGNORED
    assert some.any()
    assert not some.all()
    assert (found[:, 2] == 255).all()
    assert (found[:, 3] == 0).all()
    shares = map_probabilities(found, len(CLASSES))
    assert shares.max(axis=1)[some].min() > 0.99


def test_a_temperature_sharpens_what_maps_say_of_all_classes(tmp_path: Path, maps: Maps) -> None:
    write(tmp_path / "predictions", maps)
    run(tmp_path / "predictions", tmp_path / "out", temperature=0.5)
    found = map_probabilities(read_pseudo_labels(tmp_path / "out", TASK).targets, len(CLASSES))
    powered = map_probabilities(maps, len(CLASSES)) ** 2
    expected = powered / powered.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.max(axis=1), expected.max(axis=1), atol=0.01)


def test_the_audit_counts_right_pixels_of_those_kept(tmp_path: Path, maps: Maps) -> None:
    ids = write(tmp_path / "predictions", maps)
    masks = maps[:, 0].copy()
    masks[0] = (masks[0] + 1) % 4
    masks[1] = IGNORED
    truth = dict(zip(ids[:3], pack_masks(list(masks[:3])), strict=True))
    figures = run(tmp_path / "predictions", tmp_path / "out", truth)
    assert figures.prediction_accuracy == pytest.approx(0.5)
    assert figures.coverage == 1


def test_a_selection_does_not_depend_on_shards_or_threads(tmp_path: Path, maps: Maps) -> None:
    results = []
    for rows in (2, 6):
        write(tmp_path / f"predictions_{rows}", maps, rows)
        figures = run(
            tmp_path / f"predictions_{rows}", tmp_path / f"out_{rows}", fraction_per_class=0.4
        )
        results.append((figures, selected(tmp_path / f"out_{rows}")[0]))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    run(tmp_path / "predictions_2", tmp_path / "again", fraction_per_class=0.4)
    for path in sorted((tmp_path / "out_2").iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_of_many_images_fewer_pixels_are_counted(
    tmp_path: Path, maps: Maps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.labels.shard_selector.MOST_UNITS", 6 * 9)
    write(tmp_path / "predictions", maps)
    figures = run(tmp_path / "predictions", tmp_path / "out")
    assert sum(figures.reasons.values()) == 6 * 9


def test_a_map_of_other_classes_is_refused(tmp_path: Path, maps: Maps) -> None:
    maps[1, 0, 3, 3] = 7
    write(tmp_path / "predictions", maps)
    for read in (
        lambda: list(read_predictions(tmp_path / "predictions", TASK)),
        partial(run, tmp_path / "predictions", tmp_path / "out"),
    ):
        with pytest.raises(DataError, match="a class that is none of 4"):
            read()


@pytest.mark.parametrize(("side", "most"), [(8, 256), (256, 256), (20, 10), (5, 1)])
def test_the_grid_is_even_and_in_the_image(side: int, most: int) -> None:
    pixels = grid_pixels(side, most)
    rows, columns = np.divmod(pixels, side)
    count = len(np.unique(rows))
    assert count**2 == len(pixels) == len(set(pixels.tolist())) <= most
    assert count == min(side, int(most**0.5))
    assert np.diff(np.unique(columns)).max(initial=1) <= -(-side // count)
    assert rows.min() + 1 == side - rows.max() or abs(rows.min() + 1 - (side - rows.max())) <= 1


def test_what_units_say_is_that_of_a_grid_of_pixels() -> None:
    maps = pack_maps(smooth(3, 4, 40))
    maps[1, 0, :20] = IGNORED
    shares = TASK.distributions(maps, 4)
    assert shares.shape == (3, 32 * 32, 4)
    counting = shares.sum(axis=2)
    np.testing.assert_allclose(counting[[0, 2]], 1, atol=1e-5)
    assert not counting[1, : 16 * 32].any()
    np.testing.assert_allclose(counting[1, 16 * 32 :], 1, atol=1e-5)
    every = TASK.distributions(maps[:, :, 4:36, 4:36], 4)
    dense = map_probabilities(maps[:, :, 4:36, 4:36], 4)
    np.testing.assert_array_equal(every[0].T.reshape(4, 32, 32), dense[0])
