"""Models in MLflow: logged from code, and as versions of the registered model.

A logged model has no pickle and no need of this repository. Every model that a run would ship
becomes a version. The first is `champion`; a later one takes its place only if the validation
images say so beyond the interval, and else is `challenger`.
"""

from __future__ import annotations

import importlib.metadata
import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Schema

from pipeline.evaluate.champion import promote
from pipeline.files import plain_name, read_json
from pipeline.models.spec import SPEC, read_spec
from pipeline.params.dense import DECODERS
from pipeline.tasks import open_task
from pipeline.tasks.significance import Bootstrap

PACKAGES = (
    *("mlflow", "numpy", "pandas", "pillow", "pyarrow", "pydantic", "ruamel.yaml", "safetensors"),
    *("timm", "torch", "torchvision"),
)
DECODERS_PACKAGE = "segmentation-models-pytorch"  # of networks with one of its decoders
RIGHTS_TAG = "selftrain.rights"
MOST_RIGHTS = 1 << 30  # bytes: of some ten million images
DESCRIPTION = "What each run would ship: docs/tracking.md says what `champion` and `challenger` are"


def log_model(client: Any, experiment: str, run_id: str, folder: Path) -> None:
    """Log the classifier `folder` as the model of a run, once, whatever was cut before."""
    for held in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if str(held.status) == "READY":
            return
        client.delete_logged_model(held.model_id)
    model = client.create_logged_model(experiment, name="classifier", source_run_id=run_id)
    with tempfile.TemporaryDirectory() as scratch:
        about = Model(artifact_path=model.artifact_location, run_id=run_id, model_id=model.model_id)
        save_model(Path(scratch) / "model", folder, about)
        client.log_model_artifacts(model.model_id, f"{scratch}/model")
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])


def save_model(target: Path, classifier: Path, about: Model | None = None) -> None:
    """Write an MLflow model folder that answers image bytes as the classifier does.

    `classifier`: a folder of save_classifier, or a single model's.
    """
    from mlflow.pyfunc import save_model as save  # takes a second to import

    anything: Any = AnyType  # bytes, or the base64 text that JSON needs
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example")
        save(
            path=str(target),
            python_model=str(Path(__file__).with_name("model_from_code.py")),
            artifacts={"classifier": str(classifier)},
            code_paths=[str(Path(__file__).parents[1])],
            pip_requirements=[
                f"{name}=={importlib.metadata.version(name).partition('+')[0]}"
                for name in _packages(classifier)
            ],
            signature=ModelSignature(inputs=Schema([ColSpec(anything(), "image")])),
            mlflow_model=about or Model(),
        )


def _packages(classifier: Path) -> tuple[str, ...]:
    """What its models need where they are served."""
    names = [read_spec(path.parent).network["name"] for path in classifier.rglob(SPEC)]
    decoders = any(name.partition("/")[0] in DECODERS for name in names)
    return (*PACKAGES, DECODERS_PACKAGE) if decoders else PACKAGES


def register(
    client: Any, experiment: str, run_id: str, name: str, rights: Path, compared: Mapping[str, Any]
) -> None:
    """Make the model of a run a version of `name`, and move the aliases; again, it does nothing.

    rights: how each validation image speaks for it, kept as an artifact for comparisons to come.
    """
    client.log_artifact(run_id, str(rights), "registry")
    with suppress(MlflowException):  # it exists
        client.create_registered_model(name, description=DESCRIPTION)
    version = _version(client, experiment, run_id, name, f"registry/{rights.name}")
    if version.description:
        return
    aliases = client.get_registered_model(name).aliases
    held, before = aliases.get("champion"), None
    if held is not None and str(held) != str(version.version):  # else a sender was killed here
        before = _rights(client, client.get_model_version(name, held))
    task = open_task(compared.get("task", "classification"))  # as spooled before there were others
    bootstrap = Bootstrap(compared["samples"], compared["interval"])
    decided = promote(task, before, read_json(rights), bootstrap)
    alias = "champion" if decided.moves else "challenger"
    # A sender that was killed may come back to a version after a later one was registered.
    is_newest = int(aliases.get("challenger", 0)) <= int(version.version)
    if decided.moves or is_newest:
        client.set_registered_model_alias(name, alias, version.version)
    if decided.moves and is_newest:
        client.delete_registered_model_alias(name, "challenger")
    came_as = f"Came as {alias}: {decided.reason}"
    client.update_model_version(name, version.version, description=came_as)


def _version(client: Any, experiment: str, run_id: str, name: str, rights: str) -> Any:
    """The version of `name` that a run has made, or makes of its logged model now."""
    for version in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
        return version
    (model,) = client.search_logged_models([experiment], f"source_run_id = '{run_id}'")
    return client.create_model_version(
        name,
        model.artifact_location,  # models:/ would be looked up in MLflow's global store
        run_id=run_id,
        model_id=model.model_id,
        tags={RIGHTS_TAG: rights},
    )


def _rights(client: Any, version: Any) -> dict[str, Any]:
    """How each validation image speaks for a version; none of one that was registered by hand."""
    if RIGHTS_TAG not in version.tags:
        return {}
    name = plain_name(version.tags[RIGHTS_TAG].removeprefix("registry/"))
    with tempfile.TemporaryDirectory() as scratch:
        path = client.download_artifacts(version.run_id, f"registry/{name}", scratch)
        return dict(read_json(Path(path), MOST_RIGHTS))
