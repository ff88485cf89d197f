"""A wrong parameter ends every stage in one line and exit code 2, before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.workflow.stage import Stage, run_stage

RIGHT = """\
data: {source: digits, image_size: 16}
train: {steps: 10}
generations: {"1": {teacher: "0", select: {}, student: {}}}
"""
WRONG = """\
seed: -1
seed: 1.5
seed: "0"
data: null
data: []
data: {source: cifar, image_size: 16}
data: {source: folder, image_size: 16}
data: {source: digits}
data: {source: digits, image_size: 7}
data: {source: digits, image_size: 16.0}
data: {source: digits, image_size: 16, channels: 2}
data: {source: digits, image_size: 16, labels: 1}
data: {source: digits, image_size: 16, labels: all}
data: {source: digits, image_size: 16, validation_fraction: 1.0}
data: {source: digits, image_size: 16, test_fraction: -0.1}
data: {source: digits, image_size: 16, max_pixels: 1}
data: {source: digits, image_size: 16, max_bad_fraction: 2.0}
data: {source: digits, image_size: 16, images_per_shard: 0}
data: {source: digits, image_size: 16, near_duplicate_distance: .nan}
data: {source: digits, image_size: 16, imagesize: 3}
model: {width: 0}
model: {width: 100000}
model: {depth: 33}
model: {name: 18}
model: {dropout_rate: 1.0}
augment: {magnitude: 31}
augment: {operations: [twirl]}
augment: {operations: []}
augment: {shift: 0.9}
augment: {flip: 1}
train: {steps: 0}
train: {steps: ten}
train: {steps: 10, batch_size: 0}
train: {steps: 10, learning_rate: 0}
train: {steps: 10, learning_rate: .inf}
train: {steps: 10, optimizer: adam}
train: {steps: 10, ema_decay: 1.0}
train: {steps: 10, workers: -1}
train: {steps: 10, threads: 0}
train: {steps: 10, device: tpu}
predict: {views: seven_crop}
run: {actors: -1}
run: {checkpoint_minutes: 0}
train: {steps: 10, checkpoint_minutes: 5.0}
select: {workers: 2}
select: {confidence_threshold: 1.1}
select: {max_repeats: 1001}
select: {temperature: 0}
select: {class_thresholds: {cat: 2}}
guard: {on_regression: halt}
evaluate: {bootstrap_samples: 1}
ensemble: {method: all}
tracking: {experiment: ""}
teacher: {train: {steps: 0}}
generations: {1: {teacher: "0", select: {}, student: {}}}
generations: {"2": {teacher: "1", select: {}, student: {}}}
generations: {"1": {teacher: "1", select: {}, student: {}}}
generations: {"1": {teacher: "0", select: {colour: red}, student: {}}}
generations: {"1": {teacher: "0", select: {}, student: {train: {steps: -5}}}}
colour: red
""".splitlines()


def with_line(line: str) -> str:
    """RIGHT with one section as `line` says."""
    key = line.partition(":")[0]
    return "\n".join([*(old for old in RIGHT.splitlines() if old.split(":")[0] != key), line, ""])


def test_there_are_enough_of_them_and_the_rest_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(set(WRONG)) == len(WRONG) >= 40
    (tmp_path / "params.yaml").write_text(RIGHT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage"])
    seen: list[Stage] = []
    run_stage("prepare", seen.append)
    assert len(seen) == 1


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_ends_in_one_line_and_code_two(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "params.yaml").write_text(with_line(line))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stage"])

    def work(stage: Stage) -> None:
        raise AssertionError("work was begun")

    with pytest.raises(SystemExit) as ended:
        run_stage("prepare", work)
    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert shown.out == ""
    assert shown.err.startswith("prepare: params.yaml: ")
    assert shown.err.count("\n") == 1
    assert line.split(":")[0] in shown.err
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["stages.prepare"], "train: {steps: 0}"),
        (["stages.select", "--generation", "1"], "select: {temperature: 0}"),
        (["stages.select", "--generation", "7"], "seed: 0"),
    ],
)
def test_the_real_command_does_so_too(tmp_path: Path, command: list[str], line: str) -> None:
    (tmp_path / "params.yaml").write_text(with_line(line))
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
