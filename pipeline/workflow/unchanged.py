"""What DVC records of a stage is what the stage has read.

DVC looks at a stage's dependencies once more when the stage has ended. A parameter or a file of
data that was changed meanwhile would be recorded as what the outputs were made of. Code is not
among them: of it program.json says what it was before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

PARAMS = "params.yaml"


@contextmanager
def unchanged_dependencies(root: Path) -> Iterator[None]:
    """Raise DataError after the block where a dependency of the stage that DVC runs has changed.

    One that is gone does not count: stages remove leftovers, and DVC misses what it names.
    """
    name = os.environ.get("DVC_STAGE")
    before = None if name is None else dependencies(root, name)
    yield
    if name is not None and before is not None:
        after = dependencies(root, name)
        changed = sorted(key for key in after if before.get(key) != after[key])
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            raise DataError(
                f"{changed[0]}{more}: changed while the stage ran; selftrain run again, what is "
                "still valid is taken up"
            )


def dependencies(root: Path, stage: str) -> dict[str, Any]:
    """The value of each parameter and the state of each file that dvc.yaml names for a stage, as
    "train_student@1"; empty where one of the two files is not of the program's form."""
    from ruamel.yaml import YAML

    name, _, key = stage.rpartition(":")[2].partition("@")
    try:
        values = YAML(typ="safe").load(root / PARAMS)
        entry = YAML(typ="safe").load(root / "dvc.yaml")["stages"][name]
        words = {"${key}": key}
        if "foreach" in entry:
            item = _value(values, entry["foreach"].strip("${}"))[key]
            words |= {f"${{item.{word}}}": str(value) for word, value in item.items()}
            entry = entry["do"]
        found: dict[str, Any] = {}
        parameters = [each for each in entry.get("params", []) if isinstance(each, str)]
        for parameter in _named(parameters, words):
            found[f"{PARAMS}: {parameter}"] = _value(values, parameter)
    except Exception:  # whatever odd YAML leads to: load_params tells it
        return {}
    for dependency in _named(entry.get("deps", []), words):
        found |= {str(path): _state(root / path) for path in _files(root, Path(dependency))}
    return found


def _named(entries: list[str], words: dict[str, str]) -> list[str]:
    for word, value in words.items():
        entries = [entry.replace(word, value) for entry in entries]
    return entries


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part)
    return values


def _files(root: Path, path: Path) -> Iterator[Path]:
    """A file, or all that DVC sees below a folder, relative to the root."""
    if not (root / path).is_dir():
        yield path
        return
    for folder, _, names in os.walk(root / path):
        yield from (Path(folder, name).relative_to(root) for name in names)


def _state(path: Path) -> tuple[int, int, int]:
    """What changes with a file's content: its inode, size and time; zeros where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0, 0)
    return status.st_ino, status.st_size, status.st_mtime_ns
