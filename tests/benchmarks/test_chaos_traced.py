"""The library that counts file operations: what it sees, whose, and where it ends a program."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.traced import build, compiler, run_traced

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

WRITES = """
import os, shutil, subprocess, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
folder = Path("out"); folder.mkdir()
(folder / "a.txt").write_text("a")
with (folder / "a.txt").open("a") as file: file.write("b")
(folder / "a.txt").read_text()
os.replace(folder / "a.txt", folder / "b.txt")
pq.write_table(pa.table({"x": [1]}), folder / "c.parquet")
os.link(folder / "b.txt", folder / "d.txt")
(folder / "held.lock").touch()
Path("../beside.txt").write_text("no part of it")
(folder / ".." / "out" / "." / "e.txt").touch()
subprocess.run([sys.executable, "-c", "open('child.txt', 'w').close()"])
subprocess.run([sys.executable, "-c", "open('other.txt', 'w').close()"], start_new_session=True)
shutil.rmtree(folder)
"""
SEEN = [
    *("create out", "create out/a.txt", "close out/a.txt", "close out/a.txt"),
    *("rename out/b.txt", "create out/c.parquet", "close out/c.parquet", "create out/d.txt"),
    *("create out/e.txt", "close out/e.txt"),
    *("create child.txt", "close child.txt"),
]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def test_every_operation_below_the_folder_is_seen_in_order(library: Path, folder: Path) -> None:
    outcome = run_traced(library, [sys.executable, "-c", WRITES], folder)
    assert outcome.code == 0, outcome.said
    assert outcome.operations[: len(SEEN)] == SEEN
    removed = outcome.operations[len(SEEN) :]
    assert sorted(removed)[0] == "remove out"
    assert {line.partition(" ")[0] for line in removed} == {"remove"}


@pytest.mark.parametrize("point", [2, 5, 7, 11])
def test_it_is_killed_right_after_the_operation_of_that_number(
    library: Path, folder: Path, point: int
) -> None:
    outcome = run_traced(library, [sys.executable, "-c", WRITES], folder, kill_at=point)
    assert outcome.code == -signal.SIGKILL
    assert outcome.killed
    assert outcome.operations == SEEN[:point]
    done = {2: "out/a.txt", 5: "out/b.txt", 7: "out/c.parquet", 11: "child.txt"}
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert done[point] in left
    assert ("out/d.txt" in left) == (point == 11)


def test_from_an_operation_on_the_disk_is_full(library: Path, folder: Path) -> None:
    code = "open('a', 'w').write('a'); f = open('b', 'w'); f.write('b'); f.close()"
    whole = run_traced(library, [sys.executable, "-c", code], folder)
    assert whole.operations == ["create a", "close a", "create b", "close b"]
    for point, left in ((2, {"a": "a"}), (3, {"a": "a", "b": ""})):
        for path in folder.iterdir():
            path.unlink()
        full = run_traced(library, [sys.executable, "-c", code], folder, full_at=point)
        assert full.code == 1
        assert "No space left on device" in full.said
        assert {path.name: path.read_text() for path in folder.iterdir()} == left
