"""Masks of corrections.csv: beside it, named by their content, and what prepare makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.data.answers.corrected_masks import FOLDER, mask_reader, write_mask
from pipeline.data.class_maps import read_masks
from pipeline.data.masks import IGNORED
from pipeline.data.shards import iter_shards
from pipeline.errors import SourceError
from tests.data.answers.test_mask_answers import CLASSES, TASK, mask, source
from tests.data.helpers import ids, rows_of, run_prepare


def corrected(folder: Path, lines: dict[str, str], classes: list[str] | None = None) -> Any:
    """Prepare with these labels of corrections.csv in `folder`."""
    path = folder / "corrections.csv"
    path.write_text("id,label\n" + "".join(f"{name},{label}\n" for name, label in lines.items()))
    return run_prepare(source(classes), folder / "prepared", task=TASK, corrections=path)


def stored(folder: Path, image_id: str) -> NDArray[np.uint8]:
    """The mask of a labelled image in its square."""
    for table in iter_shards(folder / "prepared" / "labeled", ["id", "mask"]):
        if image_id in (names := table["id"].to_pylist()):
            masks = read_masks(table["mask"], 8, "test")
            return np.asarray(masks[names.index(image_id)], np.uint8)
    raise KeyError(image_id)


def test_corrected_masks_are_learnt_beyond_the_budget(tmp_path: Path) -> None:
    prepared = tmp_path / "before"
    run_prepare(source(), prepared, task=TASK)
    known = ids(prepared, "labeled")[0]
    lines = {
        "open/1": write_mask(mask(1), CLASSES, tmp_path),
        known: write_mask(mask(7), CLASSES, tmp_path),
        "open/2": "",
    }
    counts = corrected(tmp_path, lines)
    assert (counts.corrected, counts.excluded, counts.corrections_unused) == (2, 1, 0)
    assert {*ids(tmp_path / "prepared", "labeled")} == {*ids(prepared, "labeled"), "open/1"}
    unlabeled = {*ids(prepared, "unlabeled")} - {"open/1", "open/2"}
    assert {*ids(tmp_path / "prepared", "unlabeled")} == unlabeled
    size = {"width": 12, "height": 8}
    assert {"id": "open/2", "reason": "a person: none of the classes"} | size in rows_of(
        tmp_path / "prepared" / "quarantine.parquet"
    )
    before = stored(tmp_path, "open/1")
    shown = before[before != IGNORED]
    np.testing.assert_array_equal(np.unique(shown), np.unique(mask(1)))
    changed = np.full_like(mask(1), 2)
    corrected(tmp_path, {"open/1": write_mask(changed, CLASSES, tmp_path)})
    after = stored(tmp_path, "open/1")
    np.testing.assert_array_equal(after == IGNORED, before == IGNORED)
    assert {*after[after != IGNORED].tolist()} == {2}


def test_classes_are_found_by_name_when_they_are_numbered_anew(tmp_path: Path) -> None:
    label = write_mask(np.full_like(mask(1), 2), CLASSES, tmp_path)
    corrected(tmp_path, {"open/1": label}, ["disk", "background", "box"])
    found = stored(tmp_path, "open/1")
    assert {*found[found != IGNORED].tolist()} == {0}
    with pytest.raises(SourceError, match=r"1 of 1 answers can't be used: 1 mask: value 2: no"):
        corrected(tmp_path, {"open/1": label}, ["background", "box", "ring"])


def test_masks_that_are_not_what_the_line_says_end_the_preparation(tmp_path: Path) -> None:
    wide = write_mask(mask(1, (20, 8)), CLASSES, tmp_path)
    fine = write_mask(mask(1), CLASSES, tmp_path)
    with pytest.raises(SourceError, match=r"1 of 2 .* 20x8, its image is 12x8 \(e.g. 'open/1'\)"):
        corrected(tmp_path, {"open/1": wide, "open/2": fine})
    path = tmp_path / FOLDER / fine
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(SourceError, match="changed since selftrain answers wrote it"):
        corrected(tmp_path, {"open/2": fine})
    path.unlink()
    with pytest.raises(SourceError, match="can't be read"):
        corrected(tmp_path, {"open/2": fine})
    with pytest.raises(SourceError, match=r"line 2: label '../x.png': no mask"):
        corrected(tmp_path, {"open/2": "../x.png"})
    (path.parent / "classes.json").write_text('["background", "disk", "box"]')
    with pytest.raises(SourceError, match=r"classes.json: changed since"):
        mask_reader(CLASSES, tmp_path)(fine)
