import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.shards import read_manifest, write_manifest
from pipeline.data.sliced import LabeledImages
from pipeline.data.tensors import load_images
from pipeline.errors import DataError
from pipeline.evaluate.run import (
    RESULT_FILE,
    ModelResult,
    compare_with,
    images_seen,
    load_result,
    measure,
    save_result,
    write_confusion,
)
from tests.tiny import prepared_stripes

JUDGED: dict[str, Any] = {"interval": 0.95, "seed": 0}
BOOTSTRAP: dict[str, Any] = JUDGED | {"bootstrap_samples": 200}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_stripes(tmp_path_factory.mktemp("prepared"))


class Guesser:
    """A model that is right on all images but every `miss`-th, and surer with more views."""

    def __init__(self, miss: int) -> None:
        self.miss, self.asked = miss, list[tuple[int, str]]()

    def __call__(self, images: LabeledImages, view: str) -> NDArray[np.float32]:
        self.asked.append((len(images), view))
        guesses = images.labels.numpy().copy()
        guesses[:: self.miss] = (guesses[:: self.miss] + 1) % 3
        sure = 0.6 if view == "centre" else 0.8
        one_hot = np.eye(3, dtype=np.float32)[guesses]
        return np.asarray(np.log(one_hot * sure + (1 - one_hot) * (1 - sure) / 2), np.float32)


def measured(prepared: Path, miss: int = 4, view: str = "five_crop") -> ModelResult:
    how: dict[str, Any] = {"threads": 1, **JUDGED}
    return measure(Guesser(miss), prepared, view=view, **how)


