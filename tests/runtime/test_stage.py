"""The scratch folder of a stage: how long it stays."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.files import write_text
from pipeline.runtime.stage import FINISHED, prepare_scratch


def scratch_names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".selftrain/scratch").iterdir())


def test_finished_work_stays_until_dvc_has_recorded_it(tmp_path: Path) -> None:
    scratch = prepare_scratch(tmp_path, "select@1-a")
    write_text(scratch / "work.txt", "done")
    assert (prepare_scratch(tmp_path, "select@1-a") / "work.txt").exists()  # it was killed
    write_text(scratch / FINISHED, "")
    assert (prepare_scratch(tmp_path, "select@1-a") / "work.txt").exists()  # DVC was
    write_text(tmp_path / "dvc.lock", "select@1")
    later = (scratch / FINISHED).stat().st_mtime_ns + 1
    os.utime(tmp_path / "dvc.lock", ns=(later, later))
    assert list(prepare_scratch(tmp_path, "select@1-a").iterdir()) == []


def test_another_stage_shows_that_it_is_recorded_but_not_that_a_killed_one_is(
    tmp_path: Path,
) -> None:
    done, killed = (prepare_scratch(tmp_path, name) for name in ("select@1-a", "train_teacher-b"))
    write_text(killed / "state", "half")
    write_text(done / FINISHED, "")
    prepare_scratch(tmp_path, "report-c")
    assert scratch_names(tmp_path) == ["report-c", "train_teacher-b"]
    assert (killed / "state").exists()
