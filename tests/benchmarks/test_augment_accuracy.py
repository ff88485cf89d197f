"""docs/methods.md says of each augmentation what the program measures now."""

from __future__ import annotations

import pytest

from benchmarks.augment_accuracy import DOCUMENT, END, START, differences, rounded_up, row
from benchmarks.augment_cases import Case, cases

CASES = {case.tool: case for case in cases()}
MOST_LEVELS, MOST_SHARE = 1, 1e-5


def _documented() -> dict[str, list[str]]:
    """The cells of each row by tool."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = text.partition(START)[2].partition(END)[0].strip().splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {cells[0]: cells for cells in rows}


def test_the_table_has_every_case_in_its_words() -> None:
    documented = _documented()
    assert list(documented) == list(CASES)
    for case in CASES.values():
        words = [case.tool, case.parameter, case.source, case.reference]
        assert documented[case.tool][:4] == words, "run python -m benchmarks.augment_accuracy"


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.tool)
def test_each_equals_its_reference_within_what_the_table_says(case: Case) -> None:
    levels, share = differences(case)
    assert levels <= MOST_LEVELS
    assert share <= MOST_SHARE
    said_levels, said_share = (float(cell) for cell in _documented()[case.tool][4:])
    assert levels <= said_levels <= MOST_LEVELS
    # Another processor may round otherwise in the last places.
    assert share <= 10 * said_share or share <= 1e-6
    assert said_share <= MOST_SHARE


def test_figures_are_rounded_up() -> None:
    assert [rounded_up(x) for x in (0, 1e-9, 1e-7, 2.1e-6, 1e-5)] == [
        "0",
        "1e-07",
        "1e-07",
        "3e-06",
        "1e-05",
    ]
    assert row(CASES["cutout"], 1, 2.5e-6).endswith("| 1 | 3e-06 |\n")


@pytest.mark.parametrize("tool", ["rotate", "posterize", "cutout", "MixUp", "RandAugment"])
def test_a_wrong_operation_would_show(tool: str) -> None:
    broken = Case(**(vars(CASES[tool]) | {"ours": lambda images: images.flip(-1)}))
    assert differences(broken)[1] > MOST_SHARE
