"""docs/methods.md says of each augmentation how far it is from its slow reference, measured now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.augment.cases import LEVELS, Case, cases
from tests.augment.images import levels

DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"
START, END = "<!-- augmentation: start -->", "<!-- augmentation: end -->"
SHAPES = ((1, 16, 16), (3, 20, 24), (3, 17, 13))  # channels, height, width
CASES = {case.tool: case for case in cases()}
MOST_LEVELS, MOST_SHARE = 1, 1e-5


def differences(case: Case) -> tuple[float, float]:
    """The largest difference over all shapes and strengths: of uint8 levels, of floats."""
    most = [0.0, 0.0]
    for shape in SHAPES:
        images = levels(len(LEVELS), *shape)
        for kind, batch in enumerate((images, images.float() / 255)):
            gap = (case.ours(batch).double() - case.theirs(batch).double()).abs().max()
            most[kind] = max(most[kind], float(gap))
    return most[0], most[1]


def documented() -> dict[str, list[str]]:
    """The cells of each row by tool."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition(START)[2].partition(END)[0].strip().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {cells[0]: cells for cells in rows}


def test_the_table_has_every_case_in_its_words() -> None:
    assert list(documented()) == list(CASES)
    for case in CASES.values():
        words = [case.tool, case.parameter, case.source, case.reference]
        assert documented()[case.tool][:4] == words


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.tool)
def test_each_equals_its_reference_within_what_the_table_says(case: Case) -> None:
    most, share = differences(case)
    assert most <= MOST_LEVELS
    assert share <= MOST_SHARE
    said_most, said_share = (float(cell) for cell in documented()[case.tool][4:])
    assert most <= said_most <= MOST_LEVELS
    # Another processor may round otherwise in the last places.
    assert share <= 10 * said_share or share <= 1e-6
    assert said_share <= MOST_SHARE


@pytest.mark.parametrize("tool", ["rotate", "posterize", "cutout", "MixUp", "RandAugment"])
def test_a_wrong_operation_would_show(tool: str) -> None:
    broken = Case(**(vars(CASES[tool]) | {"ours": lambda images: images.flip(-1)}))
    assert differences(broken)[1] > MOST_SHARE
