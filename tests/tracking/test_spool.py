"""A spool: whole events, files as they were, and whether its writer lives."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pipeline.files import write_json
from pipeline.tracking.spool import EVENTS, Spool, all_spools, is_locked, read_events, unsent_runs
from tests.tracking.conftest import python


def test_events_are_read_from_where_the_last_look_ended(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "train@0", {"run_key": "train@0-aa"})
    (first,), offset = read_events(spool.folder)
    assert (first["kind"], first["run_key"]) == ("run", "train@0-aa")
    spool.append("metrics", step=1)
    with (spool.folder / EVENTS).open("a") as torn:
        torn.write('{"kind": "metr')
    (second,), behind = read_events(spool.folder, offset)
    assert second["step"] == 1
    assert read_events(spool.folder, behind) == ([], behind)
    spool.close()


def test_spools_are_in_order_and_those_of_living_runs_are_not_unsent(tmp_path: Path) -> None:
    spools = [Spool(tmp_path, name, {}) for name in ("train@0", "select@1", "evaluate@1")]
    spools[1].close()
    assert all_spools(tmp_path) == [spool.folder for spool in spools]
    assert unsent_runs(tmp_path) == 1
    for spool in spools:
        spool.close()
    assert unsent_runs(tmp_path) == 3


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    code = (
        "import pathlib, time; from pipeline.tracking.spool import Spool\n"
        f"spool = Spool(pathlib.Path({str(tmp_path)!r}), 'train@0', {{}})\n"
        "print('there', flush=True); time.sleep(600)"
    )
    with python("-c", code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        (spool,) = all_spools(tmp_path)
        assert is_locked(spool / EVENTS)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    assert not is_locked(spool / EVENTS)


def test_files_are_kept_as_they_are_now(tmp_path: Path) -> None:
    spool, path = Spool(tmp_path, "train@0", {}), tmp_path / "model" / "weights"
    write_json(path, 1)
    folder, file = (spool.folder / spool.keep(kept) for kept in (path.parent, path))
    write_json(path, 2)
    assert (folder / "weights").read_text() == file.read_text() == "1\n"
    assert (folder.name, file.name) == ("model", "weights")
    assert (spool.folder / spool.keep(path)).read_text() == "2\n"
    spool.close()
