"""Ray's settings: quiet unless the user wants to see it all, and his own come first."""

from __future__ import annotations

import os

import pytest

from pipeline.ray.session import QUIET, VERBOSE, quiet_ray


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*QUIET, VERBOSE):
        monkeypatch.setenv(name, "as it was")  # so that it is restored
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("verbose", "level"), [("1", None), ("0", "fatal"), ("", "fatal")])
def test_who_wants_to_see_it_all_does(
    monkeypatch: pytest.MonkeyPatch, verbose: str, level: str | None
) -> None:
    monkeypatch.setenv(VERBOSE, verbose)
    quiet_ray()
    assert os.environ.get("RAY_BACKEND_LOG_LEVEL") == level
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "debug")
    quiet_ray()
    assert os.environ["RAY_BACKEND_LOG_LEVEL"] == "debug"
