"""What became of an input, and the small sources that the cases start from."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.data.shards import iter_shards
from pipeline.data.sources import Row, open_source
from pipeline.errors import SelftrainError
from pipeline.tasks import open_task
from tests.data.helpers import encoded, noise, run_prepare

SIZE = 16


@dataclass(frozen=True)
class Outcome:
    """How it ended (as docs/errors.md says it), and the words that a user gets to see."""

    kind: str
    text: str = ""


Case = Callable[[Path], Outcome]


def stops(work: Callable[[], object]) -> Outcome:
    """The error that `work` ends in, with its exit code."""
    try:
        work()
    except SelftrainError as error:
        ended = Outcome("stops" if error.exit_code == 1 else "stops, code 2", str(error))
    else:
        return Outcome("goes on")
    assert ended.text.isprintable()  # one line, and nothing that moves a terminal's cursor
    return ended


def images(folder: Path, count: int, seed: int) -> None:
    """`count` different PNG files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(encoded(noise(seed + number, SIZE)))


def folder_source(root: Path) -> Path:
    """A small source that has all that is needed."""
    for place, kind in enumerate(("cat", "dog")):
        images(root / "labeled" / kind, 8, 1000 * place)
        images(root / "validation" / kind, 2, 1000 * place + 200)
        images(root / "test" / kind, 2, 1000 * place + 300)
    images(root / "unlabeled", 4, 5000)
    return root


def prepare_folder(root: Path, **changes: Any) -> Outcome:
    """Prepare a folder: how it ended, and the warnings."""
    return _prepared(lambda: open_source("folder", str(root), seed=0), root, changes)


def prepare_table(root: Path, table: Any, **changes: Any) -> Outcome:
    """Prepare a Parquet file of this table."""
    path = root / "table.parquet"
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), path)
    return _prepared(lambda: open_source("parquet", str(path), seed=0), root, changes)


def prepare_coco(root: Path, value: Any, **changes: Any) -> Outcome:
    """Prepare the images in a folder with this file of COCO's beside them."""
    (root / "list.json").write_text(json.dumps(value))
    task = {"task": open_task("segmentation")}
    return _prepared(lambda: open_source("coco", str(root), seed=0), root, task | changes)


def _prepared(opened: Callable[[], Any], root: Path, changes: dict[str, Any]) -> Outcome:
    said: list[str] = []
    counts: list[Any] = []
    with captured(said):
        ended = stops(
            lambda: counts.append(
                run_prepare(opened(), root / "out", **({"image_size": SIZE} | changes))
            )
        )
    if ended.kind != "goes on":
        return ended
    warnings = [line for line in said if "warning" in line]
    if warnings:
        return Outcome("warns", " / ".join(warnings))
    return Outcome("goes on", repr(counts[0]))


@contextlib.contextmanager
def captured(lines: list[str]) -> Iterator[None]:
    """Add what the block prints to `lines`."""
    with tempfile.TemporaryFile("w+") as file, contextlib.redirect_stdout(file):
        yield
        file.seek(0)
        lines += file.read().splitlines()


def quarantine(root: Path) -> dict[str, str]:
    """The reasons by id."""
    rows = pq.read_table(root / "out" / "quarantine.parquet").to_pylist()
    return {row["id"]: row["reason"] for row in rows}


def one_file(root: Path, name: str, make: Callable[[Path], object]) -> Outcome:
    """Put one more entry at `unlabeled/<name>`, made by `make(path)`: what becomes of it."""
    path = folder_source(root) / "unlabeled" / name
    make(path)
    return what_became_of(root, f"unlabeled/{name}")


def what_became_of(root: Path, identity: str) -> Outcome:
    """Prepare the folder: was the image used, counted as animated, or put away?"""
    ended = prepare_folder(root)
    assert ended.kind == "goes on", ended
    if (reason := quarantine(root).get(identity)) is not None:
        return Outcome("quarantined", reason)
    if identity not in kept_unlabeled(root):
        return Outcome("left out")
    return Outcome("used, counted" if "animated=1" in ended.text else "used")


def kept_unlabeled(root: Path) -> dict[str, bytes]:
    """The stored unlabelled images by id."""
    rows = [row for part in iter_shards(root / "out" / "unlabeled") for row in part.to_pylist()]
    return {row["id"]: row["image"] for row in rows}


def from_bytes(data: bytes) -> Callable[[Path], object]:
    """Makes a file of these bytes."""
    return lambda path: path.write_bytes(data)


@contextlib.contextmanager
def without_privileges() -> Iterator[Path]:
    """A folder where file permissions hold, as they do not for the superuser."""
    folder = Path(tempfile.mkdtemp(prefix="selftrain"))
    folder.chmod(0o777)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if user == 0:
            os.seteuid(user)
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o700)
        shutil.rmtree(folder)


def table_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows as the columns of a Parquet file."""
    return {
        "id": [row.id for row in rows],
        "image": [row.image for row in rows],
        "label": [row.label for row in rows],
        "split": [row.split for row in rows],
    }
