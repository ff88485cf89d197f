import base64
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.shards import iter_shards
from pipeline.errors import DataError
from pipeline.evaluate.label_issues import find_label_issues
from pipeline.labels.doubt import class_pairs, diverse, doubt
from pipeline.report.galleries import (
    MOST_BYTES,
    MOST_SHOWN,
    SIDE,
    issue_gallery,
    likeliest,
    surest_per_class,
    thumbnail_uri,
    unlabeled_galleries,
)
from tests.data.helpers import encoded, noise, photo
from tests.labels.folders import write_predictions
from tests.report.pictures import Pictures, ids_of, make_pictures
from tests.tiny import CLASSES


def slow_surest(
    labels: list[int], confidences: list[float], among: list[bool], most: int
) -> list[int]:
    """Round after round one of each class, the surest that is left; then class by class."""
    queues = {
        label: sorted(
            (row for row in range(len(labels)) if labels[row] == label and among[row]),
            key=lambda row: (-confidences[row], row),
        )
        for label in sorted(set(labels))
    }
    chosen: list[int] = []
    while any(queues.values()) and len(chosen) < most:
        heads = [queue.pop(0) for queue in queues.values() if queue]
        heads.sort(key=lambda row: (-confidences[row], row))
        chosen += heads[: most - len(chosen)]
    return sorted(chosen, key=lambda row: (labels[row], -confidences[row], row))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8), st.booleans()), max_size=25),
    st.integers(0, 12),
)
def test_the_surest_of_each_class_are_those_of_asking_class_by_class(
    rows: list[tuple[int, int, bool]], most: int
) -> None:
    labels, levels, among = ([row[i] for row in rows] for i in range(3))
    confidences = [level / 8 for level in levels]
    got = surest_per_class(
        np.array(labels, np.int64),
        np.array(confidences, np.float32),
        np.array(among, np.bool_),
        most,
    )
    assert got == slow_surest(labels, confidences, [bool(each) for each in among], most)


def test_the_likeliest_classes_come_first() -> None:
    values = np.array([0.1, 0.4, 0.4, 0.05, 0.03, 0.02], np.float32)
    found = likeliest(values, "abcdef")
    assert [name for name, _ in found] == ["b", "c", "a", "d", "e"]
    assert found[2][1] == pytest.approx(0.1)


def opened(uri: str) -> tuple[str, Image.Image]:
    kind, _, data = uri.removeprefix("data:image/").partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_image_stays_to_the_pixel(channels: int) -> None:
    pixels = noise(1, 16, channels)
    kind, image = opened(thumbnail_uri(encoded(pixels)))
    assert kind == "png"
    assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [90, 97, 700])
def test_the_worst_image_fits(side: int, channels: int) -> None:
    uri = thumbnail_uri(encoded(noise(2, side, channels)))
    assert len(uri) <= MOST_BYTES * 4 / 3 + 30
    kind, image = opened(uri)
    assert kind == "jpeg"
    assert image.size == (min(side, SIDE),) * 2


