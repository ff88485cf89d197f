"""A damaged file of scan is named before DVC stumbles over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.params import load_params
from pipeline.program import program_file
from selftrain.plan import planned_stages
from tests.bad_input.special import special


@pytest.mark.parametrize("name", ["program.json", "source.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\0", "folder", "pipe"])
def test_what_scan_can_not_have_written_is_one_line(
    tmp_path: Path, name: str, content: str
) -> None:
    if content in ("folder", "pipe"):
        special(tmp_path / name, content)
    else:
        (tmp_path / name).write_text(content)
    params = load_params(program_file("params.yaml"))
    with pytest.raises(DataError, match=rf"{name}: .*; remove it, scan writes it anew$"):
        planned_stages(tmp_path, params)
