"""The table of the last run, and where its page is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import DataError
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.workflow.command import command_parser, run_command
from pipeline.workflow.layout import Layout


def report(args: argparse.Namespace) -> None:
    """Show it."""
    layout, params = Layout(Path.cwd()), load_params()
    page = layout.report / "index.html"
    if not page.exists():
        raise DataError(f"{page.relative_to(layout.root)}: not there yet; selftrain run makes it")
    from pipeline.report.gather import as_written, gather_report
    from pipeline.report.summary import render_table

    with as_written(layout.root):
        table = render_table(gather_report(layout, params), color=sys.stdout.isatty())
    print(table)  # several lines, in which names are visible already
    say(f"report: {page.as_uri()}")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    return run_command("report", command_parser("report", __doc__), report)


if __name__ == "__main__":
    sys.exit(main())
