"""What a run leaves: its files' bytes and its images, and how they differ from another's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

from pipeline.data.shards import MANIFEST
from pipeline.files import file_digest

# Work in progress, times, and MLflow's store, whose runs are compared by what they hold.
NOT_COMPARED = (".selftrain/", ".dvc/", ".git/", "mlartifacts/", "mlflow.db", "report/times.html")
LOST, DOUBLED = "images lost", "images doubled"


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that the stages leave in `folder`, by its name there."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    named = {str(path.relative_to(folder)): path for path in files}
    return {
        name: file_digest(path) for name, path in named.items() if not name.startswith(NOT_COMPARED)
    }


def images(folder: Path) -> dict[str, int]:
    """How often each image is in each folder of shards, by "folder of shards: id"."""
    counts = Counter[str]()
    for manifest in sorted(folder.rglob(MANIFEST)):
        name = str(manifest.parent.relative_to(folder))
        if not name.startswith(NOT_COMPARED):
            for shard in manifest.parent.glob("*.parquet"):
                ids = pq.read_table(shard, columns=["id"]).column("id").to_pylist()
                counts.update(f"{name}: {identity}" for identity in ids)
    return dict(counts)


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """The files that are missing, left over or other than expected."""
    names = sorted({*expected, *found})
    return [
        f"{name}: {_how(expected.get(name), found.get(name))}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


def _how(expected: str | None, found: str | None) -> str:
    if expected is None:
        return "left over"
    return "missing" if found is None else "other bytes"


def lost_or_doubled(expected: dict[str, int], found: dict[str, int]) -> list[str]:
    """The images that are missing or there too often, a line for each folder of shards."""
    lost, doubled = Counter[str](), Counter[str]()
    for key in {*expected, *found}:
        more = found.get(key, 0) - expected.get(key, 0)
        counter = doubled if more > 0 else lost
        counter[key.partition(": ")[0]] += abs(more)
    return [
        f"{folder}: {count} {what}"
        for what, counter in ((LOST, lost), (DOUBLED, doubled))
        for folder, count in sorted(counter.items())
        if count
    ]
