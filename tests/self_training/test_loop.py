"""Whatever switches the parameters allow together work for two steps, or are refused; heads too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import ParameterError, SelftrainError
from pipeline.params import Params, parse_params
from pipeline.self_training.loop import Features, Images, self_train, train_control, try_modes
from pipeline.train.body import embedded
from pipeline.train.head import choose_l2
from tests.tiny import CLASSES, SIDE, striped


def optional(**choices: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Dictionaries that hold any of the keys, each with one of its choices."""
    strategies = {key: st.sampled_from(values) for key, values in choices.items()}
    return st.fixed_dictionaries({}, optional=strategies)


PARTS = ("labeled", "unlabeled", "test")
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
TRANSFER: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {"source": st.just("teacher")},
        optional={
            "mode": st.sampled_from(["full", "head", "layerwise"]),
            "frozen_stages": st.sampled_from([1, 2]),
        },
    ),
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


def by_features(**changes: Any) -> Params:
    """A head, one that it taught, and a student, on features of a frozen body."""
    head = {
        "transfer": {"source": None, "mode": "head"},
        "train": {"labeled_augment": "none", "unlabeled_augment": "none"},
    }
    values = {
        "data": {"source": "digits", "image_size": SIDE, "channels": 1, "validation": "folds"},
        "embed": {"source": "packaged", "input_size": 32},
        "model": {"width": 4},
        "train": {"steps": 3, "batch_size": 4, "threads": 1},
        "predict": {"propagation": {"num_neighbors": 4}},
        "select": {"confidence_threshold": 0.0, "distribution_alignment": "estimated"},
        "teacher": head,
        "generations": {
            "1": {"teacher": "0", "select": {"label_kind": "hard"}, "student": head},
            "2": {"teacher": "1", "select": {}, "student": {}},
        },
    }
    return parse_params(values | changes)


def made_features(images: Images) -> Features:
    """The mean of each column of pixels: which stripe is bright."""
    parts = (images.labeled, images.unlabeled, images.test)
    return Features(*(part.float().mean(dim=(1, 2)).numpy().astype(np.float16) for part in parts))


def test_a_head_is_logistic_regression_and_teaches_a_head_and_a_network() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    given = images()
    features = made_features(given)
    results = self_train(given, by_features(), features=features)
    labels = given.labels.numpy()
    l2 = choose_l2(features.labeled, labels, 3, seed=0).l2
    scale = StandardScaler().fit(features.labeled.astype(float))
    expected = LogisticRegression(C=1 / l2, tol=1e-8, max_iter=1000).fit(
        scale.transform(features.labeled.astype(float)), labels
    )
    shares = expected.predict_proba(scale.transform(features.test.astype(float)))
    np.testing.assert_allclose(np.exp(results[0].log_probs), shares, atol=1e-5)
    assert results[0].test_accuracy == results[1].test_accuracy == 1.0
    assert (results[1].log_probs != results[0].log_probs).any()
    assert results[2].test_accuracy < 1.0  # three steps of a network


def test_features_are_made_where_none_are_given() -> None:
    params = by_features(generations={})
    (result,) = self_train(images(), params)
    parts = embedded([getattr(images(), name) for name in PARTS], params.embed)
    assert [part.shape for part in parts] == [(12, 1280), (30, 1280), (12, 1280)]
    (again,) = self_train(images(), params, features=Features(*parts))
    np.testing.assert_array_equal(result.log_probs, again.log_probs)


def test_the_mode_is_tried_and_a_network_can_t_start_from_a_head() -> None:
    transfer = {"source": "packaged", "mode": "auto", "trial_steps": 1}
    model = {"name": "timm/tf_efficientnet_lite0", "input_size": 32}
    params = by_features(transfer=transfer, model=model)
    given = images()
    found = try_modes(given, params, features=made_features(given))
    assert (found.images, found.head, found.mode) == (12, 12, "head")
    results = self_train(given, params, features=made_features(given))
    assert [result.test_accuracy for result in results] == [1.0] * 3
    with pytest.raises(ParameterError, match=r"transfer\.source = 'teacher'"):
        self_train(
            given, by_features(transfer={"source": "teacher"}), features=made_features(given)
        )


def test_a_control_sees_the_labels_alone() -> None:
    params = by_features(controls={"longer": {"steps": 5, "like": "student"}})
    found = train_control(images(), params, "longer")
    one = parse_params(
        {
            "data": {"source": "digits", "image_size": SIDE, "channels": 1},
            "model": {"width": 4},
            "train": params.training("0.longer").train.model_dump(mode="json"),
        }
    )
    (alone,) = self_train(images(), one)
    np.testing.assert_array_equal(found.log_probs, alone.log_probs)
