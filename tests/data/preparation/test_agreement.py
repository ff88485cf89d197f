"""What init accepts, prepare accepts; what one of them refuses, the other does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.preparation.inspection import inspect_source, predicted_warnings
from pipeline.data.sources import open_source
from pipeline.data.sources.recognise import recognise
from pipeline.errors import SelftrainError
from tests.data.helpers import CLASSIFICATION, data_params, encoded, noise, run_prepare

PICTURES = [encoded(noise(number)) for number in range(60)]
CUT = PICTURES[0][:50]
FILES = st.tuples(
    st.sampled_from(["", "", "", "train/", "test/", "val/", "unlabeled/", "labeled/"]),
    st.sampled_from(["cat/", "cat/", "dog/", "dog/", "emu/", ""]),
    st.sampled_from([*(f"{number}.png" for number in range(12)), "notes.txt", ".hidden"]),
)
TREES = st.dictionaries(FILES.map("".join), st.integers(0, 63), min_size=10, max_size=40)


@settings(max_examples=80, deadline=None)
@given(
    TREES,
    st.sampled_from(["", "my/in/"]),
    st.sampled_from([0.0, 0.2]),
    st.sampled_from([0.2, 0.5, 0.0]),
    st.sampled_from([None, None, 2, 4, 20]),
)
def test_init_and_prepare_agree(
    tree: dict[str, int], above: str, validation: float, test: float, labels: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder, "in"), Path(folder, "out")
        for name, number in tree.items():
            path = root / f"{above}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PICTURES[number] if number < len(PICTURES) else CUT)
        kind = recognise(str(root))
        rules: dict[str, Any] = {
            "labels": labels,
            "validation_fraction": validation,
            "test_fraction": test,
        }
        init = prepare = "accepted"
        try:
            found = inspect_source(open_source(kind, str(root), seed=0), CLASSIFICATION)
            predicted_warnings(found, data_params(**rules), seed=0, task=CLASSIFICATION)
        except SelftrainError as error:
            init = str(error)
        try:
            source = open_source(kind, str(root), seed=0)
            run_prepare(source, out, **rules, max_bad_fraction=1.0, near_duplicate_distance=0.0)
        except SelftrainError as error:
            prepare = str(error)
        assert (init == "accepted") == (prepare == "accepted"), (init, prepare)
