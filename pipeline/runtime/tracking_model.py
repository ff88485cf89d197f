"""Log a classifier as an MLflow model from code: no pickle, and no need of this repository."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any, cast

import mlflow.pyfunc
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Schema

from pipeline.runtime.tracking_mlflow import MODEL_DIGEST

PACKAGES = (
    "mlflow",
    "numpy",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "ruamel.yaml",
    "safetensors",
    "timm",
    "torch",
    "torchvision",
)


def log_model(client: Any, experiment: str, run_id: str, folder: Path, digest: str) -> None:
    """Log the classifier `folder` under a run, once for each `digest`, whatever was cut before."""
    where = f"source_run_id = '{run_id}' AND tags.`{MODEL_DIGEST}` = '{digest}'"
    for held in client.search_logged_models([experiment], where):
        if str(held.status) == "READY":
            return
        client.delete_logged_model(held.model_id)
    model = client.create_logged_model(
        experiment, name="classifier", source_run_id=run_id, tags={MODEL_DIGEST: digest}
    )
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model"
        about = Model(artifact_path=model.artifact_location, run_id=run_id, model_id=model.model_id)
        save_model(saved, folder, about)
        client.log_model_artifacts(model.model_id, str(saved))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def save_model(target: Path, classifier: Path, about: Model | None = None) -> None:
    """Write an MLflow model folder that classifies image bytes.

    `classifier`: a folder of save_classifier, or a single model's.
    """
    anything: Any = cast(Any, AnyType)()  # bytes, or the base64 text that JSON needs
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example")
        mlflow.pyfunc.save_model(
            path=str(target),
            python_model=str(Path(__file__).with_name("model_from_code.py")),
            artifacts={"classifier": str(classifier)},
            code_paths=[str(_package_copy(Path(scratch)))],
            pip_requirements=requirements(),
            signature=ModelSignature(inputs=Schema([ColSpec(anything, "image")])),
            mlflow_model=about or Model(),
        )


def requirements() -> list[str]:
    """What loading the model needs, at the installed versions."""
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in PACKAGES]


def _package_copy(folder: Path) -> Path:
    """The `pipeline` package without caches."""
    source = Path(__file__).resolve().parents[1]
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    return Path(shutil.copytree(source, folder / source.name, ignore=ignored))
