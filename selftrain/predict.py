"""Predict your images with the champion, offline: one table, bad files listed with their reason.

selftrain predict IMAGES --out predictions.csv [--model champion]
selftrain predict IMAGES --out FOLDER [--overlay]    where each pixel has a class

IMAGES: a folder, a file, a glob in quotes, or Parquet with a column `image`. FOLDER gets a PNG of
class numbers for each image, at its own size, and predictions.csv.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline.errors import ParameterError, counted
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.tasks import Task, open_task
from pipeline.workflow.command import (
    add_model_argument,
    add_out_arguments,
    check_own_folder,
    check_writable,
    command_parser,
    run_command,
)
from pipeline.workflow.layout import Layout

MARKS = {".parquet": b"probability_", ".csv": b"id,label,confidence,probability_"}  # of a table
FOLDER_MARK = b"id,file,confidence,"


def predict(arguments: argparse.Namespace) -> None:
    """Write the table or the folder that the command line asks for."""
    out: Path = arguments.out
    if out.suffix in MARKS:
        check_writable(out, MARKS[out.suffix], force=arguments.force)
    elif out.suffix:
        raise ParameterError(
            f"--out {out}: a name in .parquet or .csv, or a folder's without ending"
        )
    params = load_params()
    from pipeline.data.sources.loose import LooseImages

    _check_apart(out, params.data.path)
    images = LooseImages(arguments.images, out)
    from pipeline.models.spec import read_spec
    from pipeline.workflow.shipping import named_models

    models, recipe = named_models(arguments.model, Layout(Path.cwd()), params)
    _check_out(out, open_task(read_spec(next(iter(models.values()))).task), arguments.overlay)
    import torch

    from pipeline.evaluate.classifier import open_classifier
    from pipeline.evaluate.predict_files import predict_files
    from pipeline.evaluate.predict_folder import predict_folder
    from pipeline.models.passes import resolve_device

    threads = params.evaluate.threads
    torch.set_num_threads(threads)
    device = str(resolve_device(params.predict.device))
    classifier = open_classifier(models, recipe, device=device)
    if out.suffix:
        summary = predict_files(classifier, images, out, threads=threads)
    else:
        overlay = arguments.overlay
        summary = predict_folder(classifier, images, out, overlay=overlay, threads=threads)
    bad = ""
    if summary.bad:
        named = "; ".join(f"{name}: {reason}" for name, reason in summary.first_bad)
        more = "; …" if summary.bad > len(summary.first_bad) else ""
        bad = f"; {summary.bad} could not be read, see column error ({named}{more})"
    said = "classified" if classifier.task.answer_file is None else "predicted"
    say(f"predict: {counted(summary.classified, 'image')} {said}: {out}{bad}")


def _check_apart(out: Path, source: str | None) -> None:
    """Raise ParameterError where a run would learn from the answers."""
    from pipeline.data.preparation.listing import folder_of
    from pipeline.data.trees.tree import is_remote, local_path

    root = None if source is None or is_remote(source) else folder_of(Path(local_path(source)))
    if root is not None and out.resolve().is_relative_to(root.resolve()):
        raise ParameterError(
            f"--out {out}: is in the folder of data.path = {source!r}, from whose files a run "
            "learns; name another place"
        )


def _check_out(out: Path, task: Task, overlay: bool) -> None:
    """Raise ParameterError where answers of the task don't go to `out`."""
    if task.answer_file is None:
        if not out.suffix:
            raise ParameterError(f"--out {out}: a name in .parquet or .csv")
        if overlay:
            raise ParameterError("--overlay: draws masks, and the model says one class an image")
        return
    if out.suffix:
        raise ParameterError(
            f"--out {out}: each image gets a {task.answer_file}; name a folder, without ending"
        )
    from pipeline.evaluate.predict_folder import OVERLAYS, TABLE

    ours, table = {TABLE, f"{task.answer_file}s", OVERLAYS}, out / TABLE
    is_ours = table.is_file() and {path.name for path in out.iterdir()} <= ours
    if is_ours:
        with table.open("rb") as file:
            is_ours = file.read(len(FOLDER_MARK)) == FOLDER_MARK
    check_own_folder(out, "predict", ours=is_ours)


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("predict", __doc__)
    parser.add_argument("images", help="what to predict")
    add_out_arguments(parser, ".parquet or .csv, or a folder")
    parser.add_argument("--overlay", action="store_true", help="draw masks over the images too")
    add_model_argument(parser)
    return run_command("predict", parser, predict)


if __name__ == "__main__":
    sys.exit(main())
