from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ParameterError
from pipeline.files import read_text, write_text
from pipeline.params import Params
from pipeline.params.load import parse_params, parse_yaml
from pipeline.params.presets import differences, filled_preset, nearest_preset

LEAST: dict[str, Any] = {
    "data": {"source": "digits", "image_size": 16, "channels": 3},
    "train": {"steps": 10},
}


def params(**changes: Any) -> Params:
    return parse_params(LEAST | changes)


def found(here: Params, there: Params) -> dict[str, Any]:
    rows = differences(here, there)
    assert len({row.key for row in rows}) == len(rows)
    return {row.key: (row.value, row.preset) for row in rows}


def test_nothing_differs_from_itself() -> None:
    assert found(params(), params()) == {}


def test_where_a_run_takes_place_does_not_count() -> None:
    other = LEAST["data"] | {"path": "elsewhere.parquet"}
    assert found(params(data=other, tracking={"experiment": "mine"}), params()) == {}


def test_a_changed_parameter_comes_with_that_of_the_preset() -> None:
    generation = {"teacher": "0", "select": {}, "student": {"train": {"steps": 9}}}
    changed = params(
        seed=3,
        select={"label_kind": "hard", "class_thresholds": {"3": 0.5}},
        generations={"1": generation},
    )
    expected = {
        "seed": (3, 0),
        "select.label_kind": ("hard", "soft"),
        "select.class_thresholds.3": (0.5, None),
        "generations.1.teacher": ("0", None),
        "generations.1.student.train.steps": (9, None),
    }
    assert found(changed, params()) == expected
    swapped = {key: (there, here) for key, (here, there) in expected.items()}
    assert found(params(), changed) == swapped


def test_a_section_in_place_of_null_is_shown_key_by_key() -> None:
    search = {"num_ops": [1, 2], "magnitude": [5.0, 6.0]}
    changed = found(params(augment={"search": search}), params())
    assert changed["augment.search.num_ops"] == ((1, 2), None)
    assert "augment.search" not in changed


def test_the_preset_of_the_fewest_differences_is_nearest(tmp_path: Path) -> None:
    text = "data: {source: digits, image_size: 16, channels: 3}\ntrain: {steps: 10}\n"
    (tmp_path / "b.yaml").write_text(text + "seed: 1\n")
    (tmp_path / "a.yaml").write_text(text.replace("10", "20") + "seed: 1\n")
    name, rows = nearest_preset(params(seed=2), tmp_path)
    assert name == "presets/b.yaml"
    assert [(row.key, row.value, row.preset) for row in rows] == [("seed", 2, 1)]


def test_a_preset_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {steps: many}\n")
    with pytest.raises(ParameterError, match=r"a\.yaml"):
        nearest_preset(params(), tmp_path)


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


@pytest.mark.parametrize(
    "value",
    [
        "a\x85b",
        "\x85",
        "a\u2028b",
        "\u2029 a ",
        "a\n\x85 b",
        "\ufeffa",
        "a\r\tb",
        " a",
        "null",
        "#a: b",
    ],
)
def test_a_name_reads_back_as_it_is(tmp_path: Path, value: str) -> None:
    (tmp_path / "mine.yaml").write_text(PRESET)
    text = filled_preset(tmp_path / "mine.yaml", [("data.path", value, "a folder")], [])
    write_text(tmp_path / "params.yaml", text)
    assert parse_yaml(read_text(tmp_path / "params.yaml"))["data"]["path"] == value
    assert YAML(typ="safe").load(tmp_path / "params.yaml")["data"]["path"] == value


def test_a_name_that_yaml_does_not_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PRESET)
    with pytest.raises(ParameterError, match=r"^data\.path = 'a\\udcff': YAML can't hold it"):
        filled_preset(tmp_path / "mine.yaml", [("data.path", "a\udcff", "a folder")], [])


def test_keys_are_set_and_commented_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(PRESET)
    settings = [
        ("data.path", "a b", "quoted"),
        ("data.labels", None, "all"),
        ("data.size", 2, "a size"),
        ("data.more", True, "not there before"),
    ]
    text = filled_preset(tmp_path / "mine.yaml", settings, ["why", "because"])
    assert [line.replace('"', "").split() for line in text.splitlines()] == [
        line.replace('"', "").split() for line in FILLED.splitlines()
    ]
