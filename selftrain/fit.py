"""The commands new, init and run as one function, and the classifier that comes of them."""

from __future__ import annotations

import glob
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.errors import ParameterError, SelftrainError, SourceError
from pipeline.params import load_params
from pipeline.params.errors import shortened
from pipeline.program import program_file

if TYPE_CHECKING:
    from pipeline.evaluate.classifier import Classifier


class Prediction(NamedTuple):
    """What a model says of an image, and how sure it is, or why the image can't be read.

    label: the name of its class; of masks the class number of each of its own pixels, (H, W).
    """

    label: Any
    confidence: float
    problem: str | None


@dataclass(frozen=True)
class Fitted:
    """A project that has run; its report is report/index.html in the folder."""

    project: Path

    @cached_property
    def classifier(self) -> Classifier:
        """What `selftrain export` ships; raises DataError before the project has run."""
        from pipeline.workflow.layout import Layout
        from pipeline.workflow.shipping import named_classifier

        params = load_params(self.project / "params.yaml")
        return named_classifier(None, Layout(self.project), params, "cpu")

    def predict(self, images: Sequence[str | Path | bytes]) -> list[Prediction]:
        """Classify image files, by their paths or as bytes; raises SourceError for no such file,
        ParameterError for anything but a list of them."""
        from pipeline.evaluate.classifier import classify_encoded

        if isinstance(images, str | bytes | Path):
            raise ParameterError(
                f"images = {shortened(str(images))!r}: must be a list of files, as "
                "list(Path('my_images').rglob('*.jpg'))"
            )
        try:
            files = [
                each if isinstance(each, bytes) else Path(each).read_bytes() for each in images
            ]
        except OSError as error:
            raise SourceError(f"{error.filename}: can't be read ({error.strerror})") from None
        answers = classify_encoded(self.classifier, files)
        task, classes = self.classifier.task, self.classifier.spec.classes
        columns = task.answer_columns(answers.predictions, classes)
        confidences = columns["confidence"].to_pylist()
        return [
            Prediction(None, 0.0, problem)
            if row is None
            else Prediction(
                task.answer(answers.predictions[row], answers.sizes[row], classes),
                confidences[row],
                None,
            )
            for row, problem in zip(answers.rows, answers.problems, strict=True)
        ]


def fit_folder(images: str | Path, project: str | Path) -> Fitted:
    """Train on `images`, as `selftrain init` takes them, in the folder `project`.

    A project that is not there is made; one that is there goes on with its params.yaml as it is, so
    that it can be changed between two calls. Raises ParameterError where that is of other images,
    SelftrainError where a step ends with an error, which it has printed.
    """
    folder, source = Path(project), Path(images).resolve()
    file = folder / "params.yaml"
    if not source.exists() and not glob.has_magic(str(images)):
        raise ParameterError(f"images = {str(images)!r}: no such folder, CSV or Parquet file")
    if not file.exists():
        _run("new", str(folder))
    if file.read_bytes() == program_file("params.yaml").read_bytes():  # still those of digits
        _run("init", str(source), folder=folder)
    data = load_params(file).data
    if data.path is None or (folder / data.path).resolve() != source:
        raise ParameterError(
            f"{file}: data.path = {data.path!r}: this project is of other images than {source}; "
            "name another project, or these images there"
        )
    _run("run", folder=folder)
    return Fitted(folder)


def _run(command: str, *arguments: str, folder: Path | None = None) -> None:
    answer = subprocess.run([sys.executable, "-m", "selftrain", command, *arguments], cwd=folder)
    if answer.returncode:
        raise SelftrainError(f"selftrain {command}: ended with code {answer.returncode}, see above")
