"""docs/library.md runs as it stands, and its student classifies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.docs.blocks import blocks


@pytest.mark.slow
def test_the_blocks_of_the_page_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks("docs/library.md", "python")):
        exec(compile(block, f"library.md, block {number}", "exec"), names)
    assert names["results"]["teacher"].score > 0.5
    assert names["results"]["student"].score > 0.5
    assert (names["chosen"].repeats > 0).mean() > 0.3
    *_, accuracy, last = capsys.readouterr().out.splitlines()
    assert float(accuracy) > 0.8
    label, problem = last.split(maxsplit=1)
    assert label.isdigit()
    assert problem.strip() == "not an image"
