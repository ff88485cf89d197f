"""Take the champion elsewhere: as an ONNX file, or as a folder that MLflow serves.

selftrain export --out model.onnx [--model champion]
selftrain export --out served_model

An ONNX file sees an image once, from the centre; the folder as `evaluate` says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from shlex import quote

from pipeline.errors import ParameterError
from pipeline.files import folder_written_whole
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.workflow.command import (
    add_model_argument,
    add_out_arguments,
    check_own_folder,
    check_writable,
    command_parser,
    run_command,
)
from pipeline.workflow.layout import Layout

MARK = b"er side resized to image_size"  # in the metadata of every ONNX file


def export(arguments: argparse.Namespace) -> None:
    """Write what the command line asks for."""
    out: Path = arguments.out
    if out.suffix not in ("", ".onnx"):
        raise ParameterError(f"--out {out}: a name in .onnx, or a folder's without ending")
    if out.suffix:
        _onnx(out, arguments.model, force=arguments.force)
    else:
        _served(out, arguments.model)


def _onnx(out: Path, model: str | None, *, force: bool) -> None:
    check_writable(out, MARK, force=force)
    from pipeline.models.onnx_export import export_onnx
    from pipeline.tasks import open_task
    from pipeline.workflow.shipping import named_classifier

    shipped = named_classifier(model, Layout(Path.cwd()), load_params(), "cpu")
    weights, spec = shipped.recipe.weights, shipped.spec
    members = [(member, weights[name]) for name, member in shipped.models.items()]
    export_onnx(members, out, keeps_whole=open_task(spec.task).keeps_whole)
    say(
        f"export: {out}: generation {', '.join(weights)}, {len(spec.classes)} classes, images "
        f"of {spec.channels} x {spec.image_size} x {spec.image_size} pixels, uint8"
    )


def _served(out: Path, model: str | None) -> None:
    """A folder that export did not write is never replaced."""
    from pipeline.evaluate.recipe import RECIPE, save_classifier

    ours = (out / "MLmodel").exists() and (out / "artifacts/classifier" / RECIPE).exists()
    check_own_folder(out, "export", ours=ours)
    from pipeline.evaluate.classifier import open_classifier
    from pipeline.tracking.model import save_model
    from pipeline.workflow.shipping import named_models

    models, recipe = named_models(model, Layout(Path.cwd()), load_params())
    open_classifier(models, recipe)  # raises for what could not be used
    with folder_written_whole(out) as finished:
        save_classifier(finished.with_name("classifier"), models, recipe)
        save_model(finished, finished.with_name("classifier"))
    serve = f"mlflow models serve -m {quote(str(out))} --env-manager local --port 5001"
    say(f"export: {out}; serve it: {serve}")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("export", __doc__)
    add_out_arguments(parser, "a file .onnx, or a folder")
    add_model_argument(parser)
    return run_command("export", parser, export)


if __name__ == "__main__":
    sys.exit(main())
