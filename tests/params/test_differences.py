from typing import Any

from pipeline.params.differences import differences
from pipeline.params.load import parse_params

LEAST: dict[str, Any] = {
    "data": {"source": "digits", "image_size": 16, "channels": 3},
    "train": {"steps": 10},
}


def found(**changes: Any) -> dict[str, Any]:
    rows = list(differences(parse_params(LEAST | changes)))
    assert len({key for key, _, _ in rows}) == len(rows)
    return {key: (value, default) for key, value, default in rows}


def test_needed_parameters_are_all_that_differs_in_the_least_file() -> None:
    plain = found()
    assert plain["data.image_size"] == (16, None)
    assert all(default is None for _, default in plain.values())
    assert "data.channels" not in plain
    assert "seed" not in plain


def test_a_changed_parameter_comes_with_its_default() -> None:
    plain = found()
    changed = found(
        seed=3,
        select={"label_kind": "hard", "class_thresholds": {"3": 0.5}},
        generations={"1": {"teacher": "0", "select": {}, "student": {"train": {"steps": 9}}}},
    )
    assert {key: value for key, value in changed.items() if key not in plain} == {
        "seed": (3, 0),
        "select.label_kind": ("hard", "soft"),
        "select.class_thresholds.3": (0.5, None),
        "generations.1.teacher": ("0", None),
        "generations.1.student.train.steps": (9, None),
    }


def test_a_section_in_place_of_null_is_shown_key_by_key() -> None:
    search = {"num_ops": [1, 2], "magnitude": [5.0, 6.0]}
    changed = found(augment={"search": search})
    assert changed["augment.search.num_ops"][0] is not None
    assert "augment.search" not in changed
