from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.data.shards import read_manifest
from pipeline.data.stored_shards import missing_shards
from pipeline.labels.predict import ShardPredictor
from pipeline.params import PredictParams, RunParams
from pipeline.workflow.shards import map_shards
from tests.tiny import prepared_stripes, save_model


@pytest.mark.parametrize(
    ("actors", "images"), [(0, True), (2, False)], ids=["no actors", "features alone"]
)
def test_in_its_own_process_a_stage_does_what_is_missing(
    tmp_path: Path, actors: int, images: bool
) -> None:
    unlabeled = prepared_stripes(tmp_path / "prepared") / "unlabeled"
    save_model(tmp_path / "model")
    predictor = ShardPredictor(
        models=(tmp_path / "model",),
        folder=unlabeled,
        out=tmp_path / "out",
        params=PredictParams(views="centre", batch_size=16, device="cpu", precision="float32"),
        seed=3,
    )
    predictor(0)
    first = read_manifest(unlabeled).shards[0]
    written = (tmp_path / "out" / first.file).stat().st_mtime_ns
    params = SimpleNamespace(run=RunParams(actors=actors))
    stage: Any = SimpleNamespace(params=params, title="pseudo_label@1")
    map_shards(stage, SimpleNamespace(scratch=tmp_path), predictor, images=images)  # type: ignore[arg-type]
    assert missing_shards(unlabeled, tmp_path / "out") == []
    assert (tmp_path / "out" / first.file).stat().st_mtime_ns == written
