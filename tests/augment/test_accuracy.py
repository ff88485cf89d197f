"""docs/methods.md says of each augmentation how far it is from its slow reference, measured now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.augment.cases import cases
from tests.augment.images import shares
from tests.augment.mixing_cases import LEVELS, Case

DOCUMENT = Path(__file__).parents[2] / "docs" / "methods.md"
START, END = "<!-- augmentation: start -->", "<!-- augmentation: end -->"
SHAPES = ((1, 16, 16), (3, 20, 24), (3, 17, 13))  # channels, height, width
CASES = {case.tool: case for case in cases()}
MOST = 1e-5


def difference(case: Case) -> float:
    """The largest difference over all shapes and strengths."""
    batches = [shares(len(LEVELS), *shape) for shape in SHAPES]
    gaps = [(case.ours(batch).double() - case.theirs(batch).double()).abs() for batch in batches]
    return max(float(gap.max()) for gap in gaps)


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
    most, published = difference(case), float(documented()[case.tool][4])
    assert max(most, published) <= MOST
    # Another processor may round otherwise in the last places.
    assert most <= 10 * published or most <= 1e-6


@pytest.mark.parametrize("tool", ["rotate", "posterize", "cutout", "MixUp", "RandAugment"])
def test_a_wrong_operation_would_show(tool: str) -> None:
    broken = Case(**(vars(CASES[tool]) | {"ours": lambda images: images.flip(-1)}))
    assert difference(broken) > MOST
