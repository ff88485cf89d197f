from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipeline.data.images import decode_stored
from pipeline.data.sources import open_source
from pipeline.errors import ParameterError


def test_digits_are_scikit_learns_split_in_stratified_halves() -> None:
    source = open_source("digits", None, seed=3)
    rows = list(source.rows())
    values, labels = load_digits(return_X_y=True)
    assert len(source) == len(rows) == 1797
    assert [row.label for row in rows] == labels.tolist()
    assert rows[42].id == "digit_00042"
    assert (decode_stored(rows[42].image).reshape(-1) == np.round(values[42] * 255 / 16)).all()
    train, test = train_test_split(np.arange(1797), stratify=labels, random_state=3, test_size=0.5)
    assert {n for n, row in enumerate(rows) if row.split == "test"} == set(test.tolist())
    assert (len(train), len(test)) == (898, 899)


@pytest.mark.parametrize(
    ("name", "path", "message"), [("mnist", None, "must be"), ("folder", None, r"data\.path")]
)
def test_an_unknown_source_or_no_path(name: str, path: str | None, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        open_source(name, path, seed=0)
