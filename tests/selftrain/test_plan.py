"""What would stop a run later is said before any work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import BusyError, DataError
from pipeline.files import file_digest, write_json
from pipeline.params import load_params
from pipeline.program import program_file
from selftrain.new import main as new
from selftrain.plan import check_idle, planned_stages
from selftrain.status import main
from tests.bad_input.special import special

DVC_YAML = "stages: {make: {cmd: touch out, deps: [in], outs: [out, folder]}}"


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


from pipeline.errors import BusyError, DataError
from pipeline.files import file_digest, write_json
from pipeline.params import load_params
from pipeline.program import program_file
from selftrain.new import main as new
from selftrain.plan import check_idle, planned_stages
from selftrain.status import main
