"""Names that could move a cursor, turn text around, hide or break a drawing: shown as such."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import MOST_SHOWN, SourceError, visible
from pipeline.evaluate.label_issues import LabelIssue
from pipeline.params import AugmentParams
from pipeline.progress import say
from pipeline.report.contact_sheet import draw_sheet
from pipeline.report.galleries import Gallery, ShownImage
from pipeline.report.page import render_report
from pipeline.report.preview import preview_rows
from pipeline.report.summary import render_note, render_table
from tests.bad_input.outcome import folder_source, prepare_folder, quarantine
from tests.report.example import example_report

MARKS = {
    "an escape sequence": "\x1b[2J",
    "C1 controls": "\x80\x85\x9b31m\x9f",
    "direction": "\u202a\u202e\u2066\u2069\u200e\u200f\u061c",
    "no width": "\u200b\u200c\u200d\ufeff\u00ad",
    "line ends": "a\nb\rc\u2028d\u2029e\x0b\x0c",
    "a tab and NUL": "\t\0",
    "lone surrogates": "\ud800\udcff",
    "private and unassigned": "\ue000\uffff\U000e0041",
}
PLAIN = [
    "$x^2$ $\\frac{",
    "_a^",
    "%s%n{}{0!r}",
    "<script>",
    "x" * 10_000,
    "日本語",
    "מלה",
    "\u0301" * 50,
]


@pytest.mark.parametrize("name", MARKS.values(), ids=MARKS)
def test_what_can_not_be_seen_is_shown_as_such(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = visible(name)
    assert shown.isprintable()
    assert all(ascii(character)[1:-1] in shown for character in name)
    say(f"class {name!s}")
    assert capsys.readouterr().out == f"class {shown}\n"
    assert str(SourceError(f"{name}: no class")) == f"{shown}: no class"


def test_a_message_is_never_longer_than_a_screen_or_two() -> None:
    message = str(SourceError(f"params.yaml: {'x' * 1_000_000}: what would do"))
    assert len(message) == MOST_SHOWN
    assert message.startswith("params.yaml: ")
    assert message.endswith(": what would do")


@pytest.mark.parametrize("start", range(0, len(MARKS) + len(PLAIN), 4))
def test_any_name_is_drawn(start: int) -> None:
    classes = tuple([*MARKS.values(), *PLAIN][start : start + 4])
    images = (
        ShownImage(name, "data:,", f"{name} 91 %", ((name, 0.9),), f"before: {name}")
        for name in classes
    )
    data = replace(
        example_report(classes, skills=(5.0, 6.0)),
        dataset="".join(classes),
        label_issues=tuple(LabelIssue(name, name, "b", 0.1, 0.8, 0.7) for name in classes),
        galleries=(Gallery("issues", "Title", "About.", tuple(images)),),
        unused=tuple((name, 1, name) for name in classes),
    )
    data = replace(
        data, generations=(data.generations[0], replace(data.generations[1], findings=classes))
    )
    for text in (render_report(data), render_table(data), render_note(data)):
        assert all(character.isprintable() or character in "\n\u00a0" for character in text)
        text.encode()
    rows = preview_rows(torch.rand(4, 1, 8, 8), classes, AugmentParams(num_ops=0, mix="mixup"), 0)
    assert draw_sheet("title", rows).height > 0


@pytest.mark.parametrize(
    "name", [b"x.j\xff", b"\xff\xfe", b"\x1b[2J.txt", b"a" * 255, b"-rf", b"con.", b" "]
)
def test_any_file_or_folder_beside_the_images_is_accounted_for(tmp_path: Path, name: bytes) -> None:
    root = folder_source(tmp_path)
    for folder in ("unlabeled", "labeled/cat"):
        with open(os.path.join(os.fsencode(root / folder), name), "wb") as file:  # noqa: PTH118, PTH123
            file.write(b"junk")
    os.mkdir(os.path.join(os.fsencode(root), b"2" + name[1:]))  # noqa: PTH102, PTH118
    outcome = prepare_folder(root, max_bad_fraction=0.5)
    assert outcome.kind == "goes on", outcome
    assert len(quarantine(root)) == 2
