"""Every run, figure and model in MLflow: its interface on this machine, or where the server is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.params import PARAMS_FILE, load_params
from pipeline.tracking.server import serve
from pipeline.workflow.command import command_parser, run_command


def ui(args: argparse.Namespace) -> None:
    """Become the interface."""
    uri = load_params().tracking.uri if PARAMS_FILE.exists() else None
    serve(Path.cwd(), uri, args.port)


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("ui", __doc__)
    parser.add_argument("--port", type=int, default=5000, help="on 127.0.0.1")
    return run_command("ui", parser, ui)


if __name__ == "__main__":
    sys.exit(main())
