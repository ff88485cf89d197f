import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.evaluate.label_issues import (
    COLUMNS,
    LabelIssue,
    find_label_issues,
    read_label_issues,
    write_label_issues,
)
from tests.labels.folders import write_labeled, write_predictions

CLASSES = ("cat", "dog", "owl")


def drawn(count: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).dirichlet(np.ones(3), size=count).astype(np.float32)


def found(
    tmp_path: Path, labels: list[int], weights: dict[str, float], margin: float
) -> list[LabelIssue]:
    parts = {key: drawn(len(labels), int(key)) for key in weights}
    ids = [""]
    for key, part in parts.items():
        ids = write_predictions(tmp_path / key, part)
    folders = {key: tmp_path / key for key in weights}
    labeled = write_labeled(tmp_path / "labeled", ids, labels)
    return find_label_issues(labeled, folders, weights, CLASSES, least_margin=margin)


@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_they_are_those_of_a_slow_loop_worst_first(tmp_path: Path, margin: float) -> None:
    weights = {"1": 0.75, "2": 0.25}
    labels = [place % 3 for place in range(22)]
    issues = found(tmp_path, labels, weights, margin)
    mean = 0.75 * drawn(22, 1) + 0.25 * drawn(22, 2)
    expected: dict[str, tuple[str, str, float]] = {}
    for place, label in enumerate(labels):
        row = [float(value) for value in mean[place]]
        other = row.index(max(row))
        if other != label and row[other] - row[label] >= margin:
            expected[f"image_{place}"] = CLASSES[label], CLASSES[other], row[other]
    assert 3 < len(expected) < 22
    assert {issue.id for issue in issues} == expected.keys()
    for issue in issues:
        own, seen, probability = expected[issue.id]
        assert (issue.label, issue.ensemble) == (own, seen)
        assert issue.ensemble_probability == pytest.approx(probability, abs=2e-3)
        difference = issue.ensemble_probability - issue.label_probability
        assert issue.margin == pytest.approx(difference)
    margins = [issue.margin for issue in issues]
    assert margins == sorted(margins, reverse=True)


def test_labels_that_the_models_share_are_no_issue(tmp_path: Path) -> None:
    labels = drawn(9, 1).argmax(axis=1).tolist()
    assert found(tmp_path, labels, {"1": 1.0}, 0.0) == []


def test_predictions_of_other_images_are_refused(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p", drawn(4, 0), ids=["a", "b", "c", "d"])
    labeled = write_labeled(tmp_path / "labeled", ["a", "b", "d", "c"], [0, 1, 2, 0])
    with pytest.raises(DataError, match="evaluate again"):
        find_label_issues(labeled, {"0": tmp_path / "p"}, {"0": 1.0}, CLASSES, least_margin=0.0)


def test_the_list_survives_its_file(tmp_path: Path) -> None:
    issues = [
        LabelIssue('a "quoted", name\nof two lines', "cat", "dog", 0.125, 0.75, 0.625),
        LabelIssue("b", "owl", "cat", 0.25, 0.5, 0.25),
    ]
    path = tmp_path / "label_issues.csv"
    write_label_issues(path, issues)
    assert read_label_issues(path) == issues
    with path.open(newline="") as file:
        assert tuple(next(csv.reader(file))) == COLUMNS
    write_label_issues(path, [])
    assert read_label_issues(path) == []
    with pytest.raises(DataError, match="not a list"):
        read_label_issues(tmp_path / "nowhere.csv")
    path.write_text("id\na,b\n")
    with pytest.raises(DataError, match="not a list"):
        read_label_issues(path)
