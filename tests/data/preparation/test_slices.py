"""What a killed prepare takes up, and that nothing depends on how a source is cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.data.preparation import slices
from pipeline.data.preparation.leftover import Leftover
from pipeline.data.preparation.prepare import prepare
from pipeline.data.preparation.slices import slice_rows
from pipeline.data.sources import Row
from pipeline.data.storage import StoredFolder
from pipeline.errors import SourceError
from pipeline.mapping import in_threads
from tests.data.helpers import (
    CLASSIFICATION,
    ListSource,
    data_params,
    encoded,
    labeled_rows,
    noise,
    photo,
    run_prepare,
)
from tests.data.preparation.test_prepare import everything

BAD = [Row("empty", b"", 0), Row("text", b"hello " * 50, 1)]


def rows() -> list[Row]:
    """Labelled and unlabelled images, copies, groups, unusable ones."""
    made = [
        *labeled_rows(50),
        *(Row(f"u{number}", encoded(noise(10**6 + number))) for number in range(40)),
        *(Row(f"c{number}", encoded(noise(number))) for number in range(0, 50, 3)),
        *(Row(f"j{q}", encoded(photo(32, 32), "JPEG", quality=q), 0) for q in range(60, 95, 3)),
    ]
    made = [
        dataclasses.replace(row, group=f"g{place // 5}") if place % 3 == 0 else row
        for place, row in enumerate(made)
    ]
    return [*made[:7], BAD[0], *made[7:80], BAD[1], *made[80:]]


class CountedSource(ListSource):
    """Notes which rows are read, and ends with an error before the row `last`."""

    def __init__(self, rows: list[Row], last: int | None = None) -> None:
        super().__init__(rows)
        self.last, self.read = last, list[str]()

    def part(self, first: int, stop: int) -> Any:
        def some() -> Iterator[Row]:
            for place, row in enumerate(self._rows[first:stop], first):
                if place == self.last:
                    raise KeyboardInterrupt
                self.read.append(row.id)
                yield row

        return some()


def cut(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Let slices be of so many rows."""
    monkeypatch.setattr(slices, "LARGEST", rows)
    monkeypatch.setattr(slices, "SMALLEST", rows)


def prepared(
    source: ListSource,
    folder: Path,
    place_of: Callable[[str], Path | StoredFolder] | None = None,
    threads: int = 1,
    **options: Any,
) -> dict[str, bytes]:
    prepare(
        source,
        folder / "out",
        data_params(labels=40, image_size=16),
        task=CLASSIFICATION,
        seed=0,
        scratch=folder / "scratch",
        place_of=place_of,
        map_items=in_threads(threads),
        **options,
    )
    return everything(folder / "out")


@pytest.mark.parametrize("per_slice", [1, 7, 1000])
def test_the_bytes_do_not_depend_on_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_slice: int
) -> None:
    expected = prepared(ListSource(rows()), tmp_path / "a")
    cut(monkeypatch, per_slice)
    assert prepared(ListSource(rows()), tmp_path / "b", threads=3) == expected


def test_a_slice_is_read_once_whatever_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut(monkeypatch, 10)
    expected = prepared(ListSource(rows()), tmp_path / "a")
    source = CountedSource(rows(), last=35)
    with pytest.raises(KeyboardInterrupt):
        prepared(source, tmp_path / "b")
    assert source.read[:35] == [row.id for row in rows()[:35]]
    source.last, source.read = None, []
    assert prepared(source, tmp_path / "b") == expected
    assert not {*source.read} & {row.id for row in rows()[:30]}
    assert {*source.read} >= {row.id for row in rows()[30:40]}


def test_a_damaged_slice_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 10)
    source = CountedSource(rows())

    def refuse() -> None:
        raise SourceError("changed")

    with pytest.raises(SourceError, match="changed"):
        prepared(source, tmp_path, check_source=refuse)
    damaged = tmp_path / "scratch" / "slices" / "slice_00002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    source.read = []
    expected = prepared(ListSource(rows()), tmp_path / "other")
    assert prepared(source, tmp_path) == expected
    assert source.read == [row.id for row in rows()[20:30]]


def test_a_finished_shard_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = prepared(ListSource(rows()), tmp_path / "a")

    def fail(*_: Any) -> None:
        raise OSError("full")

    with monkeypatch.context() as broken:
        broken.setattr(Leftover, "write_quarantine", fail)
        with pytest.raises(OSError, match="full"):
            prepared(ListSource(rows()), tmp_path / "b")
    shards = sorted((tmp_path / "b" / "scratch").glob("*/shard_*.parquet"))
    written = {path.parent.name + "/" + path.name: path.stat().st_ino for path in shards}
    gone = shards.pop()
    del written[gone.parent.name + "/" + gone.name]
    gone.unlink()
    assert prepared(ListSource(rows()), tmp_path / "b") == expected
    assert len(written) > 4
    for name, inode in written.items():
        assert (tmp_path / "b" / "out" / name).stat().st_ino == inode


def test_from_storage_the_same_is_taken_up(tmp_path: Path, storage_url: str) -> None:
    storage = StoredFolder(storage_url)
    expected = prepared(ListSource(rows()), tmp_path / "a")
    source = CountedSource(rows(), last=100)
    with pytest.raises(KeyboardInterrupt):
        prepared(source, tmp_path / "b", storage.__truediv__)
    source.last, source.read = None, []
    found = prepared(source, tmp_path / "b", storage.__truediv__)
    assert source.read == [row.id for row in rows()[slice_rows(source) :]]
    alone = [name for name in found if not name.endswith("manifest.json")]
    assert len(alone) == 3
    assert all(found[name] == expected[name] for name in alone)
    for name in ("labeled", "unlabeled", "validation", "test"):
        stored = {
            path: (storage / name).read(path).to_pybytes()
            for path in (storage / name).sizes()
            if path.endswith(".parquet")
        }
        shards = [data for path, data in expected.items() if path.startswith(f"{name}/shard")]
        assert sorted(stored.values()) == sorted(shards)


@pytest.mark.parametrize(
    ("count", "together", "expected"),
    [(10, 1, 64), (64 * 64, 1, 64), (64 * 64 + 1, 1, 65), (10**8, 1, 4096), (7000, 7000, 875)],
)
def test_slices_are_even_and_few_rows_are_read_in_vain(
    count: int, together: int, expected: int
) -> None:
    class Counted(ListSource):
        rows_together = together

        def __len__(self) -> int:
            return count

    assert slice_rows(Counted([])) == expected


def test_rows_are_found_in_their_slices(tmp_path: Path) -> None:
    made = slices.Slices(tmp_path, np.array([3, 0, 2, 4]))
    parts = [(number, local.tolist()) for number, local in made.parts(np.array([0, 2, 3, 8]))]
    assert parts == [(0, [0, 2]), (2, [0]), (3, [3])]
    assert list(made.parts(np.array([], np.int64))) == []


def test_what_was_left_half_written_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "test").mkdir(parents=True)
    left = tmp_path / "scratch" / "test" / ".shard_00000.parquet.999999999.partial"
    left.write_bytes(b"half")
    assert not any("partial" in name for name in prepared(ListSource(rows()), tmp_path))


def test_a_source_of_no_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no images"):
        run_prepare(ListSource([]), tmp_path)
