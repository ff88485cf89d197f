"""Run every stage that is to be run: `dvc repro`, with the plan and the time before it.

After a stop or a kill the same command goes on. What follows -- goes to `dvc repro`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from pipeline.params import load_params
from pipeline.progress import say
from pipeline.ray.session import VERBOSE
from pipeline.workflow.command import command_parser, run_command
from pipeline.workflow.times import PARAMS, PLAN, parameters_digest
from selftrain.status import NOTHING, plan

QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def run(args: argparse.Namespace) -> None:
    """Say the plan, then become `dvc repro`; with options of its own it says all that it does."""
    from selftrain.plan import check_idle

    check_idle(Path.cwd())
    options = [each for each in args.arguments if each.startswith("-")]
    params = load_params()
    seconds = plan("run", params, [each for each in args.arguments if each not in options])
    if not seconds and not options:  # which may be --force
        say(f"run: {NOTHING}")
        return
    programs = str(Path(sys.executable).parent)  # the `python` of dvc.yaml is this one
    environment = QUIET | dict(os.environ) | {PLAN: json.dumps(seconds)}
    environment[PARAMS] = parameters_digest(params)
    environment["PATH"] = os.pathsep.join([programs, environment.get("PATH", os.defpath)])
    if args.verbose:
        environment[VERBOSE] = "1"
    sys.stdout.flush()
    program = ["dvc", "repro"] if args.verbose or options else ["selftrain.repro"]
    command = [sys.executable, "-m", *program, *args.arguments]
    os.execve(command[0], command, environment)


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("run", __doc__)
    parser.add_argument("--verbose", action="store_true", help="show all that Ray and DVC say")
    parser.add_argument("arguments", nargs="*", help="for dvc repro: stages, options after --")
    return run_command("run", parser, run)


if __name__ == "__main__":
    sys.exit(main())
