import json
from pathlib import Path
from typing import cast

import pytest

from pipeline import progress
from pipeline.params import TrainParams
from pipeline.tracking.tracker import Tracker
from pipeline.workflow.training_progress import following

STEPS = TrainParams(steps=40)


class Tracked:
    """Where the figures go."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values: dict[str, float], step: int) -> None:
        self.seen.append((step, values))


def test_what_is_appended_is_shown_and_tracked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    history, tracked = tmp_path / "history.jsonl", Tracked()
    points = [
        (10, {"loss": 0.5, "images_per_second": 1234.0}),
        (20, {"loss": 0.25}),
        (20, {"val/accuracy": 0.875}),
        (40, {"loss": 0.125}),
    ]
    whole = "".join(json.dumps({"step": step, "values": values}) + "\n" for step, values in points)
    with following(history, cast(Tracker, tracked), "train_student@1", STEPS):
        history.write_text(whole + '{"step": 41, "val')  # the last line is torn: not yet whole
    assert tracked.seen == points
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train_student@1: 10/40 steps  loss 0.500, 1,234 images/s"
    assert lines[1].startswith("train_student@1: 20/40 steps, ")
    assert lines[-1].startswith("train_student@1: 40/40 steps, ")
    assert lines[-1].endswith("s left  loss 0.125, 1,234 images/s, validation 87.5%")
    assert len(lines) == 3


def test_a_run_that_logs_nothing_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tracked = Tracked()
    with following(tmp_path / "history.jsonl", cast(Tracker, tracked), "train_teacher", STEPS):
        pass
    assert not tracked.seen
    assert not capsys.readouterr().out
