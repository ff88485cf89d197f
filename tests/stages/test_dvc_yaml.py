"""dvc.yaml watches the code that a selection of pseudo-labels rests on."""

from __future__ import annotations

from pathlib import Path

import grimp
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def test_select_depends_on_every_module_of_labels_that_it_runs() -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    watched = set(stages["select"]["do"]["deps"])
    used = grimp.build_graph("pipeline", "stages").find_upstream_modules("stages.select")
    files = {f"{name.replace('.', '/')}.py" for name in used if name.startswith("pipeline.labels.")}
    assert len(files) > 5
    assert not files - watched
