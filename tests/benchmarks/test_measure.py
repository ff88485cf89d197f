"""Figures are taken in turn and compared round by round, and the page shows those that are kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.measure import PAGE, Row, compared, in_turn, keep, rate, renew_page


def test_measures_are_asked_in_turn_each_other_round_backwards() -> None:
    asked: list[str] = []

    def asks(name: str) -> float:
        asked.append(name)
        return float(len(asked))

    answers = in_turn({"a": lambda: asks("a"), "b": lambda: asks("b")}, rounds=3)
    assert asked == ["a", "b", "b", "a", "a", "b"]
    assert answers == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_the_ratio_is_of_the_same_round() -> None:
    # A slow machine in the second round halves both; the median of the ratios does not see it.
    row = compared("x", "images/s", {"ours": [90, 45, 80], "reference": [100, 50, 100]})
    assert (row.ours, row.reference, row.ratio) == (80, 100, 0.9)
    assert row.met is None


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row("a", "s", 3.0, at_most=3.0), True),
        (Row("a", "s", 3.1, at_most=3.0), False),
        (Row("a", "images/s", 500, 400, 1.25, at_least=1.2), True),
        (Row("a", "images/s", 500, 400, 1.25, at_least=1.3), False),
    ],
)
def test_a_bar_is_on_the_ratio_or_on_the_figure_alone(row: Row, met: bool) -> None:
    assert row.met is met


def test_a_rate_counts_what_is_done_a_second_after_warming_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 12.0])
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: next(clock))
    done: list[int] = []
    assert rate(lambda: done.append(1), 500, warm_up=True) == 250
    assert len(done) == 2


def test_results_that_are_kept_are_shown_on_the_page_and_a_missing_place_is_an_error(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- results of speed -->\n<!-- end -->\n\nWords.\n")
    rows = [Row("all", "images/s", 1234.5, 1000, 1.2345, at_least=1.5), Row("start", "s", 3.25)]
    keep("speed", rows, rounds=3, threads=2, page=page, results=tmp_path)
    text = page.read_text()
    assert "| all, images/s | 1,234 | 1,000 | 1.23 | ≥ 1.5: missed |" in text
    assert "| start, s | 3.25 |  |  |  |" in text
    assert "3 rounds; 2 threads" in text
    assert text.endswith("<!-- end -->\n\nWords.\n")
    renew_page(page, tmp_path)
    assert page.read_text() == text
    with pytest.raises(ValueError, match="no place for the results of other"):
        keep("other", rows, rounds=1, page=page, results=tmp_path)


def test_the_page_in_docs_shows_the_results_that_are_kept(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    shutil.copy(PAGE, page)
    renew_page(page)
    assert page.read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
