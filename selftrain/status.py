"""What a run would do now: its stages, and how long they would take here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.params import Params, load_params
from pipeline.progress import say
from pipeline.workflow.command import command_parser, run_command
from pipeline.workflow.source import say_demonstration, say_unread_answers
from pipeline.workflow.times import in_words
from pipeline.workflow.weights import check_weights

NOTHING = "nothing to do: every output is up to date"


def plan(command: str, params: Params, targets: Sequence[str] = ()) -> dict[str, float | None]:
    """Say what is about to run, if anything is; the seconds of each stage, in order, None where
    not known.

    targets: the stages that are asked for with those before them; none: all.
    """
    from selftrain.plan import expected_seconds, planned_stages

    root = Path.cwd()
    say_demonstration(command, params.data)
    say_unread_answers(command, root, params.data)
    stages = planned_stages(root, params, targets)
    if not stages:
        return {}
    check_weights(root, params, stages)
    seconds = expected_seconds(root, params, stages)
    known = {stage: each for stage, each in seconds.items() if each is not None}
    many = f"{len(stages)} stage{'s' if len(stages) > 1 else ''} to run"
    if len(known) == len(stages):
        say(f"{command}: {many}, {in_words(known)}")
    else:
        say(f"{command}: {many}; how long they take is known once the images were looked at")
    say(f"{command}: {', '.join(stages)}")
    return seconds


def status(args: argparse.Namespace) -> None:
    """Say it."""
    if not plan("status", load_params()):
        say(f"status: {NOTHING}")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    return run_command("status", command_parser("status", __doc__), status)


if __name__ == "__main__":
    sys.exit(main())
