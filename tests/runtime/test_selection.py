"""Selection as Ray Data tasks: the same bytes as in one process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import progress
from pipeline.data.shards import read_manifest
from pipeline.data.storage import StoredFolder
from pipeline.errors import DataError
from pipeline.labels.pseudo_label import in_threads, select_pseudo_labels
from pipeline.params import SelectParams
from pipeline.runtime.selection import shard_mapper, shown
from tests.labels.folders import write_predictions
from tests.labels.test_passes import teacher

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Ray, about itself
]
CLASSES = ("cat", "dog", "owl")


def select(folder: Path, out: Path, workers: int, stored: StoredFolder | None = None) -> object:
    with shard_mapper(workers, 1, stored=stored is not None) as over:
        return select_pseudo_labels(
            folder,
            out,
            classes=CLASSES,
            label_kind="soft",
            temperature=0.5,
            target_shares=np.array([0.2, 0.3, 0.5]),
            truth={f"image_{place}": place % 3 for place in range(0, 900, 2)},
            stored=stored,
            map_shards=over,
            **SelectParams(images_per_class=100, max_repeats=2).rules,
        )


def test_ray_tasks_select_what_one_process_selects(tmp_path: Path) -> None:
    predictions = tmp_path / "predictions"
    write_predictions(predictions, teacher(900, 3, 6.0, 0), rows_per_shard=25)
    storage = StoredFolder((tmp_path / "shared").as_uri())
    here = select(predictions, tmp_path / "here", 0)
    assert here == select(predictions, tmp_path / "ray", 2)
    assert here == select(predictions, tmp_path / "stored", 2, storage)
    for path in (tmp_path / "here").iterdir():
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()
    alone, stored = (read_manifest(tmp_path / name) for name in ("here", "stored"))
    assert [entry.sha256 for entry in alone.shards] == [entry.sha256 for entry in stored.shards]
    assert {entry.prefix for entry in stored.shards} == {storage.uri}


def test_a_users_mistake_comes_out_of_a_task_as_itself(tmp_path: Path) -> None:
    values = teacher(60, 3, 2.0, 0)
    values[33, 1] = np.nan
    write_predictions(tmp_path / "predictions", values, rows_per_shard=10)
    with pytest.raises(DataError, match="'image_33'"):
        select(tmp_path / "predictions", tmp_path / "out", 1)


def test_a_pass_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    over = shown(in_threads(2), [10, 20, 5], "select@1: a pass")
    assert list(over(lambda number: number * number, 3)) == [0, 1, 4]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "select@1: a pass: 10/35 images",
        "select@1: a pass: 30/35 images",
        "select@1: a pass: 35/35 images",
    ]
