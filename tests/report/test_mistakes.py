"""The test images that the champion gets wrong, by themselves and from the confusion matrix."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.shards import read_labels
from pipeline.errors import DataError
from pipeline.report.galleries import MOST_BYTES, MOST_SHOWN, Gallery, ShownImage
from pipeline.report.mistakes import (
    MOST_OF_A_CELL,
    MOST_OF_CELLS,
    Cell,
    Mistakes,
    error_words,
    find_mistakes,
)
from pipeline.report.originals import MOST_PAGE_BYTES, Picture, shown_pictures
from pipeline.report.page import render_report
from tests.data.helpers import data_params, encoded, photo
from tests.report.example import example_report
from tests.report.pictures import ids_of
from tests.report.test_page import Reader
from tests.tiny import CLASSES, prepared_stripes

Floats = NDArray[np.float64]


@pytest.fixture(scope="module")
def test_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepared = tmp_path_factory.mktemp("prepared")
    return prepared_stripes(prepared, count=240, test_fraction=0.5) / "test"


def log_probs_of(labels: NDArray[np.int64], classes: int, skill: float) -> Floats:
    logits = np.random.default_rng(3).normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    log_probs: Floats = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_probs


def found(folder: Path, skill: float = 1.0) -> tuple[Mistakes, Floats, NDArray[np.int64]]:
    labels = read_labels(folder)
    log_probs = log_probs_of(labels, 3, skill)
    mistakes = find_mistakes(folder, log_probs, labels, CLASSES)
    assert mistakes is not None
    return mistakes, log_probs, labels


def test_the_surest_mistakes_come_first_and_say_what_is_what(test_images: Path) -> None:
    mistakes, log_probs, labels = found(test_images)
    ids, guesses = ids_of(test_images), log_probs.argmax(axis=1)
    wrong = [row for row in range(len(ids)) if guesses[row] != labels[row]]
    wrong.sort(key=lambda row: -log_probs[row].max())
    assert len(wrong) > MOST_SHOWN
    assert not mistakes.surest.answers
    assert f"{MOST_SHOWN} of {len(wrong)}" in mistakes.surest.about
    for image, row in zip(mistakes.surest.images, wrong[:MOST_SHOWN], strict=True):
        assert image.id == ids[row]
        share = f"{100 * np.exp(log_probs[row].max()):.0f} %"
        seen = f"{CLASSES[labels[row]]}, seen as {CLASSES[guesses[row]]} {share}"
        assert image.caption == seen
        assert image.probabilities[0][0] == CLASSES[guesses[row]]


def test_every_error_has_a_cell_of_its_surest_images(test_images: Path) -> None:
    mistakes, log_probs, labels = found(test_images)
    ids, guesses = ids_of(test_images), log_probs.argmax(axis=1)
    counts = Counter(zip(labels.tolist(), guesses.tolist(), strict=True))
    errors = {key: count for key, count in counts.items() if key[0] != key[1]}
    assert {(cell.label, cell.predicted): cell.count for cell in mistakes.cells} == errors
    assert mistakes.errors == len(errors)
    assert [cell.count for cell in mistakes.cells] == sorted(errors.values(), reverse=True)
    for cell in mistakes.cells:
        rows = [
            r for r in range(len(ids)) if (labels[r], guesses[r]) == (cell.label, cell.predicted)
        ]
        rows.sort(key=lambda row: -log_probs[row].max())
        assert [image.id for image in cell.gallery.images] == [
            ids[row] for row in rows[:MOST_OF_A_CELL]
        ]
        names = CLASSES[cell.label], CLASSES[cell.predicted]
        assert cell.gallery.title == error_words(cell.count, *names)


def test_none_wrong_are_no_mistakes_and_other_images_an_error(test_images: Path) -> None:
    labels = read_labels(test_images)
    right = log_probs_of(labels, 3, 50.0)
    assert find_mistakes(test_images, right, labels, CLASSES) is None
    with pytest.raises(DataError, match="not the images that were tested"):
        find_mistakes(test_images, right[1:], labels[1:], CLASSES)


@pytest.mark.parametrize("classes", [3, 10, 40, 300])
def test_cells_are_bounded_whatever_the_classes(test_images: Path, classes: int) -> None:
    labels = np.random.default_rng(1).integers(0, classes, len(read_labels(test_images)))
    names = [f"class {number}" for number in range(classes)]
    mistakes = find_mistakes(test_images, log_probs_of(labels, classes, 0.0), labels, names)
    assert mistakes is not None
    shown = [len(cell.gallery.images) for cell in mistakes.cells]
    assert min(shown) >= 1
    assert max(shown) <= MOST_OF_A_CELL
    assert sum(shown) <= MOST_OF_CELLS


def test_more_errors_than_cells_show_the_most_frequent(
    test_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.mistakes.MOST_OF_CELLS", 4)
    mistakes, *_ = found(test_images)
    assert mistakes.errors == 6
    assert [len(cell.gallery.images) for cell in mistakes.cells] == [1] * 4
    page = page_of(mistakes)
    assert "the 4 most frequent of 6" in Reader(page).words
    assert page.count('id="confusion-of-') == 4


def page_of(mistakes: Mistakes | None, classes: tuple[str, ...] = CLASSES) -> str:
    return render_report(replace(example_report(classes, skills=(2.0, 3.0)), mistakes=mistakes))


def test_cells_lead_to_their_images_and_back(test_images: Path) -> None:
    mistakes, *_ = found(test_images)
    page = page_of(mistakes)
    reader = Reader(page)
    assert (reader.open, reader.wrong) == ([], [])
    assert page.count("<script") == 1
    ids = [value for _, key, value in reader.attributes if key == "id"]
    assert len(ids) == len(set(ids))
    links = [v for tag, key, v in reader.attributes if tag == "a" and key in ("href", "xlink:href")]
    assert {str(link)[1:] for link in links} <= {*map(str, ids)}
    labels = [value for tag, key, value in reader.attributes if (tag, key) == ("a", "aria-label")]
    for cell in mistakes.cells:
        assert cell.gallery.title in labels
        assert links.count(f"#confusion-{cell.key}") in (1, 2)  # in the matrix, in the table
        assert f"#confusion-of-{cell.key}" in links
    for diagonal in range(3):
        assert f"confusion-of-{diagonal}-{diagonal}" not in ids
    figure = next(part for part in page.split("<svg") if 'id="confusion-figure' in part)
    assert figure.startswith(' role="group"')
    assert 'target="_blank"' not in page


def test_without_mistakes_there_are_no_links() -> None:
    page = page_of(None)
    assert "confusion-of-" not in page
    assert "<script" not in page


def cell_of(names: tuple[str, ...], image: ShownImage, count: int = 1) -> Mistakes:
    title = error_words(count, *names[:2])
    gallery = Gallery("cell-0-1", title, "", (image,), answers=False)
    surest = Gallery("mistakes", "Surest", "About.", (image,), answers=False)
    return Mistakes(surest, (Cell(0, 1, count, gallery),), 1)


def test_hostile_names_are_escaped_wherever_they_are() -> None:
    nasty = ('"><script>alert(1)</script>', "a\u202eb\x1b", "plain")
    image = ShownImage("</script>'\"<img onerror=x>", "data:,", nasty[0], ((nasty[0], 1.0),))
    data = replace(
        example_report(nasty, skills=(2.0, 3.0)),
        mistakes=cell_of(nasty, image, 12),
        pictures={image.id: Picture("data:,", whole=True)},
    )
    page = render_report(data)
    reader = Reader(page)
    assert (reader.open, reader.wrong) == ([], [])
    assert page.count("<script") == 1
    assert "onerror=x" not in {key for _, key, _ in reader.attributes}
    assert not re.search("[\u202e\x1b]", page)
    shown = [json.loads(v or "") for _, key, v in reader.attributes if key == "data-id"]
    assert shown == [image.id] * 3
    (label, *_) = [v for tag, key, v in reader.attributes if (tag, key) == ("a", "aria-label")]
    assert label == f"12 images of {nasty[0]} seen as a\\u202eb\\x1b"


def image_of(name: str, stored: bytes) -> ShownImage:
    return ShownImage(name, "data:,", "", (), stored=stored)


def test_the_user_s_own_file_is_shown_and_else_the_stored_crop(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "small.png"):
        size = (60, 60) if name == "small.png" else (300, 200)
        (tmp_path / "cat").mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_bytes(encoded(photo(*size)))
    crop, small = encoded(photo(128, 128)), encoded(photo(60, 60))
    images = [
        image_of("cat/a.png", crop),
        image_of("cat/gone.png", crop),
        image_of("cat/small.png", small),
        image_of("cat/b.png", small),
    ]
    data = data_params(source="folder", path=str(tmp_path), channels=3)
    pictures = shown_pictures(images, data)
    assert {name: picture.whole for name, picture in pictures.items()} == {
        "cat/a.png": True,
        "cat/b.png": True,
        "cat/gone.png": False,
    }
    assert shown_pictures(images, data) == pictures
    assert shown_pictures([], data) == {}
    assert shown_pictures([image_of("digit_00001", small)], data_params()) == {}


def test_the_pictures_of_a_page_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.report.originals.MOST_PAGE_BYTES", 100_000)
    worst = encoded(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    (tmp_path / "cat").mkdir()
    images = [image_of(f"cat/{number}.png", worst) for number in range(12)]
    for image in images:
        (tmp_path / image.id).write_bytes(worst)
    data = data_params(source="folder", path=str(tmp_path), channels=3)
    for count in (2, 5, 12):
        pictures = shown_pictures(images[:count], data)
        assert len(pictures) == min(count, 8)
        assert sum(len(each.uri) for each in pictures.values()) <= 100_000 * 4 / 3 + 400


def test_a_page_of_the_most_mistakes_stays_bounded() -> None:
    names = tuple(f"a class of a longer name {number}" for number in range(300))
    uri = "data:image/jpeg;base64," + "A" * (MOST_BYTES * 4 // 3)
    image = ShownImage("a/folder/an/image_of_it.jpg", uri, names[0], ((names[0], 0.2),) * 5)
    cells = tuple(
        Cell(n, n + 1, 3, Gallery(f"cell-{n}-{n + 1}", "3 images", "", (image,), answers=False))
        for n in range(MOST_OF_CELLS)
    )
    surest = Gallery("mistakes", "Surest", "", (image,) * MOST_SHOWN, answers=False)
    data = example_report(names, skills=(2.0, 3.0))
    picture = Picture("A" * (MOST_PAGE_BYTES * 4 // 3 // 100), whole=True)
    whole = replace(
        data,
        mistakes=Mistakes(surest, cells, 9999),
        pictures={f"image {number}": picture for number in range(100)},
    )
    assert len(render_report(whole).encode()) < 16_000_000
