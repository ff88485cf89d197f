"""docs/errors.md, row by row: what it says becomes of an input is what does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.bad_input.image_cases import IMAGE_CASES
from tests.bad_input.output_cases import OUTPUT_CASES
from tests.bad_input.source_cases import SOURCE_CASES

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
CASES = {**IMAGE_CASES, **SOURCE_CASES, **OUTPUT_CASES}
KINDS = [
    *("quarantined", "used, counted", "used", "left out"),
    *("warns", "stops, code 2", "stops", "goes on"),
]


def page_rows() -> dict[str, str]:
    """The outcome by input, as the page has it."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:2] == "| "]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {cell[0]: cell[1] for cell in cells if cell[0] != "input"}


def promised(outcome: str) -> tuple[str, re.Pattern[str]]:
    """How it ends, and what is shown: the first words in code, where there are any."""
    kind = next(kind for kind in KINDS if outcome.startswith(kind))
    quoted = re.match(r"[^`]*: `([^`]+)`", outcome) if kind not in ("used", "goes on") else None
    text = quoted[1] if quoted and kind != "used, counted" else ""
    return kind, re.compile(".*".join(map(re.escape, text.split("…"))))


ROWS = page_rows()


def test_every_row_has_its_case_and_every_case_its_row() -> None:
    assert list(ROWS) == list(CASES)
    assert len(ROWS) > 70


@pytest.mark.parametrize("name", CASES)
def test_what_the_page_promises_happens(name: str, tmp_path: Path) -> None:
    kind, text = promised(ROWS[name])
    outcome = CASES[name](tmp_path)
    assert outcome.kind == kind, outcome
    assert text.search(outcome.text), outcome
