from typing import Any

import pytest

from pipeline.errors import ParameterError
from pipeline.params import Params, parse_params


def parsed(corrections: Any) -> Params:
    data = {"source": "digits", "image_size": 16, "corrections": corrections}
    return parse_params({"data": data, "train": {"steps": 10}})


@pytest.mark.parametrize("given", [None, "corrections.csv"])
def test_the_watched_file_or_none_is_taken(given: str | None) -> None:
    assert parsed(given).data.corrections == given


@pytest.mark.parametrize("given", ["mine.csv", "../corrections.csv", "", "labels/corrections.csv"])
def test_another_file_is_refused_since_dvc_would_not_see_it_change(given: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parsed(given)
    assert f"data.corrections = {given!r}: must be corrections.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
