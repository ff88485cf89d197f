"""Classify your images with the champion, offline: one table, bad files listed with their reason.

selftrain predict IMAGES --out predictions.csv [--model champion]

IMAGES: a folder, a file, a glob in quotes, or Parquet with a column `image`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import ParameterError, counted
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.workflow.command import (
    add_model_argument,
    add_out_arguments,
    check_writable,
    command_parser,
    run_command,
)
from pipeline.workflow.layout import Layout

MARKS = {".parquet": b"probability_", ".csv": b"id,label,confidence,probability_"}  # of a table


def predict(arguments: argparse.Namespace) -> None:
    """Write the table that the command line asks for."""
    if arguments.out.suffix not in MARKS:
        raise ParameterError(f"--out {arguments.out}: a name in .parquet or .csv")
    check_writable(arguments.out, MARKS[arguments.out.suffix], force=arguments.force)
    params = load_params()
    from pipeline.data.sources.loose import LooseImages

    images = LooseImages(arguments.images)
    import torch

    from pipeline.evaluate.predict_files import predict_files
    from pipeline.models.passes import resolve_device
    from pipeline.workflow.shipping import named_classifier

    threads = params.evaluate.threads
    torch.set_num_threads(threads)
    device = str(resolve_device(params.predict.device))
    classifier = named_classifier(arguments.model, Layout(Path.cwd()), params, device)
    summary = predict_files(classifier, images, arguments.out, threads=threads)
    bad = ""
    if summary.bad:
        named = "; ".join(f"{name}: {reason}" for name, reason in summary.first_bad)
        more = "; …" if summary.bad > len(summary.first_bad) else ""
        bad = f"; {summary.bad} could not be read, see column error ({named}{more})"
    say(f"predict: {counted(summary.classified, 'image')} classified: {arguments.out}{bad}")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("predict", __doc__)
    parser.add_argument("images", help="what to classify")
    add_out_arguments(parser, ".parquet or .csv")
    add_model_argument(parser)
    return run_command("predict", parser, predict)


if __name__ == "__main__":
    sys.exit(main())
