"""The report of a run whose images have a class a pixel: its words, figures and worst images."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.data.class_maps import IGNORED, STRIPES
from pipeline.data.encoding import encode_png
from pipeline.data.shards import write_manifest, write_shard
from pipeline.errors import DataError
from pipeline.evaluate.result import ModelResult, model_result
from pipeline.report.data import ControlResult, GenerationResult, ReportData
from pipeline.report.decisions import decisions
from pipeline.report.page import render_report
from pipeline.report.summary import headline, render_note, render_table
from pipeline.report.taught import taught_galleries
from pipeline.report.worst import worst_images
from pipeline.tasks import open_task
from pipeline.tasks.significance import Bootstrap
from tests.report.example import example_audit

TASK = open_task("segmentation")
NAMES, SIDE = ("nothing", "disc", "bar"), 64
Bytes = NDArray[np.uint8]


def scenes(images: int) -> tuple[Bytes, Bytes]:
    """Images (N, S, S, 3) of discs and bars, and their masks, of which a margin is ignored."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    masks = np.zeros((images, SIDE, SIDE), np.uint8)
    for mask in masks:
        top, left = generator.integers(12, SIDE - 12, 2)
        mask[(rows - top) ** 2 + (columns - left) ** 2 < 110] = 1
        at = generator.integers(6, SIDE - 10)
        mask[at : at + 6, 8:-8] = 2
        mask[:2] = IGNORED
    shades = np.array([[60, 90, 70], [200, 170, 90], [120, 120, 190]], np.uint8)
    pixels = shades[np.where(masks == IGNORED, 0, masks)]
    return (pixels + generator.integers(0, 30, pixels.shape)).astype(np.uint8), masks