def test_a_large_image_keeps_its_look_and_shape() -> None:
    kind, image = opened(thumbnail_uri(encoded(photo(400, 200))))
    assert (kind, image.size) == ("jpeg", (SIDE, SIDE // 2))
    wanted = np.asarray(photo(400, 200).resize(image.size)).astype(int)
    assert abs(np.asarray(image).astype(int) - wanted).mean() < 6


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    return make_pictures(tmp_path_factory.mktemp("pictures"))


def stored_images(folder: Path) -> dict[str, bytes]:
    rows = [row for table in iter_shards(folder) for row in table.to_pylist()]
    return {row["id"]: row["image"] for row in rows}


def test_every_image_is_shown_with_its_own_pixels_and_probabilities(pictures: Pictures) -> None:
    stored = stored_images(pictures.prepared / "unlabeled")
    last = dict(zip(pictures.ids, pictures.teachers[1], strict=True))
    for gallery in pictures.galleries:
        for image in gallery.images:
            data = base64.b64decode(image.thumbnail.partition("base64,")[2])
            assert data == stored[image.id]
            shown = [share for _, share in image.probabilities]
            assert shown == pytest.approx(sorted(last[image.id].tolist(), reverse=True), abs=2e-3)
            assert image.probabilities[0][0] == CLASSES[last[image.id].argmax()]


def test_the_galleries_are_those_of_looking_at_every_image(pictures: Pictures) -> None:
    galleries = {gallery.key: gallery for gallery in pictures.galleries}
    before, last = pictures.teachers
    sure, labels = last.max(axis=1), last.argmax(axis=1)
    rows = range(len(sure))

    def names(among: list[int], sign: int) -> list[str]:
        order = sorted(among, key=lambda row: sign * sure[row])
        return [pictures.ids[row] for row in order[:MOST_SHOWN]]

    kept = [row for row in rows if sure[row] >= 0.7]
    left = [row for row in rows if sure[row] < 0.7 and not pictures.strangers[row]]
    strangers = [row for row in rows if pictures.strangers[row]]
    changed = [row for row in rows if labels[row] != before[row].argmax()]
    assert min(len(kept), len(left), len(changed), len(strangers)) > 0
    for key, expected in (
        ("least_sure", names(kept, 1)),
        ("missed", names(left, -1)),
        ("strangers", names(strangers, 1)),
        ("changed", names(changed, -1)),
    ):
        assert [image.id for image in galleries[key].images] == expected, key
    first = galleries["changed"].images[0]
    row = pictures.ids.index(first.id)
    assert first.caption == f"{CLASSES[before[row].argmax()]} → {CLASSES[labels[row]]}"
    assert first.note == f"The teacher before it: {CLASSES[before[row].argmax()]}"
    stored = [np.exp(np.log(part).astype(np.float16).astype(np.float32)) for part in (before, last)]
    queue = diverse(doubt(stored), class_pairs(np.mean(stored, axis=0)), 48)
    assert [image.id for image in galleries["offered"].images] == [pictures.ids[r] for r in queue]


def test_one_teacher_has_no_changes_and_no_images_no_galleries(
    pictures: Pictures, tmp_path: Path
) -> None:
    unlabeled, last = pictures.prepared / "unlabeled", pictures.predictions[-1:]
    galleries = unlabeled_galleries(unlabeled, last, pictures.pseudo_labels, CLASSES)
    assert "changed" not in [gallery.key for gallery in galleries]
    none = tmp_path / "none"
    write_predictions(none, np.empty((0, 3)))
    assert unlabeled_galleries(tmp_path, [none], none, CLASSES) == []
    write_predictions(none, np.full((5, 3), 1 / 3, np.float32))
    with pytest.raises(DataError, match=r"none: of other images than .*unlabeled has now"):
        unlabeled_galleries(unlabeled, last, none, CLASSES)


def test_contradicted_labels_are_shown_as_the_ensemble_sees_them(
    pictures: Pictures, tmp_path: Path
) -> None:
    labeled = pictures.prepared / "labeled"
    ids = ids_of(labeled)
    draw = np.random.default_rng(9)
    folders = {}
    for key in ("0", "1"):
        values = draw.dirichlet(np.ones(3), len(ids))
        write_predictions(tmp_path / key, values, rows_per_shard=16, ids=ids)
        folders[key] = tmp_path / key
    weights = {"0": 0.25, "1": 0.75}
    issues = find_label_issues(labeled, folders, weights, CLASSES, least_margin=0.1)
    (gallery,) = issue_gallery(labeled, issues, folders, weights, CLASSES)
    assert [image.id for image in gallery.images] == [issue.id for issue in issues]
    stored = stored_images(labeled)
    for image, issue in zip(gallery.images, issues, strict=True):
        assert image.caption == f"label {issue.label}, seen as {issue.ensemble}"
        shares = dict(image.probabilities)
        assert shares[issue.label] == pytest.approx(issue.label_probability, abs=1e-5)
        assert shares[issue.ensemble] == pytest.approx(issue.ensemble_probability, abs=1e-5)
        assert base64.b64decode(image.thumbnail.partition("base64,")[2]) == stored[issue.id]
    assert issue_gallery(labeled, [], folders, weights, CLASSES) == []
