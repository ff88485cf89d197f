from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import ParameterError
from pipeline.params.preset import filled_preset

PRESET = """# About the preset.
# More.
seed: 0

data:
  path: x    # an old comment
  labels: 5  # another

  size: 1
last: {a: 1}
"""
FILLED = """# why
# because
seed: 0

data:
  path: "a b"                 # quoted
  labels: null                # all

  size: 2                     # a size
  more: true                  # not there before
last: {a: 1}
"""


def test_keys_are_set_and_commented_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "mine.yaml").write_text(PRESET)
    settings = [
        ("data.path", "a b", "quoted"),
        ("data.labels", None, "all"),
        ("data.size", 2, "a size"),
        ("data.more", True, "not there before"),
    ]
    text = filled_preset("mine", settings, ["why", "because"], root=tmp_path)
    assert [line.replace('"', "").split() for line in text.splitlines()] == [
        line.replace('"', "").split() for line in FILLED.splitlines()
    ]


def test_a_preset_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="run from the repository"):
        filled_preset("mine", [], [], root=tmp_path)