def guessed(masks: Bytes, wrong: float, seed: int) -> Bytes:
    """Maps with a share of the blocks of 4 × 4 pixels wrong, more so in later images."""
    generator = np.random.default_rng(seed)
    share = wrong * (0.5 + np.arange(len(masks)) / len(masks))[:, None, None]
    blocks = generator.random((len(masks), SIDE // 4, SIDE // 4)) < share
    at = blocks.repeat(4, 1).repeat(4, 2)
    clean = np.where(masks == IGNORED, 0, masks)
    guesses = np.where(at, (clean + 1 + seed % 2) % 3, clean).astype(np.uint8)
    sure = np.where(at, 130, 220).astype(np.uint8)
    return np.stack([guesses, (guesses + 1) % 3, sure, 255 - sure], axis=1).astype(np.uint8)


def result_of(masks: Bytes, wrong: float, seed: int) -> ModelResult:
    """What was measured of a model."""
    test = guessed(masks, wrong, seed)
    return model_result(TASK, test, test, masks, test[:9], masks[:9], 3, interval=0.95)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of scenes."""
    return tmp_path_factory.mktemp("scenes")


@pytest.fixture(scope="module")
def data(folder: Path) -> ReportData:
    """A made-up run of three generations and a control on the scenes in `folder`."""
    pixels, masks = scenes(40)
    files = [encode_png(each) for each in pixels]
    columns = {"id": [f"scene_{n}" for n in range(40)], "image": files}
    entry = write_shard(folder / "shard_00000.parquet", pa.table(columns))
    write_manifest(folder, [entry], {})
    results = [result_of(masks, wrong, seed) for seed, wrong in enumerate((0.5, 0.4, 0.3, 0.45))]
    evidence = [result.test_evidence(TASK) for result in results]
    bootstrap = Bootstrap(samples=200)
    parts = [
        GenerationResult(
            str(number),
            result.test,
            result.centre,
            result.validation,
            against_teacher=TASK.compare(evidence[number - 1], evidence[number], bootstrap)
            if number
            else None,
            against_first=TASK.compare(evidence[0], evidence[number], bootstrap)
            if number
            else None,
            pseudo_labels=example_audit(3, number) if number else None,
            losses={"step": [1, 2], "loss_labeled": [2, 1], "loss_pseudo": [2, 1]},
            validations={"step": [1, 2], "val/miou": [0.2, 0.4]},
        )
        for number, result in enumerate(results[:3])
    ]
    control = GenerationResult("0.longer", results[3].test, results[3].centre)
    against = TASK.compare(evidence[3], evidence[2], bootstrap)
    return ReportData(
        dataset="scenes",
        classes=NAMES,
        counts={"labeled": 30, "unlabeled": 1000, "validation": 9, "test": 40},
        generations=tuple(parts),
        champion="2",
        champion_reason="the latest",
        controls=(ControlResult("longer", 100, 100, control, against),),
        task=TASK,
        worst=worst_images(folder, results[2], NAMES, TASK),
        galleries=tuple(taught_galleries(folder, selection(folder, masks), NAMES, TASK)),
    )


def selection(folder: Path, masks: Bytes) -> Path:
    """Pseudo-labels of all scenes, later ones less sure; the upper half of each map is ignored, and
    all of the last four."""
    maps = guessed(masks, 0.3, 1)
    maps[:, 0, : SIDE // 2] = IGNORED
    maps[-4:, 0] = IGNORED
    count = len(maps)
    columns = {
        "id": [f"scene_{n}" for n in range(count)],
        "shard": np.zeros(count, np.int32),
        "row": np.arange(count, dtype=np.int32),
        "label": np.zeros(count, np.int32),
        "confidence": np.linspace(0.99, 0.5, count, dtype=np.float32),
        "repeats": np.array([1] * (count - 4) + [0] * 4, np.int32),
        "reason": ["kept"] * (count - 4) + ["below_threshold"] * 4,
    }
    out = folder / "pseudo_labels"
    entry = write_shard(
        out / "shard_00000.parquet", pa.table(columns | TASK.prediction_columns(maps))
    )
    write_manifest(out, [entry], {"num_classes": 3, "label_kind": "soft"})
    return out


def test_the_page_speaks_of_the_score_and_of_pixels(data: ReportData) -> None:
    page = render_report(data)
    words = re.sub(r"<(script|style)>.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    for expected in (
        "Mean IoU by generation",
        "Generation 2 has a mean IoU of",
        "on 40 test images",
        "got better and",
        "Sign test",
        "Sampled pixels",
        "Test sampled pixels",
        "share of the sampled pixels kept",
        "Test IoU of each class",
        "sign test on the images' own mean IoU",
        "Worst images",
    ):
        assert expected in words.replace("&#39;", "'"), expected
    for absent in (
        "McNemar",
        "Accuracy",
        "test accuracy",
        "Wilson",
        "Surest mistakes",
        "Save",
        "LabelSpreading",
    ):
        assert absent not in words, absent
    assert page == render_report(data)


def test_the_worst_images_are_shown_with_their_errors_and_a_legend(data: ReportData) -> None:
    gallery = data.worst
    assert gallery is not None
    assert not gallery.answers
    shares = [int(re.findall(r"mean IoU (\d+) %", image.caption)[0]) for image in gallery.images]
    assert shares == sorted(shares)
    assert len(shares) == 24
    assert [name for name, _ in gallery.legend] == list(NAMES)
    assert gallery.legend[1][1] == "#800000"


def test_unlabelled_images_are_beside_what_was_taught_and_take_no_answers(data: ReportData) -> None:
    galleries = {gallery.key: gallery for gallery in data.galleries}
    ids = {key: [image.id for image in gallery.images] for key, gallery in galleries.items()}
    assert ids["surest"] == [f"scene_{number}" for number in range(12)]
    assert ids["least_sure"] == [f"scene_{number}" for number in range(35, 23, -1)]
    assert ids["missed"] == [f"scene_{number}" for number in range(36, 40)]
    assert not any(gallery.answers for gallery in galleries.values())
    assert galleries["surest"].images[0].caption == "99 % sure"
    picture = opened(galleries["surest"].images[0].thumbnail)
    assert picture.size == (4 * SIDE + 2, 2 * SIDE)
    upper, lower = (
        np.array(picture)[rows, 2 * SIDE + 2 :] for rows in (slice(SIDE), slice(SIDE, None))
    )
    assert set(np.unique(upper)) == set(STRIPES)
    assert not np.isin(lower, STRIPES).all(axis=-1).any()


def opened(uri: str) -> Image.Image:
    """The image of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def test_what_is_advised_fits_the_task(data: ReportData) -> None:
    first, second, last = data.generations
    assert second.against_teacher is not None
    worse = replace(second, against_teacher=replace(second.against_teacher, verdict="worse"))
    changed = replace(data, generations=(first, worse, last))
    advice = " ".join([*decisions(changed), *decisions(replace(data, from_scratch=True))])
    assert "model.name: unet/tf_efficientnet_lite0" in advice
    assert re.search(r"the weakest classes: \w+ \(\d+ % IoU\)", advice)
    assert "clearly worse than its teacher" in advice
    assert "selftrain pick --count 50 --label-studio;" in advice
    assert "photographs.yaml" not in advice


def test_of_other_images_or_without_errors_there_are_no_worst(
    folder: Path, data: ReportData
) -> None:
    _, masks = scenes(40)
    assert worst_images(folder, result_of(masks, 0, 0), NAMES, TASK) is None
    with pytest.raises(DataError, match="evaluate again"):
        worst_images(folder, result_of(masks[:12], 0.4, 0), NAMES, TASK)


def test_table_note_and_headline_name_the_score(data: ReportData) -> None:
    data = replace(data, worst=None)
    assert "test mean IoU" in render_note(data)
    assert "mean IoU of" in render_table(data)
    assert set(headline(data)) == {
        *("test/miou", "test/miou/generation_0", "test/miou/control_longer")
    }
