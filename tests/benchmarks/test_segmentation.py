"""Data sets with masks are laid out with the splits of their benchmarks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.segmentation.data import camvid, nuclei
from pipeline.data.sources import Source, open_source
from pipeline.data.sources.recognise import recognise

DATA = Path(os.environ.get("SELFTRAIN_DATA", "data"))  # of benchmarks; skipped without


def opened(path: Path) -> Source:
    assert recognise(str(path)) == "masks"
    return open_source("masks", str(path), seed=0)


@pytest.mark.skipif(not (DATA / "camvid").exists(), reason="no CamVid here")
def test_camvid_is_tested_on_a_sequence_of_its_own(tmp_path: Path) -> None:
    assert camvid(DATA / "camvid", tmp_path / "camvid") == {"train": 530, "test": 171}
    source = opened(tmp_path / "camvid")
    rows = list(source.rows())
    assert len(source.classes) == 11
    assert {(row.split == "test") == ("Seq05VD" in row.id) for row in rows} == {True}
    assert all(row.label is not None for row in rows)


@pytest.mark.skipif(not (DATA / "nuclei").exists(), reason="no nuclei here")
def test_nuclei_are_background_and_nucleus(tmp_path: Path) -> None:
    assert nuclei(DATA / "nuclei", tmp_path / "nuclei") == {"test": 200, "train": 464}
    source = opened(tmp_path / "nuclei")
    assert source.classes == ["background", "nucleus"]
    assert sum(row.split == "test" for row in source.rows()) == 200
