"""docs/notebook.ipynb runs as it stands, without a network, and holds no outputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import ROOT

NOTEBOOK: dict[str, Any] = json.loads((ROOT / "docs/notebook.ipynb").read_text("utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_small_and_holds_no_outputs() -> None:
    assert NOTEBOOK["nbformat"] == 4
    assert [cell["outputs"] for cell in CODE] == [[]] * len(CODE)
    assert (ROOT / "docs/notebook.ipynb").stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_its_cells_run_one_after_the_other(tmp_path: Path) -> None:
    program = "\n".join("".join(cell["source"]) for cell in CODE)
    paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    label = re.search(r"^(\d) \d+% None$", ended.stdout, re.M)
    assert label
    assert label[1] == "6"
    accuracies = re.findall(r"^generation \d: ([\d.]+)% of the test images$", ended.stdout, re.M)
    assert len(accuracies) == 3
    assert float(accuracies[-1]) > 80
    assert (tmp_path / "my_project/report/index.html").exists()
