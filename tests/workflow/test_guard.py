from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import RegressionError
from pipeline.files import write_json
from pipeline.labels.audit import Audit, audit
from pipeline.labels.select import Candidates, Reason, Selection
from pipeline.params import parse_params
from pipeline.workflow.guard import check_selection, check_teacher, findings_about_student, warn
from pipeline.workflow.stage import Stage
from tests.integration.project import SMALL

CLASSES = ("cat", "dog")


def stage(root: Path, generation: str = "2", lost: int = 20, **guard: Any) -> Stage:
    """A stage of `generation`, after a generation 1 that lost so many validation images."""
    params = parse_params({**SMALL, "guard": guard})
    for key in ("0", "1"):
        counts = {"images": 100, "accuracy": 0.9, "gained": 0, "lost": 0, "teacher_accuracy": None}
        if key == "1":
            counts |= {"lost": lost, "accuracy": 0.9 - lost / 100, "teacher_accuracy": 0.9}
        write_json(root / "metrics" / "guard" / f"{key}.json", counts)
    return Stage("select", generation, params, root)


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
    selection = Selection((numbers < kept).astype(np.int32), reasons)
    return audit(candidates, selection, np.full(images, -1, np.int32), np.zeros(2, np.float32))


def test_warn_finds_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at_work = stage(tmp_path)
    findings = check_teacher(at_work) + check_selection(at_work, figures(), CLASSES)
    assert len(findings) == 2
    assert "generation 1 is worse" in findings[0]
    assert "'dog'" in findings[1]
    warn(at_work, findings)
    warn(at_work, [])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("select@2: warning: generation 1 is worse")
    assert findings_about_student(at_work.layout, at_work.params, "1") == findings[:1]


def test_stop_says_what_is_kept(tmp_path: Path) -> None:
    at_work = stage(tmp_path, on_regression="stop")
    with pytest.raises(RegressionError, match="generation 0 is kept") as caught:
        check_teacher(at_work)
    assert "generations.2" in str(caught.value)
    with pytest.raises(RegressionError, match=r"generation 1 is kept.*select\.threshold_kind"):
        check_selection(at_work, figures(), CLASSES)


def test_stop_stops_nothing_where_nothing_is_found(tmp_path: Path) -> None:
    assert check_teacher(stage(tmp_path, lost=2, on_regression="stop")) == []
    assert check_teacher(stage(tmp_path, "1", on_regression="stop")) == []
    lenient = stage(tmp_path, on_regression="stop", min_class_images=0, min_coverage=0.25)
    assert check_selection(lenient, figures(), CLASSES) == []


def test_ignore_looks_for_nothing(tmp_path: Path) -> None:
    at_work = stage(tmp_path, on_regression="ignore", min_coverage=1.0)
    assert check_teacher(at_work) == []
    assert check_selection(at_work, figures(), CLASSES) == []
    assert findings_about_student(at_work.layout, at_work.params, "1") == []


def test_coverage_has_a_floor_and_no_unlabelled_images_are_no_finding(tmp_path: Path) -> None:
    at_work = stage(tmp_path, min_coverage=0.5, min_class_images=0)
    (finding,) = check_selection(at_work, figures(), CLASSES)
    assert "25.0 %" in finding
    assert check_selection(at_work, figures(0, 0), CLASSES) == []
