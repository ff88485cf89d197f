import base64
from pathlib import Path

import numpy as np
import pytest

from pipeline.data.shards import iter_shards
from pipeline.evaluate.label_issues import find_label_issues
from pipeline.labels.doubt import class_pairs, diverse, doubt
from pipeline.report.galleries import MOST_SHOWN
from pipeline.report.gather_galleries import gather_galleries, issue_gallery
from tests.labels.folders import write_predictions
from tests.report.pictures import Pictures, ids_of, make_pictures
from tests.tiny import CLASSES


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
    only = {"2": pictures.predictions["2"]}
    found = gather_galleries(pictures.prepared, only, pictures.pseudo_labels, CLASSES)
    assert "changed" not in [gallery.key for gallery in found]
    write_predictions(tmp_path / "none", np.empty((0, 3)))
    assert gather_galleries(tmp_path, {"1": tmp_path / "none"}, tmp_path / "none", CLASSES) == []


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
    gallery = issue_gallery(labeled, issues, folders, weights, CLASSES)
    assert gallery is not None
    assert [image.id for image in gallery.images] == [issue.id for issue in issues]
    stored = stored_images(labeled)
    for image, issue in zip(gallery.images, issues, strict=True):
        assert image.caption == f"label {issue.label}, seen as {issue.ensemble}"
        shares = dict(image.probabilities)
        assert shares[issue.label] == pytest.approx(issue.label_probability, abs=1e-5)
        assert shares[issue.ensemble] == pytest.approx(issue.ensemble_probability, abs=1e-5)
        assert base64.b64decode(image.thumbnail.partition("base64,")[2]) == stored[issue.id]
    assert issue_gallery(labeled, [], folders, weights, CLASSES) is None
