"""What may be said of the frozen body, of heads on its features, and of choosing between modes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import Params, parse_params
from tests.integration.project import SMALL

PLAIN = {"labeled_augment": "none", "unlabeled_augment": "none"}
PACKAGED = {"source": "packaged"}
MODEL = {"name": "timm/tf_efficientnet_lite0"}


def params(**sections: dict[str, Any]) -> Params:
    values = copy.deepcopy(SMALL)
    values["embed"] = {}
    for name, changes in sections.items():
        values[name] = values.get(name, {}) | changes
    return parse_params(values)


def head(**train: Any) -> dict[str, Any]:
    return {"transfer": {"mode": "head"}, "train": PLAIN | train}


def test_a_head_needs_features() -> None:
    assert params(embed=PACKAGED, teacher=head()).training("0").transfer.mode == "head"
    with pytest.raises(ParameterError, match=r"teacher: transfer\.mode = 'head': needs the feat"):
        params(teacher=head())


@pytest.mark.parametrize("name", ["labeled_augment", "unlabeled_augment"])
def test_augmentation_that_a_head_can_t_see_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ParameterError, match=rf"teacher\.train\.{name} = 'weak': .* stored feat"):
        params(embed=PACKAGED, teacher=head(**{name: "weak"}))
    with pytest.raises(ParameterError, match=r"augment\.mix, train\.online and train\.contras"):
        params(embed=PACKAGED, augment={"mix": "mixup"}, teacher=head())


def test_a_trial_needs_folds_and_is_made_for_all_generations_at_once() -> None:
    folds = {"validation": "folds"}
    auto = {"source": "packaged", "mode": "auto"}
    made = params(embed=PACKAGED, data=folds, model=MODEL, transfer=auto)
    assert made.with_mode("head").training("1").transfer.mode == "head"
    with pytest.raises(ParameterError, match=r"'auto': chooses by cross-validation on the labels"):
        params(embed=PACKAGED, model=MODEL, transfer=auto)
    with pytest.raises(ParameterError, match=r"teacher\.transfer\.mode = 'auto': the choice is ma"):
        params(embed=PACKAGED, data=folds, model=MODEL, transfer=auto, teacher={"transfer": auto})


def test_folds_leave_no_image_to_search_or_weigh_by() -> None:
    folds = {"validation": "folds"}
    assert params(data=folds).data.held_out_fraction == 0
    with pytest.raises(ParameterError, match=r"augment\.search: .*data\.validation = folds leaves"):
        params(data=folds, augment={"search": {"num_ops": [1], "magnitude": [1.0], "steps": 2}})
    with pytest.raises(ParameterError, match=r"greedy chooses on .*data\.validation = folds leav"):
        params(data=folds, ensemble={"method": "greedy"})


def test_a_digest_is_of_a_path_and_a_teacher_has_no_features() -> None:
    with pytest.raises(ParameterError, match=r"embed\.sha256 is of a folder or file"):
        params(embed=PACKAGED | {"sha256": "ab" * 32})
    with pytest.raises(ParameterError, match=r"embed\.source = 'teacher': features are made befo"):
        params(embed={"source": "teacher"})
    with pytest.raises(ParameterError, match=r"embed\.source = 'packaged': .* embed\.name = 'res"):
        params(embed=PACKAGED | {"name": "resnet18"})


def test_a_student_s_control_sees_as_many_images_a_step_all_of_them_labelled() -> None:
    controls = {"longer": {"steps": 7, "like": "student"}}
    train = {"batch_size": 8, "unlabeled_ratio": 3, "steps": 5}
    packaged = {"source": "packaged", "mode": "layerwise"}
    made = params(
        embed=PACKAGED,
        model=MODEL,
        train=train,
        transfer=packaged,
        teacher=head(),
        controls=controls,
    )
    control = made.training("0.longer")
    assert (control.train.steps, control.train.batch_size) == (7, 32)
    assert control.transfer.mode == "layerwise"
    assert made.all_steps == 10  # of the two students: a head has none
    with pytest.raises(ParameterError, match=r"controls\.longer\.like = 'student': students star"):
        params(
            transfer={"source": "teacher"},
            teacher={"transfer": {"source": None}},
            controls=controls,
        )
