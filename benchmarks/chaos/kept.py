"""Faults that were tried are kept, so that `make chaos` goes on where it stopped."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

from benchmarks.chaos.boundaries import Clean, clean_runs
from benchmarks.chaos.stages import SMALL, Bench, copy_code, make_project, steps
from benchmarks.chaos.traced import build
from benchmarks.runs import KEPT
from pipeline.files import file_digest, read_json, value_digest, write_json
from pipeline.runtime.stage import code_digest

MOMENTS = "moments.py"
OTHER = ("__main__.py", "page.py", MOMENTS)  # that the faults at file operations do not depend on


def kept_folder() -> Path:
    """Where the faults of this code and these parameters are kept."""
    here = Path(__file__).parent
    tried_by = [path for path in sorted(here.glob("*.[pc]*")) if path.name not in OTHER]
    digest = value_digest(
        {
            "chaos": {path.name: file_digest(path) for path in tried_by},
            "code": code_digest(),
            "parameters": SMALL,
        }
    )
    return KEPT / f"chaos-{digest[:16]}"


def moments_file(folder: Path) -> Path:
    """Where under it the kills at random moments are kept."""
    digest = file_digest(Path(__file__).with_name(MOMENTS))
    return folder / f"moments-{digest[:16]}.jsonl"


def kept_clean_runs(folder: Path, python: str) -> tuple[Bench, list[Clean]]:
    """The uninterrupted runs of all stages under `folder`, made there if they are not there yet."""
    record = folder / "clean.json"
    todo = steps(python)
    for cut in folder.glob("chaos-*"):  # faults that were being tried when it was stopped
        shutil.rmtree(cut)
    if record.exists():
        found = zip(todo, read_json(record), strict=True)
        cleans = [
            Clean(step, folder / f"project-{number}", **values)
            for number, (step, values) in enumerate(found)
        ]
        return Bench(folder / "code", folder / "boundaries.so"), cleans
    shutil.rmtree(folder, ignore_errors=True)  # of a start that did not come so far
    folder.mkdir(parents=True)
    copy_code(folder / "code")
    bench = Bench(folder / "code", build(folder))
    make_project(folder / "project")
    cleans = list(clean_runs(todo, folder / "project", bench))
    what = ("after", "images", "operations")
    write_json(record, [{name: getattr(clean, name) for name in what} for clean in cleans])
    return bench, cleans


class Journal:
    """A file of JSON lines to which rows are added; a torn last line counts for nothing."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        path.write_bytes(whole + b"\n" if whole else b"")
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, at once also on disk."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            self.rows.append(row)
