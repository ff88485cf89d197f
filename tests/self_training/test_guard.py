from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RegressionError
from pipeline.files import write_json
from pipeline.labels.audit import Audit, audit
from pipeline.labels.select import Candidates, Reason
from pipeline.params import Params, parse_params
from pipeline.self_training.guard import check_selection, check_teacher, findings_about_student
from pipeline.tasks.task import Choice
from tests.integration.project import SMALL

CLASSES = ("cat", "dog")


def params_of(folder: Path, lost: int = 20, **guard: Any) -> Params:
    """After a generation 1 that lost so many validation images, and a generation 0."""
    for key in ("0", "1"):
        counts = {"images": 100, "accuracy": 0.9, "gained": 0, "lost": 0, "teacher_accuracy": None}
        if key == "1":
            counts |= {"lost": lost, "accuracy": 0.9 - lost / 100, "teacher_accuracy": 0.9}
        write_json(folder / f"{key}.json", counts)
    return parse_params({**SMALL, "guard": guard})


def figures(kept: int = 1, images: int = 4) -> Audit:
    """Of images all of class "cat", the first so many kept."""
    numbers = np.arange(images)
    candidates = Candidates(
        np.zeros(images, np.int32),
        np.full(images, 0.9, np.float32),
        numbers.astype(np.uint64),
        np.zeros(images, np.bool_),
    )
    reasons = np.where(numbers < kept, Reason.KEPT, Reason.BELOW_THRESHOLD).astype(np.uint8)
    selection = Choice((numbers < kept).astype(np.int32), reasons)
    return audit(candidates, selection, np.full(images, -1, np.int32), np.zeros(2, np.float32))


def test_warn_finds_and_goes_on(tmp_path: Path) -> None:
    params, counts = params_of(tmp_path), tmp_path / "1.json"
    findings = check_teacher(params, "2", counts) + check_selection(params, "2", figures(), CLASSES)
    assert len(findings) == 2
    assert "generation 1 is right on 20 fewer" in findings[0]
    assert "'dog'" in findings[1]
    assert findings_about_student(params, "1", counts) == findings[:1]


def test_stop_says_what_is_kept(tmp_path: Path) -> None:
    params = params_of(tmp_path, on_regression="stop")
    with pytest.raises(RegressionError, match="generation 0 is kept") as caught:
        check_teacher(params, "2", tmp_path / "1.json")
    assert "generations.2" in str(caught.value)
    with pytest.raises(RegressionError, match=r"generation 1 is kept.*select\.threshold_kind"):
        check_selection(params, "2", figures(), CLASSES)


def test_stop_stops_nothing_where_nothing_is_found(tmp_path: Path) -> None:
    params = params_of(tmp_path, lost=2, on_regression="stop")
    assert check_teacher(params, "2", tmp_path / "1.json") == []
    assert check_teacher(params, "1", tmp_path / "0.json") == []
    lenient = params_of(tmp_path, on_regression="stop", min_class_images=0, min_coverage=0.25)
    assert check_selection(lenient, "2", figures(), CLASSES) == []


def test_ignore_looks_for_nothing(tmp_path: Path) -> None:
    params = params_of(tmp_path, on_regression="ignore", min_coverage=1.0)
    assert check_teacher(params, "2", tmp_path / "1.json") == []
    assert check_selection(params, "2", figures(), CLASSES) == []
    assert findings_about_student(params, "1", tmp_path / "1.json") == []


def test_coverage_has_a_floor_and_no_unlabelled_images_are_no_finding(tmp_path: Path) -> None:
    params = params_of(tmp_path, min_coverage=0.5, min_class_images=0)
    (finding,) = check_selection(params, "2", figures(), CLASSES)
    assert "25.0 %" in finding
    assert check_selection(params, "2", figures(0, 0), CLASSES) == []
