"""Take the champion elsewhere: as an ONNX file, or as a folder that MLflow serves.

python -m stages.export --out model.onnx [--model champion]
python -m stages.export --out served_model

An ONNX file sees an image once, from the centre; the folder as `evaluate` says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from shlex import quote

from pipeline.errors import ParameterError
from pipeline.files import replace_folder
from pipeline.params import load_params
from pipeline.progress import say
from pipeline.workflow.command import (
    add_model_argument,
    check_folder,
    check_writable,
    command_parser,
    run_command,
)
from pipeline.workflow.layout import Layout


def export(given: argparse.Namespace) -> None:
    """Write what the command line asks for."""
    out: Path = given.out
    if out.suffix not in ("", ".onnx"):
        raise ParameterError(f"--out {out}: a name in .onnx, or a folder's without ending")
    if out.suffix == ".onnx":
        check_writable(out)
    else:
        _check_free(out)
    layout, params = Layout(Path.cwd()), load_params()
    if out.suffix == ".onnx":
        from pipeline.models.onnx_export import export_onnx
        from pipeline.workflow.shipping import named_classifier

        shipped = named_classifier(given.model, layout, params, "cpu")
        weights = shipped.recipe.weights
        export_onnx([(model, weights[name]) for name, model in shipped.models.items()], out)
        spec = shipped.spec
        say(
            f"export: {out}: generation {', '.join(weights)}, {len(spec.classes)} classes, images "
            f"of {spec.channels} x {spec.image_size} x {spec.image_size} pixels, uint8"
        )
        return
    from pipeline.evaluate.recipe import save_classifier
    from pipeline.tracking.model import save_model
    from pipeline.workflow.shipping import named_models

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export.") as scratch:
        classifier, finished = Path(scratch) / "classifier", Path(scratch) / "model"
        save_classifier(classifier, *named_models(given.model, layout, params))
        save_model(finished, classifier)
        replace_folder(finished, out)
    serve = f"mlflow models serve -m {quote(str(out))} --env-manager local --port 5001"
    say(f"export: {out}; serve it: {serve}")


def _check_free(out: Path) -> None:
    """A folder that is not a model's is never replaced."""
    check_folder(out)
    if out.exists() and not (out / "MLmodel").exists():
        raise ParameterError(f"--out {out}: exists and is no exported model; name another folder")


def main() -> int:
    """The exit code: 2 for a wrong parameter."""
    parser = command_parser("export", __doc__)
    parser.add_argument("--out", type=Path, required=True, help="a file .onnx, or a folder")
    add_model_argument(parser)
    return run_command("export", parser, export)


if __name__ == "__main__":
    sys.exit(main())
