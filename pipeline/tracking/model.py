"""Models in MLflow: logged from code, and as versions of the registered model.

A logged model has no pickle and no need of this repository. Every model that a run would ship
becomes a version. The first is `champion`; a later one takes its place only if the validation
images say so beyond the interval, and else is `challenger`.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types.schema import AnyType, ColSpec, Schema

from pipeline.evaluate.champion import Promotion, promote
from pipeline.evaluate.significance import Bootstrap
from pipeline.files import read_json
from pipeline.tracking.spool import MODEL_DIGEST

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
CHAMPION, CHALLENGER = "champion", "challenger"
DECISION_TAG = "selftrain.decision"
RIGHTS_TAG = "selftrain.rights"
REGISTRY = "registry"
DESCRIPTION = (
    "What each run would ship. Aliases: `champion`, moved only where the validation images say so "
    "beyond the interval; `challenger`, the latest other."
)


def log_model(client: Any, experiment: str, run_id: str, folder: Path, digest: str) -> None:
    """Log the classifier `folder` under a run, once for each `digest`, whatever was cut before."""
    for held in _logged(client, experiment, run_id, digest):
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


def _logged(client: Any, experiment: str, run_id: str, digest: str) -> list[Any]:
    where = f"source_run_id = '{run_id}' AND tags.`{MODEL_DIGEST}` = '{digest}'"
    return list(client.search_logged_models([experiment], where))


def save_model(target: Path, classifier: Path, about: Model | None = None) -> None:
    """Write an MLflow model folder that classifies image bytes.

    `classifier`: a folder of save_classifier, or a single model's.
    """
    from mlflow.pyfunc import save_model as save  # takes a second to import

    anything: Any = cast(Any, AnyType)()  # bytes, or the base64 text that JSON needs
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    package, ignored = Path(__file__).parents[1], shutil.ignore_patterns("__pycache__")
    versions = [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in PACKAGES]
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*input example")
        code = shutil.copytree(package, Path(scratch) / package.name, ignore=ignored)
        save(
            path=str(target),
            python_model=str(Path(__file__).with_name("model_from_code.py")),
            artifacts={"classifier": str(classifier)},
            code_paths=[str(code)],
            pip_requirements=versions,
            signature=ModelSignature(inputs=Schema([ColSpec(anything, "image")])),
            mlflow_model=about or Model(),
        )


def register(
    client: Any, experiment: str, run_id: str, event: Mapping[str, Any], rights: Path
) -> None:
    """Make the model of `event` a version, and move the aliases; again, it does nothing more.

    rights: which validation images it has right, kept as an artifact for comparisons to come.
    """
    name = str(event["name"])
    client.log_artifact(run_id, str(rights), REGISTRY)
    version = _version(client, experiment, run_id, event, f"{REGISTRY}/{rights.name}")
    if DECISION_TAG in version.tags:
        return
    held = aliased(client, name, CHAMPION)
    if held is not None and held.version == version.version:  # a sender was killed here
        held = None
    bootstrap = Bootstrap(**event["compared"])
    decided = promote(held and _rights(client, held), read_json(rights), bootstrap)
    _move(client, name, version, decided)
    if held is not None and decided.moves:
        until = f"Champion until version {version.version}"
        client.update_model_version(name, held.version, description=until)
    told = f"{'Champion' if decided.moves else 'Challenger'}: {decided.reason}"
    client.update_model_version(name, version.version, description=told)
    client.set_model_version_tag(name, version.version, DECISION_TAG, decided.reason)


def aliased(client: Any, name: str, alias: str) -> Any | None:
    """The version that has the alias, or None."""
    with suppress(MlflowException):
        return client.get_model_version_by_alias(name, alias)
    return None


def _version(
    client: Any, experiment: str, run_id: str, event: Mapping[str, Any], place: str
) -> Any:
    """The version of the model with the event's digest, made where there is none."""
    name, digest = str(event["name"]), str(event["digest"])
    with suppress(MlflowException):  # it exists
        client.create_registered_model(name, description=DESCRIPTION)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(MODEL_DIGEST) == digest and version.run_id == run_id:
            return version
    (model,) = _logged(client, experiment, run_id, digest)
    return client.create_model_version(
        name,
        model.artifact_location,  # models:/ would be looked up in MLflow's global store
        run_id=run_id,
        model_id=model.model_id,
        tags={MODEL_DIGEST: digest, RIGHTS_TAG: place},
    )


def _rights(client: Any, version: Any) -> dict[str, bool]:
    """Which validation images a registered version has right, as its run logged them."""
    place = version.tags.get(RIGHTS_TAG)
    if place is None:  # registered by hand: nothing to compare with
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        path = client.download_artifacts(version.run_id, place, scratch)
        return dict(read_json(Path(path)))


def _move(client: Any, name: str, version: Any, decided: Promotion) -> None:
    """Point the aliases; the challenger is never an older one than before."""
    challenger = aliased(client, name, CHALLENGER)
    newest = challenger is None or int(challenger.version) <= int(version.version)
    if decided.moves:
        client.set_registered_model_alias(name, CHAMPION, version.version)
    if decided.moves and challenger is not None and newest:
        client.delete_registered_model_alias(name, CHALLENGER)
    elif not decided.moves and newest:
        client.set_registered_model_alias(name, CHALLENGER, version.version)
