"""Add the answers of a labelling tool to corrections.csv.

selftrain answers FILE [--out corrections.csv]

FILE: of what selftrain pick wrote Label Studio's export as JSON, or FiftyOne's labels.json or its
folder; where each pixel has a class Label Studio's JSON or COCO's, whose masks go to corrections/
beside corrections.csv.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import SourceError, counted
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.tasks import open_task
from pipeline.workflow.command import command_parser, run_command
from pipeline.workflow.layout import Layout

REASONS_SHOWN = 3


def add_answers(args: argparse.Namespace) -> None:
    """Add what the file says to the corrections."""
    from pipeline.data.answers.choices import read_answers, with_answers
    from pipeline.data.answers.mask_answers import read_mask_answers
    from pipeline.data.sources.rows import in_words
    from pipeline.files import write_text

    layout, params = Layout(Path.cwd()), load_params()
    task, classes, unusable = open_task(params.task), layout.classes, ""
    if task.answer_file is None:
        answers = read_answers(args.file, layout.prepared, classes)
    else:
        folder = args.out.parent
        answers, left_out = read_mask_answers(args.file, layout.prepared, classes, folder)
        if left_out:
            shown = in_words(left_out, REASONS_SHOWN)
            unusable = f"{counted(len(left_out), task.answer_file)} can't be used: {shown}"
    if not answers:
        raise SourceError(f"{args.file}: {unusable or 'no image in it has an answer yet'}")
    text, added = with_answers(args.out, answers, task.correction_reader(classes, args.out.parent))
    write_text(args.out, text)
    if unusable:
        say(f"answers: {unusable}")
    used = "selftrain run" if params.data.corrections else "set data.corrections: corrections.csv"
    say(f"answers: {len(added)} of {len(answers)} answers are new in {args.out}; next: {used}")


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
