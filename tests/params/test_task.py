"""The task, and what it asks of the other parameters."""

from __future__ import annotations

from typing import Any

import pytest

from tests.params.test_load import refused


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"task": "segmentation"}, "data.source = digits: has answers for classification, not for"),
        ({"data": {"source": "digit_scenes"}}, "set task: segmentation"),
        ({"task": "segmentation", "data": {"source": "masks"}}, "data.path is needed"),
    ],
)
def test_a_source_has_answers_for_one_task(changes: dict[str, Any], expected: str) -> None:
    assert expected in refused(**changes)