def test_figures_are_of_the_images_they_name(prepared: Path) -> None:
    test, validation = (load_images(prepared / name) for name in ("test", "validation"))
    result = measured(prepared)
    share = 1 - -(-len(test) // 4) / len(test)
    assert result.test.accuracy == result.centre.accuracy == pytest.approx(share)
    assert result.test.images == len(test)
    assert result.test.nll < result.centre.nll  # surer, with views, and mostly right
    assert result.validation is not None
    assert result.validation.images == len(validation)
    assert result.test_labels.tolist() == test.labels.tolist()
    assert result.validation_labels.tolist() == validation.labels.tolist()
    flat = result.metrics
    assert flat["test/accuracy"] == result.test.accuracy
    assert flat["test/centre/nll"] == result.centre.nll
    assert flat["val/accuracy"] == result.validation.accuracy
    assert "test/gain" not in flat


def test_the_centre_view_is_predicted_once(prepared: Path) -> None:
    for view, times in (("centre", 1), ("flip", 2)):
        guesser = Guesser(4)
        measure(guesser, prepared, view=view, threads=1, **JUDGED)
        images = len(load_images(prepared / "test"))
        assert len([asked for asked in guesser.asked if asked[0] == images]) == times


@pytest.mark.parametrize(("view", "robustness_images"), [("centre", 4), ("flip", None)])
def test_the_images_that_are_predicted_are_known_before(
    prepared: Path, view: str, robustness_images: int | None
) -> None:
    guesser = Guesser(4)
    how: dict[str, Any] = {"view": view, "robustness_images": robustness_images}
    measure(guesser, prepared, threads=1, **how, **JUDGED)
    test, validation = (read_manifest(prepared / part).rows for part in ("test", "validation"))
    channels = load_images(prepared / "test").images.shape[1]
    expected = images_seen(test, validation, channels=channels, **how)
    assert sum(count for count, _ in guesser.asked) == expected


def test_without_validation_images_there_are_no_figures_of_them(tmp_path: Path) -> None:
    result = measured(prepared_stripes(tmp_path, validation_fraction=0.0))
    assert result.validation is None
    assert "val/accuracy" not in result.metrics
    save_result(tmp_path / "result", result)
    assert load_result(tmp_path / "result").validation is None


def test_the_nearest_neighbours_are_asked_of_labelled_and_test_images(
    prepared: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []

    def nearest(labeled: LabeledImages, test: LabeledImages) -> float:
        seen.append((len(labeled), len(test)))
        return 0.75

    how: dict[str, Any] = {"view": "centre", "threads": 1, **JUDGED}
    result = measure(Guesser(4), prepared, nearest=nearest, **how)
    assert seen == [tuple(len(load_images(prepared / part)) for part in ("labeled", "test"))]
    assert result.metrics["test/knn_accuracy"] == 0.75
    save_result(tmp_path, result)
    assert load_result(tmp_path).knn_accuracy == 0.75
    assert "test/knn_accuracy" not in measured(prepared).metrics


def test_robustness_is_measured_on_some_of_the_test_images(prepared: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"view": "flip", "threads": 1, **JUDGED}
    guesser = Guesser(4)
    result = measure(guesser, prepared, robustness_images=10, **how)
    assert result.robustness is not None
    assert result.robustness.images == 10
    passes = [asked for asked in guesser.asked if asked == (10, "centre")]
    assert len(passes) == 1 + 5 * len(result.robustness.accuracy)
    share = 1 - 3 / 10  # images 0, 4 and 8 of the ten
    assert result.metrics["test/corrupted_accuracy"] == pytest.approx(share)
    assert result.metrics["test/mce"] == 1
    student = measure(Guesser(1000), prepared, robustness_images=10, **how)
    compared = compare_with(student, result, result, **BOOTSTRAP)
    assert compared.metrics["test/mce"] == pytest.approx(1 / 3)
    save_result(tmp_path, compared)
    assert load_result(tmp_path).robustness == compared.robustness
    assert "test/mce" not in measured(prepared).metrics


def test_without_test_images_it_says_what_to_raise(tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path)
    write_manifest(prepared / "test", [], read_manifest(prepared / "test").metadata)
    with pytest.raises(DataError, match=r"data\.test_fraction"):
        measured(prepared)


def test_a_better_model_is_called_so_against_both(prepared: Path) -> None:
    first, teacher, student = (measured(prepared, miss) for miss in (1, 2, 1000))
    result = compare_with(student, first, teacher, **BOOTSTRAP)
    assert result.against_first is not None
    assert result.against_teacher is not None
    assert result.against_first.difference > result.against_teacher.difference > 0
    assert result.against_teacher.verdict == "better"
    assert result.metrics["test/gain"] == result.against_teacher.difference
    same = compare_with(teacher, teacher, student, **BOOTSTRAP)
    assert same.against_first is not None
    assert same.against_first.difference == 0
    assert same.against_teacher is not None
    assert same.against_teacher.verdict == "worse"


def test_a_result_comes_back_as_it_was_and_in_the_same_bytes(
    prepared: Path, tmp_path: Path
) -> None:
    result = compare_with(
        measured(prepared), measured(prepared, 2), measured(prepared, 3), **BOOTSTRAP
    )
    for name in ("a", "b"):
        save_result(tmp_path / name, result)
    loaded = load_result(tmp_path / "a")
    for name in ("test_log_probs", "test_labels", "validation_log_probs", "validation_labels"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(result, name))
    for name in ("test", "centre", "validation", "against_first", "against_teacher"):
        assert getattr(loaded, name) == getattr(result, name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_missing_cut_or_foreign_result_is_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not an evaluation"):
        load_result(tmp_path / "nowhere")
    for number, (name, content) in enumerate(
        [
            (RESULT_FILE, b"{"),
            (RESULT_FILE, b"[]"),
            (RESULT_FILE, b"{}"),
            ("test_log_probs.npy", b""),
            ("test_log_probs.npy", b"\x93NUMPY\x01\x00"),
            ("validation_labels.npy", b"no array"),
        ]
    ):
        folder = tmp_path / str(number)
        save_result(folder, measured(prepared))
        (folder / name).write_bytes(content)
        with pytest.raises(DataError, match="run its stage again") as caught:
            load_result(folder)
        assert str(folder) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_figures_that_are_no_evaluation_are_refused(prepared: Path, tmp_path: Path) -> None:
    save_result(tmp_path, measured(prepared))
    figures = json.loads((tmp_path / RESULT_FILE).read_text())
    (tmp_path / RESULT_FILE).write_text(json.dumps(figures | {"test": {"accuracy": 1}}))
    with pytest.raises(DataError):
        load_result(tmp_path)


def test_the_confusion_file_holds_a_row_for_each_image(prepared: Path, tmp_path: Path) -> None:
    result = replace(
        measured(prepared),
        test_labels=np.array([0, 1, 2, 2]),
        test_log_probs=np.log(np.eye(3, dtype=np.float32)[[0, 2, 2, 1]] + 0.1),
    )
    write_confusion(tmp_path / "confusion.csv", result, ["left", "a, b", "right"])
    assert (tmp_path / "confusion.csv").read_text() == (
        'actual,predicted\nleft,left\n"a, b",right\nright,right\nright,"a, b"\n'
    )
