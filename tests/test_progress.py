import io
import re
import sys

import pytest

from pipeline import progress as module
from pipeline.progress import progress, say


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_say_prints_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("done")
    assert capsys.readouterr().out == "done\n"


def test_a_log_gets_a_line_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("train@1", 100, "steps") as advance:
        for _ in range(10):
            clock.now += 1.0
            advance(10, "loss 0.5")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "train@1: 50/100 steps, 10.0/s, 5 s left  loss 0.5",
        "train@1: 100/100 steps, 10.0/s, 0 s left  loss 0.5",
    ]


def test_a_long_step_says_when_it_is_done(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("prepare", 12_000) as advance:
        clock.now += 6.0
        advance(9_000)
        clock.now += 1.0
        advance(3_000)
    assert capsys.readouterr().out.splitlines() == [
        "prepare: 9000/12000 images",
        "prepare: 12000/12000 images, 3,000/s, 0 s left",
    ]


def test_what_comes_before_the_first_report_does_not_count_as_slow(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress("pseudo_label@1", 1600) as advance:
        clock.now += 20.0  # actors start
        advance(100)
        clock.now += 5.0
        advance(500)
    assert capsys.readouterr().out.splitlines() == [
        "pseudo_label@1: 100/1600 images",
        "pseudo_label@1: 600/1600 images, 100/s, 10 s left",
    ]


def test_a_short_step_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress("select", 3) as advance:
        for _ in range(3):
            clock.now += 0.5
            advance()
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", terminal)
    with progress("prepare", 4) as advance:
        advance(3, "half way")
        advance()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert "prepare" in shown
    assert "4/4" in shown
    assert "images" in shown
