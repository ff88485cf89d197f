"""What the parameters of augmentation refuse, and how a search's choice enters them."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import Params, parse_params

SEARCH = {"num_ops": [1, 3], "magnitude": [5, 10.0]}


def parsed(**sections: Any) -> Params:
    values: dict[str, Any] = {"data": {"source": "digits", "image_size": 16}, "train": {"steps": 9}}
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    return parse_params(values)


def refused(**sections: Any) -> str:
    with pytest.raises(ParameterError) as caught:
        parsed(**sections)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    return str(caught.value)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"crop": "random"}, "augment.crop = 'random': "),
    ({"crop_area": [0, 1]}, "augment.crop_area = [0.0, 1.0]: "),
    ({"crop_area": [0.8, 0.3]}, "augment.crop_area = [0.8, 0.3]: "),
    ({"crop_area": [0.5]}, "augment.crop_area.1 is missing"),
    ({"crop_ratio": [0.5, 20]}, "augment.crop_ratio = [0.5, 20.0]: "),
    ({"crop_ratio": ["1", 2]}, "augment.crop_ratio.0 = '1': "),
    ({"erasing": 1.5}, "augment.erasing = 1.5: "),
    ({"mix": "all"}, "augment.mix = 'all': "),
    ({"mix_alpha": 0}, "augment.mix_alpha = 0: "),
    ({"distinct_ops": True, "num_ops": 2, "operations": ["scale"]}, "augment.num_ops = 2: "),
    ({"search": True}, "augment.search = True: "),
    ({"search": {"num_ops": [1]}}, "augment.search.magnitude is missing (magnitudes to try"),
    ({"search": SEARCH | {"num_ops": []}}, "augment.search.num_ops = []: "),
    ({"search": SEARCH | {"num_ops": [17]}}, "augment.search.num_ops = [17]: each from 0 to 16"),
    ({"search": SEARCH | {"magnitude": [5, 31]}}, "augment.search.magnitude = [5.0, 31.0]: "),
    ({"search": SEARCH | {"magnitude": [5, 5.0]}}, "names a value twice"),
    ({"search": SEARCH | {"steps": 0}}, "augment.search.steps = 0: "),
    ({"search": SEARCH | {"step": 5}}, "augment.search.step is not a parameter; did you mean ste"),
    (
        {"search": SEARCH, "distinct_ops": True, "num_ops": 1, "operations": ["scale", "rotate"]},
        "augment.search.num_ops = 3: with distinct_ops at most the number of augment.operations, 2",
    ),
]


@pytest.mark.parametrize(("augment", "said"), WRONG)
def test_a_wrong_value_is_named_with_what_would_do(augment: dict[str, Any], said: str) -> None:
    assert said in refused(augment=augment)


@pytest.mark.parametrize(("batch_size", "workers", "allowed"), [
    (32, 0, True), (33, 0, False), (32, 2, True), (34, 2, False), (6, 3, True), (9, 3, False),
])  # fmt: skip
def test_mixing_needs_an_even_batch_on_each_worker(
    batch_size: int, workers: int, allowed: bool
) -> None:
    train = {"batch_size": batch_size, "workers": workers}
    parsed(train=train, augment={"mix": "none"})
    if allowed:
        parsed(train=train, augment={"mix": "cutmix"})
    else:
        said = refused(train=train, augment={"mix": "cutmix"})
        assert f"train.batch_size = {batch_size}: must be a multiple of 2" in said


def test_what_tells_single_images_apart_does_not_go_with_mixed_ones() -> None:
    train = {"contrastive_weight": 0.5}
    parsed(train=train, augment={"mix": "none"})
    said = refused(train=train, augment={"mix": "cutmix"})
    assert "augment.mix = cutmix: " in said
    assert next(iter(train)) in said
    parsed(train={"online": {}}, augment={"mix": "cutmix"})


def test_an_override_is_checked_with_what_it_meets() -> None:
    said = refused(train={"batch_size": 7}, teacher={"augment": {"mix": "mixup"}})
    assert "train.batch_size = 7" in said
    assert "teacher.augment.search" in refused(teacher={"augment": {"search": SEARCH}})
    generation = {"teacher": "0", "select": {}, "student": {"augment": {"operations": ["scale"]}}}
    shared = {"search": SEARCH, "distinct_ops": True, "num_ops": 1}
    said = refused(augment=shared, generations={"1": generation})
    assert "augment.num_ops = 3: with distinct_ops" in said


def test_a_search_without_validation_images_is_refused() -> None:
    said = refused(augment={"search": SEARCH}, data={"validation_fraction": 0.0})
    assert "augment.search: " in said
    assert "data.validation_fraction = 0.0" in said
    assert parsed(data={"validation_fraction": 0.0}).augment.search is None


def test_a_search_tries_every_pair() -> None:
    search = parsed(augment={"search": SEARCH}).augment.search
    assert search is not None
    assert search.pairs == [(1, 5.0), (1, 10.0), (3, 5.0), (3, 10.0)]


def test_what_was_found_is_used_unless_a_generation_says_otherwise() -> None:
    generations = {
        "1": {"teacher": "0", "select": {}, "student": {}},
        "2": {"teacher": "1", "select": {}, "student": {"augment": {"magnitude": 2.0}}},
    }
    params = parsed(augment={"search": SEARCH}, generations=generations).with_policy(3, 5.0)
    found = [params.training(key).augment for key in params.model_keys]
    assert [(a.num_ops, a.magnitude) for a in found] == [(3, 5.0), (3, 5.0), (3, 2.0)]
    assert all(augment.search is None for augment in found)
