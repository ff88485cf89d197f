"""A folder of images to a table: every file has its row, and memory does not grow with them."""

from __future__ import annotations

import base64
import csv
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources.loose import LooseImages
from pipeline.data.sources.rows import Row
from pipeline.evaluate.classifier import Answers, Classifier, classify_encoded, load_classifier
from pipeline.evaluate.classify import classify
from pipeline.evaluate.predict_files import classify_rows, predict_files
from pipeline.files import FORMULA, csv_value
from tests.data.helpers import encoded, noise, photo
from tests.tiny import CLASSES, save_model


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("models") / "0"
    save_model(folder, seed=4)
    return load_classifier(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    (images / "more").mkdir(parents=True)
    for number in range(7):
        (images / "more" / f"{number}.png").write_bytes(encoded(noise(number)))
    (images / "a, b.jpg").write_bytes(encoded(photo(), "JPEG"))
    (images / "broken.jpg").write_bytes(b"no image")
    (images / "gone.png").symlink_to(images / "nowhere.png")
    return images


def test_every_file_has_a_row_and_a_bad_one_its_reason(
    folder: Path, classifier: Classifier, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "predictions.parquet"
    summary = predict_files(classifier, LooseImages(str(folder)), out, batch_size=3, threads=2)
    assert (summary.classified, summary.bad) == (8, 2)
    table = pq.read_table(out).to_pylist()
    assert [row["id"] for row in table[:3]] == ["a, b.jpg", "broken.jpg", "gone.png"]
    for row in table:
        probabilities = [row[f"probability_{name}"] for name in CLASSES]
        if row["id"] in ("broken.jpg", "gone.png"):
            assert row["label"] is row["confidence"] is None
            assert probabilities == [None] * 3
        else:
            data = (folder / row["id"]).read_bytes()
            want = np.exp(classify_encoded(classifier, [data]).predictions[0])
            np.testing.assert_allclose(probabilities, want, atol=1e-6)
            assert row["label"] == CLASSES[want.argmax()]
            assert row["confidence"] == max(probabilities)
            assert row["error"] is None
    assert table[1]["error"] == "not an image"
    assert "No such file" in table[2]["error"]
    assert summary.first_bad[0] == ("broken.jpg", "not an image")


def test_a_row_with_a_problem_is_not_decoded(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def counted(classifier: Classifier, images: list[bytes], *, threads: int) -> Answers:
        decoded.append(len(images))
        return classify_encoded(classifier, images, threads=threads)

    monkeypatch.setattr("pipeline.evaluate.predict_files.classify_encoded", counted)
    image = encoded(noise(1))
    rows = [Row("a", b"", problem="no image"), Row("b", image), Row("c", b"x")]
    answers = classify_rows(classifier, rows)
    assert answers.problems == ["no image", None, "not an image"]
    assert answers.rows == [None, 0, None]
    want = classify_encoded(classifier, [image]).predictions
    np.testing.assert_array_equal(answers.predictions, want)
    assert classify_rows(classifier, rows[:1]).problems == ["no image"]
    assert decoded == [2, 0]


def test_csv_says_the_same(folder: Path, classifier: Classifier, tmp_path: Path) -> None:
    for name in ("p.csv", "p.parquet"):
        predict_files(classifier, LooseImages(str(folder)), tmp_path / name, batch_size=4)
    with (tmp_path / "p.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [list(row) for row in rows[:1]] == [list(row) for row in table[:1]]
    for row, want in zip(rows, table, strict=True):
        for key, value in want.items():
            text_value = "" if value is None else value
            assert row[key] == (f"{value:.6f}" if isinstance(value, float) else text_value)


class Formulas:
    """Images whose ids a spreadsheet would compute."""

    ids = ("=cmd|' /C calc'!A0.png", "+1", "-1", "@A1", "\t=1", "a\r=1", "'=1", "plain")

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> Iterator[Row]:
        return (Row(name, encoded(noise(1))) for name in self.ids)


def test_no_cell_of_the_csv_is_a_formula(tmp_path: Path) -> None:
    save_model(tmp_path / "0", classes=["=a", "+b", "@c\r=d"])
    predict_files(load_classifier(tmp_path / "0"), Formulas(), tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as text:
        rows = list(csv.reader(text))
    assert [csv_value(row[0]) for row in rows[1:]] == list(Formulas.ids)
    assert not any(cell.startswith(FORMULA) for row in rows for cell in row)


class Failing:
    """Images of which the third can't be had, for a reason that nobody foresaw."""

    def __len__(self) -> int:
        return 3

    def rows(self) -> Iterator[Row]:
        yield from (Row(str(number), encoded(noise(number))) for number in range(2))
        raise OSError("disk gone")


def test_a_table_is_written_whole_or_not_at_all(classifier: Classifier, tmp_path: Path) -> None:
    out = tmp_path / "p.csv"
    out.write_text("old")
    with pytest.raises(OSError, match="disk gone"):
        predict_files(classifier, Failing(), out, batch_size=1)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


class Large:
    """Images with a megabyte of text behind each."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def rows(self) -> Iterator[Row]:
        for number in range(self._count):
            yield Row(str(number), encoded(noise(number)) + bytes(1_000_000))


def test_a_batch_is_bounded_by_its_bytes(
    classifier: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.evaluate.predict_files.BATCH_BYTES", 5_000_000)
    text = [base64.b64encode(row.image).decode() for row in Large(40).rows()]
    for work in (
        lambda: predict_files(classifier, Large(40), tmp_path / "p.parquet"),
        lambda: classify(classifier, text),
    ):
        tracemalloc.start()
        work()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 30_000_000
    assert pq.read_table(tmp_path / "p.parquet")["id"].to_pylist() == [str(n) for n in range(40)]


def test_memory_does_not_grow_with_the_images(classifier: Classifier, tmp_path: Path) -> None:
    peaks = []
    for count in (16, 64):
        tracemalloc.start()
        predict_files(classifier, Large(count), tmp_path / "p.parquet", batch_size=4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
    assert peaks[1] < 40_000_000
