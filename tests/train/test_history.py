import json
from pathlib import Path

import pytest

from pipeline.train.history import (
    LOSS_FILE,
    VALIDATION_FILE,
    Point,
    drop_torn_line,
    history_log,
    read_curve,
    read_history,
    write_curves,
)


def losses(step: int, loss: float) -> Point:
    values = {"loss": loss, "loss_labeled": 0.25, "loss_pseudo": 0.5, "learning_rate": 1e-3}
    return Point(step, values | {"images_per_second": 123.4})


def written(path: Path, points: list[Point], torn: str = "") -> Path:
    lines = [json.dumps({"step": point.step, "values": point.values}) for point in points]
    path.write_text("".join(f"{line}\n" for line in lines) + torn)
    return path


def test_no_file_is_no_history(tmp_path: Path) -> None:
    assert read_history(tmp_path / "history.jsonl") == []


def test_of_a_step_trained_twice_the_last_counts(tmp_path: Path) -> None:
    points = [losses(10, 1.0), losses(20, 0.9), losses(10, 0.8), losses(20, 0.7), losses(30, 0.6)]
    path = written(tmp_path / "history.jsonl", points)
    assert read_history(path) == points[2:]


def test_losses_and_validation_of_one_step_are_both_kept(tmp_path: Path) -> None:
    points = [losses(10, 1.0), Point(10, {"val/accuracy": 0.5}), losses(20, 0.5)]
    path = written(tmp_path / "history.jsonl", points)
    assert read_history(path) == points


def test_torn_or_foreign_lines_do_not_count(tmp_path: Path) -> None:
    torn = '3\n[1]\n{"step": 4}\n\n{"step": 20, "values": {"lo'
    path = written(tmp_path / "history.jsonl", [losses(10, 1.0)], torn)
    assert read_history(path) == [losses(10, 1.0)]


def test_curves_are_written_and_read_back_without_rates(tmp_path: Path) -> None:
    history = [losses(10, 1.5), Point(10, {"val/accuracy": 0.5}), losses(20, 1 / 3)]
    write_curves(tmp_path, history, "accuracy")
    assert read_curve(tmp_path / LOSS_FILE) == {
        "step": [10.0, 20.0],
        "loss": [1.5, 1 / 3],
        "loss_labeled": [0.25, 0.25],
        "loss_pseudo": [0.5, 0.5],
        "learning_rate": [1e-3, 1e-3],
    }
    assert read_curve(tmp_path / VALIDATION_FILE) == {"step": [10.0], "val/accuracy": [0.5]}
    first = (tmp_path / LOSS_FILE).read_text().splitlines()[0]
    assert first == "step,loss,loss_labeled,loss_pseudo,learning_rate"


def test_an_empty_history_gives_empty_curves(tmp_path: Path) -> None:
    write_curves(tmp_path, [], "accuracy")
    assert read_curve(tmp_path / VALIDATION_FILE) == {"step": [], "val/accuracy": []}


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"", b""),
        (b"torn", b""),
        (b"one\n", b"one\n"),
        (b"one\ntwo\n", b"one\ntwo\n"),
        (b"one\ntwo\nto", b"one\ntwo\n"),
        (b"\n\ntorn", b"\n\n"),
    ],
)
def test_a_torn_last_line_is_cut(tmp_path: Path, left: bytes, kept: bytes) -> None:
    history = tmp_path / "history.jsonl"
    history.write_bytes(left)
    drop_torn_line(history)
    assert history.read_bytes() == kept


def test_a_run_without_a_history_gets_none(tmp_path: Path) -> None:
    drop_torn_line(tmp_path / "history.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_what_is_appended_after_a_kill_is_read_whole(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text('{"step": 1, "values": {"loss": 2.0}}\n{"step": 2, "val', encoding="utf-8")
    drop_torn_line(history)
    with history_log(history) as log, history_log(history, rank=1) as dropped:
        log(2, {"loss": 1.0})
        dropped(3, {"loss": 1.0})
    assert [(point.step, point.values["loss"]) for point in read_history(history)] == [
        (1, 2.0),
        (2, 1.0),
    ]
