"""Look at your images, say what is there, and write a params.yaml for them.

python -m stages.init IMAGES [--force]

IMAGES: a folder with <class>/ and unlabeled/, in parts (train, test …) or not, or with a CSV of
path and label; a CSV; or Parquet.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from pipeline.data.preparation.assign import SplitRules
from pipeline.data.preparation.inspection import Found
from pipeline.errors import ParameterError, visible
from pipeline.files import write_text
from pipeline.params import PARAMS_FILE, Params
from pipeline.progress import say
from pipeline.workflow.command import command_parser, run_command

ASKED = {
    "path_column": "the table's column of paths",
    "label_column": "the table's column of labels",
    "group_column": "the table's column of what must not be split",
    "group_pattern": r"what must not be split, in the paths: (patient_\d+)",
}


def init(given: argparse.Namespace) -> None:
    """Write params.yaml as the command line asks for."""
    if given.out.exists() and not given.force:
        raise ParameterError(f"{given.out}: exists; give --force to write it anew, or --out")
    if given.sample < 1:
        raise ParameterError(f"--sample {given.sample}: must be 1 or more")
    from pipeline.data.preparation.advise import accounted, advise, describe, warnings
    from pipeline.data.preparation.inspection import foresee, look, recognise, unread_tables
    from pipeline.data.preparation.listing import check_apart, warn_of_git
    from pipeline.data.sources import Wanted, open_source
    from pipeline.models.passes import gpu_is_there
    from pipeline.params.load import parse_text
    from pipeline.params.presets import filled_preset

    check_apart(Path(given.images), Path.cwd())
    asked = {key: getattr(given, key) for key in ASKED}
    columns = Wanted(given.path_column, given.label_column, given.group_column)
    name = recognise(given.images, columns)
    start = time.perf_counter()
    pattern = given.group_pattern
    source = open_source(name, given.images, seed=0, columns=columns, group_pattern=pattern)
    found = look(source, given.sample)
    looked = time.perf_counter() - start
    lines = [*describe(found, name), *source.notes, accounted(source), *warnings(found)]
    if name == "folder":
        lines += [f"warning: {line}" for line in unread_tables(Path(given.images))]
    for line in [*lines, *warn_of_git(Path(given.images), Path.cwd())]:
        say(f"init: {visible(line)}")
    gpu = gpu_is_there()
    advice = advise(found, name, given.images, gpu=gpu)
    settings = [(entry.key, entry.value, entry.comment) for entry in advice.settings]
    settings += [(f"data.{key}", value, "as asked") for key, value in asked.items() if value]
    opening = [
        f"Written by python -m stages.init from presets/{advice.preset}.yaml: {advice.reason}.",
        "docs/parameters.md explains each parameter; python -m stages.preview shows the images.",
    ]
    text = filled_preset(advice.preset, settings, opening, root=Path.cwd())
    params = parse_text(text, str(given.out))
    rules = SplitRules.of(params.data, num_classes=len(found.classes), seed=params.seed)
    for line in foresee(found, rules):
        say(f"init: warning: {visible(line)}")
    write_text(given.out, text)
    if advice.preset == "photographs":
        for line in _expected(params, found, looked, gpu=gpu):
            say(f"init: {line}")
    say(f"init: {given.out} from presets/{advice.preset}.yaml ({advice.reason}); next: dvc repro")


def _expected(params: Params, found: Found, looked: float, *, gpu: bool) -> list[str]:
    """How long it will take here, and what would do more."""
    from pipeline.data.preparation.advise import LARGER_BODY
    from pipeline.workflow.estimate import estimate_seconds, in_words, measure_rates

    parts = estimate_seconds(params, found, measure_rates(params), looked=looked)
    faster = "" if gpu else "; a GPU affords larger images and networks"
    return [
        f"dvc repro will take {in_words(parts)} here, by a few images and steps just timed{faster}",
        f"with a network to fetch weights, a larger body: embed: {LARGER_BODY}",
    ]


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("init", __doc__)
    parser.add_argument("images", help="what to look at")
    parser.add_argument("--out", type=Path, default=PARAMS_FILE, help="the file to write")
    parser.add_argument("--force", action="store_true", help="overwrite it where it exists")
    parser.add_argument("--sample", type=int, default=5000, help="images to decode, evenly spread")
    for name, meaning in ASKED.items():
        parser.add_argument(f"--{name.replace('_', '-')}", help=meaning)
    return run_command("init", parser, init)


if __name__ == "__main__":
    sys.exit(main())
