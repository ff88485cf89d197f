"""What Ray's core writes to file descriptor 2 is held back, and shown where the block fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.runtime.quiet import LEVELS, QUIET, VERBOSE, muted_stderr, quiet_ray


@contextmanager
def descriptor_to(file: Path) -> Iterator[None]:
    """File descriptor 2 goes to `file` within the block."""
    kept = os.dup(2)
    with file.open("wb") as target:
        os.dup2(target.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def failing(error: type[BaseException]) -> None:
    with muted_stderr():
        os.write(2, b"why it failed ")
        raise error


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_what_a_block_writes_is_dropped_and_what_follows_is_shown(tmp_path: Path) -> None:
    seen = tmp_path / "stderr"
    with descriptor_to(seen):
        os.write(2, b"before ")
        with muted_stderr():
            os.write(2, b"chatter ")
        os.write(2, b"after")
    assert seen.read_bytes() == b"before after"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_shows_what_it_wrote(tmp_path: Path, error: type[BaseException]) -> None:
    seen = tmp_path / "stderr"
    with descriptor_to(seen):
        with pytest.raises(error):
            failing(error)
        os.write(2, b"after")
    assert seen.read_bytes() == b"why it failed after"


def test_who_wants_to_see_it_all_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.setenv(name, "as it was")  # so that it is restored
        monkeypatch.delenv(name)
    monkeypatch.setenv(VERBOSE, "1")
    quiet_ray()
    assert not any(name in os.environ for name in LEVELS)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    seen = tmp_path / "stderr"
    with descriptor_to(seen), muted_stderr():
        os.write(2, b"chatter")
    assert seen.read_bytes() == b"chatter"
    monkeypatch.setenv(VERBOSE, "0")
    quiet_ray()
    assert os.environ["RAY_BACKEND_LOG_LEVEL"] == "fatal"


def test_descriptors_do_not_pile_up(tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux lists a process's descriptors")
    before = open_descriptors()
    for _ in range(5):
        with muted_stderr():
            print("held back", file=sys.__stderr__)
    assert open_descriptors() == before
