"""Inspect your images, say what is there, and write a params.yaml for them.

IMAGES: a folder with <class>/ and unlabeled/, in parts (train, test …) or not, or with a CSV of
path and label; a CSV; or Parquet.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pipeline.errors import ParameterError
from pipeline.files import write_text
from pipeline.params import PARAMS_FILE
from pipeline.progress import say
from pipeline.workflow.command import command_parser, run_command

OPTIONS = {
    "path_column": "the table's column of paths",
    "label_column": "the table's column of labels",
    "group_column": "the table's column of what must not be split",
    "group_pattern": r"what must not be split, in the paths: (patient_\d+)",
}


def init(args: argparse.Namespace) -> None:
    """Write params.yaml as the command line says."""
    if args.out.exists() and not args.force:
        raise ParameterError(f"{args.out}: exists; give --force to write it anew, or --out")
    if args.sample < 1:
        raise ParameterError(f"--sample {args.sample}: must be 1 or more")
    from pipeline.data.preparation.advise import advise, filled, summary
    from pipeline.data.preparation.inspection import inspect_source, predicted_warnings
    from pipeline.data.preparation.listing import check_apart, warn_of_git
    from pipeline.data.sources import ColumnNames, open_source
    from pipeline.data.sources.recognise import recognise, unread_tables
    from pipeline.models.passes import has_gpu
    from pipeline.params.load import parse_text
    from pipeline.workflow.estimate import expected_time

    images = Path(args.images)
    check_apart(images, Path.cwd())
    columns = ColumnNames(args.path_column, args.label_column, args.group_column)
    name, pattern = recognise(args.images, columns), args.group_pattern
    start = time.perf_counter()
    source = open_source(name, args.images, seed=0, columns=columns, group_pattern=pattern)
    inspection = inspect_source(source, args.sample)
    seconds = time.perf_counter() - start
    tables = unread_tables(images) if name == "folder" else []
    for line in [*summary(inspection, source, name, tables), *warn_of_git(images, Path.cwd())]:
        say(f"init: {line}")
    gpu = has_gpu()
    advice = advise(inspection, name, args.images, gpu=gpu)
    text = filled(advice, {key: getattr(args, key) for key in OPTIONS}, root=Path.cwd())
    params = parse_text(text, str(args.out))
    for line in predicted_warnings(inspection, params.data, params.seed):
        say(f"init: warning: {line}")
    write_text(args.out, text)
    if advice.preset == "photographs":
        for line in expected_time(params, inspection, seconds, gpu=gpu):
            say(f"init: {line}")
    say(f"init: {args.out} from presets/{advice.preset}.yaml ({advice.reason}); next: dvc repro")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("init", __doc__)
    parser.add_argument("images", help="what to look at")
    parser.add_argument("--out", type=Path, default=PARAMS_FILE, help="the file to write")
    parser.add_argument("--force", action="store_true", help="overwrite it where it exists")
    parser.add_argument("--sample", type=int, default=5000, help="images to decode, evenly spread")
    for name, meaning in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=meaning)
    return run_command("init", parser, init)


if __name__ == "__main__":
    sys.exit(main())
