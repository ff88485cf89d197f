"""The command's words."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from selftrain.__main__ import COMMANDS, main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["selftrain", *arguments])
    return main()


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["--help"], 0), (["help"], 0)])
def test_every_command_is_listed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
) -> None:
    assert run(monkeypatch, *arguments) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [*COMMANDS]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert callable(import_module(COMMANDS[name][0]).main)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, name, "--help")
    assert ended.value.code == 0
    assert f"usage: selftrain {name}" in capsys.readouterr().out


def test_a_word_that_is_no_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "pik") == 2
    said = capsys.readouterr()
    assert said.err == "selftrain pik: no such command; did you mean pick? selftrain --help\n"
    assert said.out == ""


def test_a_wrong_argument_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "pick", "--count", "many")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("selftrain pick: argument --count: invalid int value: 'many'")


def test_its_version_is_the_package_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("selftrain 0.")


def test_what_the_command_line_holds_is_made_visible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "predict", "a.png", "evil\x1b[2J\n\u202e.png", "--out", "o.csv")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "evil\\x1b[2J\\n\\u202e.png" in said
