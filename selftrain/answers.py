"""Add the answers of a labelling tool to corrections.csv.

selftrain answers FILE [--out corrections.csv]

FILE: Label Studio's export as JSON, or FiftyOne's labels.json or its folder, of what selftrain pick
wrote.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import SourceError
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.tasks import check_image_classes, open_task
from pipeline.workflow.command import command_parser, run_command
from pipeline.workflow.layout import Layout


def add_answers(args: argparse.Namespace) -> None:
    """Add what the file says to the corrections."""
    from pipeline.data.answers.choices import read_answers, with_answers
    from pipeline.files import write_text

    layout, params = Layout(Path.cwd()), load_params()
    check_image_classes("answers", open_task(params.task))
    classes = layout.classes
    answers = read_answers(args.file, layout.prepared, classes)
    if not answers:
        raise SourceError(f"{args.file}: no image in it has an answer yet")
    text, added = with_answers(args.out, answers, classes)
    write_text(args.out, text)
    used = "selftrain run" if params.data.corrections else "set data.corrections: corrections.csv"
    say(f"answers: {len(added)} of {len(answers)} answers added to {args.out}; next: {used}")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("answers", __doc__)
    parser.add_argument("file", type=Path, help="what the labelling tool exported")
    parser.add_argument(
        "--out", type=Path, default=Path("corrections.csv"), help="the file to add to"
    )
    return run_command("answers", parser, add_answers)


if __name__ == "__main__":
    sys.exit(main())
