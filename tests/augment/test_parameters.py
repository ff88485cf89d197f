"""Whatever AugmentParams allows works on grey and colour; what it refuses has a reason."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.augment import mix, strong, weak
from pipeline.errors import ParameterError
from pipeline.params import AugmentParams, Operation, parse_params
from tests.augment.images import draws, shares

SIDE, CLASSES = 16, 4
SHARE = st.floats(0, 1)
RANGE = st.tuples(st.floats(0, 1.2), st.floats(0, 1.2))
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "flip": st.booleans(),
        "crop": st.sampled_from(["shift", "resized"]),
        "shift": st.floats(0, 0.5),
        "padding": st.sampled_from(["reflect", "zeros"]),
        "crop_area": RANGE,
        "crop_ratio": st.tuples(st.floats(0.05, 12), st.floats(0.05, 12)),
        "num_ops": st.integers(0, 16),
        "magnitude": st.floats(0, 30),
        "magnitude_std": st.floats(0, 30),
        "magnitude_sampling": st.sampled_from(["normal", "uniform"]),
        "distinct_ops": st.booleans(),
        "cutout": SHARE,
        "erasing": SHARE,
        "mix": st.sampled_from(["none", "mixup", "cutmix", "both"]),
        "mix_alpha": st.floats(0.001, 32),
        "operations": st.lists(st.sampled_from(get_args(Operation)), min_size=1, max_size=8),
    },
)


@settings(deadline=None, derandomize=True, max_examples=120)
@given(PARAMETERS, st.sampled_from([1, 3]), st.sampled_from([2, 6]), st.integers(0, 2**31 - 1))
def test_every_combination_works_or_is_refused(
    values: dict[str, Any], channels: int, count: int, seed: int
) -> None:
    if reason := _why_refused(values):
        with pytest.raises(ParameterError, match=reason):
            _parsed(values)
        return
    augment = _parsed(values)
    images = shares(count, channels, SIDE, SIDE)
    views = [
        weak(images, draws(count, seed), augment),
        strong(images, draws(count, seed), augment),
    ]
    if augment.mix != "none" and augment.mix != "classmix":
        targets = torch.eye(CLASSES)[torch.arange(count) % CLASSES]
        mixed, targets = mix(
            views[1], targets, draws(count, seed), kind=augment.mix, alpha=augment.mix_alpha
        )
        views.append(mixed)
        assert torch.allclose(targets.sum(dim=1), torch.ones(count))
        assert float(targets.min()) >= 0
    for view in views:
        assert view.shape == images.shape
        assert view.dtype == torch.float32
        assert torch.isfinite(view).all()
        assert float(view.min()) >= 0
        assert float(view.max()) <= 1 + 1e-6  # bilinear weights add up to 1 within rounding


def _why_refused(values: dict[str, Any]) -> str | None:
    """The parameter that is wrong beside its own limits."""
    low, high = values.get("crop_area", (0.5, 1.0))
    if not 1e-9 <= low <= high <= 1:
        return r"augment\.crop_area"
    low, high = values.get("crop_ratio", (0.75, 1.3333))
    if not 0.1 <= low <= high <= 10:
        return r"augment\.crop_ratio"
    operations = values.get("operations", AugmentParams().operations)
    crowded = values.get("num_ops", 2) > len(operations)
    return "distinct_ops" if crowded and values.get("distinct_ops") else None


def _parsed(values: dict[str, Any]) -> AugmentParams:
    shown = {
        key: list(value) if isinstance(value, tuple) else value for key, value in values.items()
    }
    base = {"data": {"source": "digits", "image_size": SIDE}, "train": {"steps": 1}}
    return parse_params(base | {"augment": shown}).augment


@pytest.mark.parametrize("operation", get_args(Operation))
def test_each_operation_is_usable_from_the_parameters(operation: str) -> None:
    augment = _parsed({"operations": [operation], "num_ops": 1, "magnitude": 25.0, "shift": 0.0})
    images = shares(8, 3, SIDE, SIDE)
    changed = strong(images, draws(8), augment)
    assert torch.equal(changed, images) == (operation == "identity")
