"""What a stage has around its work: how long its scratch folder stays, how its run ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import pytest

from pipeline.data.shards import MANIFEST
from pipeline.errors import CheckpointError, SelftrainError
from pipeline.files import write_json, write_text
from pipeline.params import load_params
from pipeline.tracking.spool import all_spools, read_events
from pipeline.tracking.tracker import hold_spools
from pipeline.workflow.scratch import finish_scratch, prepare_scratch
from pipeline.workflow.stage import PARTS, Stage, run_stage

ROOT = Path(__file__).parents[2]


def scratch_names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".selftrain/scratch").iterdir())


def test_finished_work_stays_until_dvc_has_recorded_it(tmp_path: Path) -> None:
    scratch = prepare_scratch(tmp_path, "select@1-a")
    write_text(scratch / "work.txt", "done")
    assert (prepare_scratch(tmp_path, "select@1-a") / "work.txt").exists()  # it was killed
    finish_scratch(tmp_path, scratch)
    assert (prepare_scratch(tmp_path, "select@1-a") / "work.txt").exists()  # DVC was
    write_text(tmp_path / "dvc.lock", "select@1")
    os.utime(tmp_path / "dvc.lock", ns=(1, 1))  # the clock was set back: it does not count
    assert list(prepare_scratch(tmp_path, "select@1-a").iterdir()) == []


def test_another_stage_shows_that_it_is_recorded_but_not_that_a_killed_one_is(
    tmp_path: Path,
) -> None:
    done, killed = (prepare_scratch(tmp_path, name) for name in ("select@1-a", "train_teacher-b"))
    write_text(killed / "state", "half")
    finish_scratch(tmp_path, done)
    prepare_scratch(tmp_path, "report-c")
    assert scratch_names(tmp_path) == ["report-c", "train_teacher-b"]
    assert (killed / "state").exists()


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (None, "FINISHED")]
)
def test_an_exception_ends_the_tracked_run_as_what_it_is(
    tmp_path: Path, error: type[BaseException] | None, status: str
) -> None:
    hold_spools(tmp_path)
    for part in PARTS:
        write_json(tmp_path / "prepared" / part / MANIFEST, {"rows": 0, "shards": []})
    write_json(tmp_path / "prepared" / "dataset.json", {})
    stage = Stage("select", "1", load_params(ROOT / "params.yaml"), tmp_path)
    with pytest.raises(error) if error else nullcontext(), stage.run({}, {"seed": 3}):
        if error:
            raise error
    (spool,) = all_spools(tmp_path)
    events, _ = read_events(spool)
    assert events[1]["values"] == {"seed": "3"}
    assert [each["status"] for each in events if each["kind"] == "end"] == [status]


@pytest.mark.parametrize("models", ["generations", "ensemble"])
def test_a_student_s_stage_takes_no_generation_0(
    models: Literal["generations", "ensemble"],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["select", "--generation", "0"])
    with pytest.raises(SystemExit) as ended:
        run_stage("select", lambda stage: None, models=models)
    assert ended.value.code == 2
    assert "--generation 0: params.yaml has 1, 2" in capsys.readouterr().err


LOCK = ".selftrain/locks/select@1.lock"
HOLD = "import sys, filelock as f; lock = f.FileLock(sys.argv[1]); lock.acquire(); print(); input()"


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the lock of the stage select@1."""
    (root / LOCK).parent.mkdir(parents=True)
    pipe, command = subprocess.PIPE, [sys.executable, "-u", "-c", HOLD, str(root / LOCK)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def run_one(root: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[[Stage], None]) -> None:
    shutil.copy(ROOT / "params.yaml", root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", ["select", "--generation", "1"])
    run_stage("select", work, models="generations")


def test_a_lock_that_a_dying_process_holds_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    with holder(tmp_path) as process:
        timer = threading.Timer(0.5, process.kill)
        timer.start()
        run_one(tmp_path, monkeypatch, lambda stage: done.append(stage.title))
        timer.join()
    assert done == ["select@1"]


@pytest.mark.parametrize("held", ["lock", "folder", "file"])
def test_a_lock_that_stays_held_is_told_in_one_line(
    held: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.workflow.stage.LOCK_SECONDS", 0.1)
    if held == "file":
        (tmp_path / ".selftrain").touch()
    elif held == "folder":
        (tmp_path / LOCK).mkdir(parents=True)
    with (
        holder(tmp_path) if held == "lock" else nullcontext(),
        pytest.raises(SystemExit) as ended,
    ):
        run_one(tmp_path, monkeypatch, lambda stage: None)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    told = {"lock": "another process runs select@1", "folder": "Is a dir", "file": "Not a dir"}
    assert told[held] in said


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CheckpointError("{}/model.json: cut"), r"^{}/model\.json: cut; delete {}$"),
        (ValueError("line 3\nof JSON"), r"^{}: can't be taken up \(line 3\); delete it$"),
        (CheckpointError("elsewhere: cut"), "^elsewhere: cut$"),
    ],
)
def test_what_an_earlier_run_left_damaged_is_named(
    error: Exception, told: str, tmp_path: Path
) -> None:
    hold_spools(tmp_path)
    for part in PARTS:
        write_json(tmp_path / "prepared" / part / MANIFEST, {"rows": 0, "shards": []})
    write_json(tmp_path / "prepared" / "dataset.json", {})
    stage = Stage("select", "1", load_params(ROOT / "params.yaml"), tmp_path)
    with stage.run({}, {}) as run:
        write_text(run.scratch / "half", "")
    scratch = str(run.scratch)
    error.args = (error.args[0].replace("{}", scratch),)
    with pytest.raises(SelftrainError, match=told.replace("{}", scratch)), stage.run({}, {}):
        raise error
