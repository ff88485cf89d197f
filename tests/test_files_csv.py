"""What a spreadsheet would take for a formula is none, and comes back as it was."""

from __future__ import annotations

import csv
import io
import re

import pytest

from pipeline.files import FORMULA, csv_rows, csv_value


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@A1",
        "＝1",
        "\tx",
        "\r=x",
        "\n",
        "'quoted",
        "''",
        "'=1",
        "plain",
        "",
        "a\r=b",
        "a;=1;'+2;b\t@c",
        ";;=1",
        "\t\t=1\n\r-",
        "a;'x;''=",
    ],
)
def test_no_cell_is_a_formula_and_each_comes_back(text: str) -> None:
    file = io.StringIO(newline="")
    csv_rows(file, [(text, 1.5, None), ("next", 2, "")])
    rows = list(csv.reader(io.StringIO(file.getvalue(), newline="")))
    assert not rows[0][0].startswith(FORMULA)
    assert not any(part.startswith(FORMULA[:8]) for part in re.split("[;\t\r\n]", rows[0][0]))
    assert csv_value(rows[0][0]) == text
    assert [rows[0][1:], *rows[1:]] == [["1.5", ""], ["next", "2", ""]]
    assert file.getvalue().endswith("\nnext,2,\n")


def test_a_quote_that_was_written_by_hand_stays() -> None:
    assert csv_value("'quoted' cat.png") == "'quoted' cat.png"
