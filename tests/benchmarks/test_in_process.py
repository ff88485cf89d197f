"""Whatever switches the parameters allow together work for two steps, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.in_process import Images, self_train
from pipeline.errors import SelftrainError
from pipeline.params import parse_params
from tests.tiny import CLASSES, SIDE, striped


def optional(**choices: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Dictionaries that hold any of the keys, each with one of its choices."""
    strategies = {key: st.sampled_from(values) for key, values in choices.items()}
    return st.fixed_dictionaries({}, optional=strategies)


ONLINE = optional(
    start_fraction=[0.0, 0.5],
    confidence_threshold=[0.0, 0.5, 1.0],
    label_kind=["soft", "hard"],
    temperature=[0.5, 2.0],
    distribution_alignment=[True, False],
)
TRAIN = st.builds(
    lambda online, others: online | others,
    st.fixed_dictionaries({}, optional={"online": st.none() | ONLINE}),
    optional(
        unlabeled_ratio=[0, 1, 2],
        unlabeled_weight=[0.0, 2.0],
        label_smoothing=[0.0, 0.2],
        labeled_augment=["none", "weak", "strong"],
        unlabeled_augment=["none", "weak", "strong"],
        distillation_weight=[0.0, 0.5, 1.0],
        distillation_temperature=[0.5, 3.0],
        optimizer=["adamw", "sgd"],
        ema_decay=[0.0, 0.9],
        clip_norm=[None, 0.5],
        image_size=[None, 8, 9],
        finetune_steps=[0, 1, 2, 3],
        keep=["last", "best"],
        patience=[None, 1],
        workers=[0],
        batch_size=[3, 4],
    ),
)
MODEL = optional(
    name=["resnet_small", "lenet5", "wrn_10_1"],
    width=[4, 6],
    input_size=[None, 8],
    dropout_rate=[0.0, 0.3],
    stochastic_depth_rate=[0.0, 0.3],
)
AUGMENT = optional(
    crop=["shift", "resized"],
    num_ops=[0, 1, 3],
    erasing=[0.0, 0.5],
    cutout=[0.0, 0.4],
    mix=["none", "mixup", "cutmix", "both"],
)
SELECT = optional(
    confidence_threshold=[0.0, 0.4],
    class_thresholds=[{}, {"left": 0.5}, {"nobody": 0.5}],
    threshold_kind=["fixed", "relative"],
    distribution_alignment=["none", "uniform", "labeled", "estimated"],
    images_per_class=[None, 4],
    fraction_per_class=[None, 0.5],
    label_kind=["soft", "hard"],
    temperature=[0.5, 2.0],
)
TRANSFER = optional(
    source=["teacher"], mode=["full", "head", "freeze", "layerwise"], frozen_stages=[1, 2]
)
STUDENT = st.fixed_dictionaries(
    {},
    optional={
        "model": optional(width=[4, 8]),
        "grow": st.sampled_from([0, 1]),
        "train": TRAIN,
        "transfer": TRANSFER,
    },
)


def images() -> Images:
    labels = torch.arange(12) % 3
    return Images(
        labeled=striped(labels, 0),
        labels=labels,
        unlabeled=striped(torch.arange(30) % 3, 1),
        test=striped(labels, 2),
        test_labels=labels,
        classes=CLASSES,
    )


@settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    sections=st.fixed_dictionaries(
        {"model": MODEL, "augment": AUGMENT, "train": TRAIN, "select": SELECT, "student": STUDENT}
    ),
    predict=optional(teacher=["last", "ensemble"], views=["centre", "flip", "jitter"]),
)
def test_every_combination_of_switches_works_or_is_refused(
    sections: dict[str, Any], predict: dict[str, Any]
) -> None:
    student = sections.pop("student")
    seen.append(_outcome(sections, student, predict))


seen: list[str] = []


def _outcome(sections: dict[str, Any], student: dict[str, Any], predict: dict[str, Any]) -> str:
    """What comes of two steps for each of three generations: "works", or the reason why not."""
    entry = {"teacher": "0", "select": {}, "student": student}
    values = sections | {
        "data": {
            "source": "digits",
            "image_size": SIDE,
            "channels": 1,
            "labels": 12,
            "validation_fraction": 0.0,
        },
        "train": {"steps": 2, "batch_size": 4, "threads": 1} | sections["train"],
        "predict": {"jitter_views": 2} | predict,
        "generations": {"1": entry, "2": entry | {"teacher": "1"}},
    }
    try:
        results = self_train(images(), parse_params(values))
    except SelftrainError as error:
        reason = str(error)
        assert reason
        assert "\n" not in reason
        return reason
    assert len(results) == 3
    for result in results:
        assert np.isfinite(result.log_probs).all()
        np.testing.assert_allclose(np.exp(result.log_probs).sum(axis=1), 1, rtol=1e-4)
    return "works"


def test_most_of_them_work_and_the_others_name_a_parameter() -> None:
    assert len(seen) >= 100  # the test above has run
    reasons = {reason for reason in seen if reason != "works"}
    assert seen.count("works") > len(seen) / 3
    for reason in reasons:
        assert any(
            name in reason
            for name in ("train.", "model.", "augment.", "select.", "transfer.", "grow")
        ), reason
