"""Inspect your images, say what is there, and write a params.yaml for them.

IMAGES: a folder with <class>/ and unlabeled/, in parts (train, test …) or not, with images/ and
masks/, or with a CSV of path and label; a CSV; or Parquet.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from pipeline.errors import BusyError, ParameterError
from pipeline.files import write_text
from pipeline.params import PARAMS_FILE
from pipeline.program import program_file
from pipeline.progress import say
from pipeline.tracking.spool import is_locked
from pipeline.workflow.command import command_parser, run_command
from pipeline.workflow.layout import STATE
from pipeline.workflow.times import in_words

OPTIONS = {
    "path_column": "the table's column of paths",
    "label_column": "the table's column of labels",
    "group_column": "the table's column of what must not be split",
    "group_pattern": r"what must not be split, in the paths: (patient_\d+)",
}


def init(args: argparse.Namespace) -> None:
    """Write params.yaml as the command line says."""
    from pipeline.data.preparation.advise import LARGER_BODY, advise, filled, summary
    from pipeline.data.preparation.inspection import inspect_source, predicted_warnings
    from pipeline.data.preparation.listing import check_apart, warn_of_git
    from pipeline.data.sources import ColumnNames, open_source
    from pipeline.data.sources.recognise import recognise, task_of, unread_tables
    from pipeline.data.trees.tree import local_path
    from pipeline.models.passes import has_gpu
    from pipeline.params.load import parse_text
    from pipeline.tasks import open_task
    from pipeline.workflow.estimate import Counts, estimate_seconds, measure_rates, note_counts

    images = Path(local_path(args.images))
    check_apart(images, Path.cwd())
    columns = ColumnNames(args.path_column, args.label_column, args.group_column)
    name, pattern = recognise(args.images, columns), args.group_pattern
    if args.out.exists() and not args.force and not _replaceable(args.out):
        raise ParameterError(
            f"{args.out}: git has no copy of it; give --force to replace it, or --out"
        )
    if at_work := [path.stem for path in Path(STATE, "locks").glob("*.lock") if is_locked(path)]:
        raise BusyError(f"{args.out}: {at_work[0]} is at work with it; wait for it, or end it")
    if args.sample < 1:
        raise ParameterError(f"--sample {args.sample}: must be 1 or more")
    start = time.perf_counter()
    asked = task_of(name, args.images, columns)
    source = open_source(
        name, args.images, seed=0, columns=columns, group_pattern=pattern, task=asked
    )
    task = open_task(asked)
    inspection = inspect_source(source, task, args.sample)
    seconds = time.perf_counter() - start
    tables = unread_tables(args.images) if name == "folder" else []
    for line in [*summary(inspection, source, task, tables), *warn_of_git(images, Path.cwd())]:
        say(f"init: {line}")
    gpu = has_gpu()
    advice = advise(inspection, name, args.images, gpu=gpu, task=task)
    text = filled(advice, {key: getattr(args, key) for key in OPTIONS})
    params = parse_text(text, str(args.out))
    for line in predicted_warnings(inspection, params.data, params.seed, task):
        say(f"init: warning: {line}")
    write_text(args.out, text)
    counts = Counts.of(inspection, seconds)
    note_counts(Path.cwd(), counts)
    expected = in_words(estimate_seconds(params, counts, measure_rates(params)))
    say(f"init: a run will take {expected} here, by a few images and steps that were just timed")
    if advice.preset == "photographs":
        faster = "" if gpu else "; a GPU affords larger images and networks"
        say(f"init: with a network to fetch weights, a larger body: embed: {LARGER_BODY}{faster}")
    say(
        f"init: {args.out} from presets/{advice.preset}.yaml ({advice.reason}); next: selftrain run"
    )


def _replaceable(path: Path) -> bool:
    """Whether nothing is lost with the file: git has it as it is, or it is the one of the demo."""
    shipped = program_file("params.yaml")
    if shipped.resolve() != path.resolve() and shipped.read_bytes() == path.read_bytes():
        return True
    command = ["git", "status", "--porcelain", "--ignored", "--", path.name]
    try:
        answer = subprocess.run(command, cwd=path.parent, capture_output=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0 and not answer.stdout


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
