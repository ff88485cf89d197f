import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import Params, load_params, parse_params
from pipeline.params.load import parse_text

REPOSITORY = Path(__file__).resolve().parents[2]
GENERATION: dict[str, Any] = {"teacher": "0", "select": {}, "student": {}}


def values(**sections: Any) -> dict[str, Any]:
    """The least that params.yaml must hold, with `sections` merged in."""
    base: dict[str, Any] = {
        "data": {"source": "digits", "image_size": 16},
        "train": {"steps": 10},
    }
    for name, section in sections.items():
        both = isinstance(section, dict) and isinstance(base.get(name), dict)
        base[name] = base[name] | section if both else section
    return base


def refused(**sections: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        parse_params(values(**sections))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("params.yaml: ")
    assert caught.value.exit_code == 2
    return message


def test_the_projects_own_file_is_right() -> None:
    params = load_params(REPOSITORY / "params.yaml")
    assert params.model_keys == ["0", *(str(n) for n in range(1, len(params.generations) + 1))]
    assert (params.data.labels, params.data.validation_fraction) == (100, 0.3)
    assert len(params.generations) >= 2


def test_what_is_not_said_has_a_default() -> None:
    params = parse_params(values())
    assert params.model_keys == ["0"]
    assert params.select.fraction_per_class == 1.0  # balancing is on
    assert params.select.images_per_class is None
    assert params.select.label_kind == "soft"
    assert params.train.workers == 0


WRONG: list[tuple[str, str, Any]] = [
    ("data", "source", "disgits"),
    ("data", "image_size", 7),
    ("data", "image_size", "16"),
    ("data", "image_size", 16.0),
    ("data", "channels", 2),
    ("data", "validation_fraction", 1.0),
    ("model", "name", 18),
    ("augment", "flip", "yes"),
    ("augment", "flip", 1),
    ("augment", "operations", []),
    ("train", "steps", 10.5),
    ("train", "steps", True),
    ("train", "batch_size", None),
    ("train", "learning_rate", 0),
    ("train", "learning_rate", "1e-3"),
    ("train", "learning_rate", float("nan")),
    ("train", "learning_rate", float("inf")),
    ("run", "checkpoint_minutes", 0),
    ("predict", "jitter_views", 0),
    ("predict", "teacher", "both"),
    ("select", "images_per_class", 0),
    ("select", "fraction_per_class", 0),
    ("guard", "min_class_images", -1),
    ("guard", "interval", 1.0),
    ("ensemble", "label_issue_margin", -0.1),
    ("evaluate", "bootstrap_samples", 10),
    ("tracking", "experiment", ""),
]


@pytest.mark.parametrize(("section", "key", "value"), WRONG)
def test_a_wrong_value_is_named_with_its_key(section: str, key: str, value: Any) -> None:
    message = refused(**{section: {key: value}})
    assert f"{section}.{key} = {value!r}: " in message
    assert message.split(": ", 2)[2]  # what is allowed


@pytest.mark.parametrize("seed", [-1, 2**31, 1.5, "0", True, None])
def test_a_wrong_seed_is_named(seed: Any) -> None:
    assert f"seed = {seed!r}: " in refused(seed=seed)


@pytest.mark.parametrize("section", ["data", "train", "select", "generations", "teacher"])
@pytest.mark.parametrize("value", [None, 3, [1], "text"])
def test_a_section_of_another_kind_is_named(section: str, value: Any) -> None:
    assert f"{section} = {value!r}: " in refused(**{section: value})


@pytest.mark.parametrize("keys", [["2"], ["0"], ["1", "3"], ["one"], ["01"], ["2", "1"]])
def test_generations_count_up_from_one(keys: list[str]) -> None:
    entries = {key: GENERATION | {"teacher": str(n)} for n, key in enumerate(keys)}
    assert "keys count up in order" in refused(generations=entries)


@pytest.mark.parametrize("teacher", ["1", "", "2", "teacher"])
def test_the_teacher_is_the_generation_before(teacher: str) -> None:
    message = refused(generations={"1": GENERATION | {"teacher": teacher}})
    assert f"generations.1.teacher = {teacher!r}: " in message
    assert '"0"' in message


def chain() -> Params:
    return parse_params(
        values(
            train={"steps": 10, "learning_rate": 0.1},
            select={"confidence_threshold": 0.5, "max_repeats": 2},
            teacher={"train": {"steps": 5}, "model": {"width": 8}},
            generations={
                "1": GENERATION | {"select": {"confidence_threshold": 0.9}},
                "2": {
                    "teacher": "1",
                    "select": {"images_per_class": 7},
                    "student": {
                        "model": {"width": 32, "depth": 2},
                        "augment": {"operations": ["rotate"]},
                        "train": {"learning_rate": 0.2},
                    },
                },
            },
        )
    )


def test_overrides_win_over_the_shared_sections_for_their_generation_alone() -> None:
    params = chain()
    teacher, first, second = (params.training(key) for key in params.model_keys)
    assert (teacher.train.steps, first.train.steps, second.train.steps) == (5, 10, 10)
    assert (teacher.model.width, first.model.width, second.model.width) == (8, 16, 32)
    assert (first.model.depth, second.model.depth) == (1, 2)
    assert (first.train.learning_rate, second.train.learning_rate) == (0.1, 0.2)
    assert second.augment.operations == ("rotate",)
    assert first.augment == params.augment
    one, two = params.selection("1"), params.selection("2")
    assert (one.confidence_threshold, two.confidence_threshold) == (0.9, 0.5)
    assert (one.images_per_class, two.images_per_class) == (None, 7)
    assert one.max_repeats == two.max_repeats == 2


def test_parameters_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(chain().train, "steps", 3)  # noqa: B010


def write(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_numbers_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "data: {source: digits, image_size: 16, path: no}\n"
        "train: {steps: 1_000, learning_rate: 1e-3, weight_decay: 5E-4, unlabeled_weight: 1}\n"
        'generations:\n  "1": {teacher: "0", select: {}, student: {}}\n',
    )
    params = load_params(path)
    assert params.train.learning_rate == 0.001
    assert params.train.weight_decay == 0.0005
    assert params.train.unlabeled_weight == 1.0
    assert params.data.path == "no"  # a word, not false
    assert params.model_keys == ["0", "1"]


def test_integer_keys_of_generations_are_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "data: {source: digits, image_size: 16}\ntrain: {steps: 1}\n"
        'generations:\n  1: {teacher: "0", select: {}, student: {}}\n',
    )
    with pytest.raises(ParameterError, match=r'generations\.1: keys must be quoted strings: "1"'):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("data: [", "not YAML: line 1"),
        ("a: 1\nb: 2\na: 3\n", 'line 3, column 1: found duplicate key "a"'),
        ("\t: x", "not YAML: line 1"),
        ("a: !!python/object:os.system x", "not YAML: line 1"),
        ("a: \x00", "not YAML"),
        ("", "must be a mapping of parameters, not None"),
        ("- 1\n", "must be a mapping of parameters, not [1]"),
        ("text", "must be a mapping of parameters, not 'text'"),
    ],
)
def test_a_file_that_is_no_mapping_in_yaml_is_refused(tmp_path: Path, text: str, part: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ParameterError) as caught:
        load_params(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "suppress" not in str(caught.value)


def test_a_missing_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="no such file"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ParameterError, match="can't be read"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(ParameterError, match="can't be read"):
        load_params(tmp_path / "params.yaml")


NEEDED = "data: {source: digits, image_size: 8}\ntrain: {steps: 1}\n"
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 26)
)
MANY = "not YAML that can be used: its anchors stand for more than 100,000 values"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"{BOMB}seed: *a11", MANY),
        (f"{NEEDED}{BOMB}embed: {{source: *a11}}", MANY),
        (f"{MERGES}seed: 1", MANY),
        (f"{NEEDED}merged: &m {{<<: *m}}", MANY),
        (f"{BOMB}--- *a11", "not YAML"),
        (f"{NEEDED}embed: &e {{source: *e}}", MANY),
        (f"seed: {'[' * 5000}{']' * 5000}", "not YAML that can be used: maximum recursion"),
        (f"seed: {'9' * 5000}", "not YAML that can be used: Exceeds the limit"),
        ("seed: 1\nseed: 2", "not YAML: line 2, column 1: found duplicate key"),
        ("seed: !!python/object/apply:os.system [id]", "not YAML: line 1"),
        ("<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> b", "not YAML: line 2"),
        ("- seed", "must be a mapping of parameters, not ['seed']"),
    ],
)
def test_damaged_and_hostile_yaml_is_one_short_line(text: str, told: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_text(text)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.timeout(30)
def test_what_is_no_file_of_parameters_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "huge").write_bytes(b"#" * ((256 << 10) + 1))
    for name in ("pipe", "zero", "huge"):
        with pytest.raises(ParameterError, match="can't be read \\("):
            load_params(tmp_path / name)


def test_neighbours_have_parameters_of_their_own() -> None:
    neighbors = {"propagation": {"num_neighbors": 5}}
    found = parse_params(values(predict=neighbors)).predict.propagation
    assert found is not None
    assert (found.num_neighbors, found.alpha) == (5, 0.9)
    stored = parse_params(values(predict=neighbors, storage={"url": "s3://bucket/run"}))
    assert stored.predict.propagation == found
    assert "predict.propagation.alpha = 1.0: " in refused(predict={"propagation": {"alpha": 1.0}})
    assert "did you mean num_neighbors?" in refused(predict={"propagation": {"neighbors": 5}})
    assert "there are num_neighbors, alpha" in refused(predict={"propagation": {"reach": 0.9}})


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!bool x",
        "seed: !!int ''",
        "seed: !!float _",
        "a: '\\UFFFFFFFF'",
        "seed: 0x" + "f" * 9999,
        'a: "\\UFFFFFFFF"',
        "%YAML 1.99999999999999999999\n---\na: 1",
    ],
)
def test_odd_scalars_are_one_line(text: str) -> None:
    with pytest.raises(ParameterError) as error:
        parse_text(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
