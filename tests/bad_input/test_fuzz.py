"""A few mutations of every format that is read; `make fuzz` runs 2,000 of each."""

from __future__ import annotations

import os

import pytest

from tests.bad_input.formats import Format, formats
from tests.bad_input.fuzz import Tally, fuzz
from tests.bad_input.outcome import stops
from tests.bad_input.special import KINDS, special

MAY_BE_GONE = {"history.jsonl", "folds of a head", "a training state"}  # of a run that starts
NEEDS_NONE = {"classes.txt"}  # masks have values then
INPUTS = int(os.environ.get("SELFTRAIN_FUZZ_INPUTS", "6"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    """One file of every format."""
    return formats(tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="module")
def tallies(made: dict[str, Format]) -> dict[str, Tally]:
    """What became of the mutations, by format."""
    root = made["params.yaml"].path.parent
    return dict(fuzz(root, list(made), INPUTS))


def test_every_mutation_is_read_or_refused_in_one_line(tallies: dict[str, Tally]) -> None:
    assert {name: tally.failures for name, tally in tallies.items() if tally.failures} == {}
    assert {tally.inputs for tally in tallies.values()} == {INPUTS}


def test_the_mutations_try_both(tallies: dict[str, Tally]) -> None:
    refused = sum(tally.refused for tally in tallies.values())
    assert 0.3 < refused / (INPUTS * len(tallies)) < 0.95


def test_what_is_not_mutated_is_read(made: dict[str, Format]) -> None:
    for each in made.values():
        each.read()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    made: dict[str, Format], kind: str
) -> None:
    read = set()
    for name, each in made.items():
        whole = each.path.rename(each.path.with_name("whole"))
        special(each.path, kind)
        try:
            if stops(each.read).kind == "goes on":
                read.add(name)
        finally:
            each.path.rmdir() if kind == "folder" else each.path.unlink(missing_ok=True)
            whole.rename(each.path)
    images = {name for name in made if name.endswith(" image")}  # they say so as their problem
    gone = MAY_BE_GONE if kind in ("gone", "circle", "/proc/kmsg") else set()
    assert read - images <= gone | (NEEDS_NONE if kind in ("gone", "folder") else set())
