"""Versions of the registered model, and which of them are `champion` and `challenger`.

Every model that a run would ship becomes a version. The first is champion; a later one takes its
place only if the validation images say so beyond the interval, and else is challenger.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from pipeline.evaluate.promotion import Promotion, promote
from pipeline.files import read_json
from pipeline.runtime.tracking_mlflow import MODEL_DIGEST

CHAMPION, CHALLENGER = "champion", "challenger"
DECISION_TAG = "selftrain.decision"
RIGHTS_TAG = "selftrain.rights"
REGISTRY = "registry"


def register(
    client: Any, experiment: str, run_id: str, event: Mapping[str, Any], rights: Path
) -> None:
    """Register the model that `event` names, and move the aliases; again, it does nothing more.

    rights: which validation images it has right, kept as an artifact for comparisons to come.
    """
    name = str(event["name"])
    client.log_artifact(run_id, str(rights), REGISTRY)
    place = f"{REGISTRY}/{rights.name}"
    version = _version(client, experiment, run_id, event, place)
    if DECISION_TAG in version.tags:
        return
    held = aliased(client, name, CHAMPION)
    if held is not None and held.version == version.version:  # a sender was killed here
        held = None
    before = None if held is None else _rights(client, held)
    decided = promote(before, read_json(rights), **event["compared"])
    _move(client, name, version, decided)
    if held is not None and decided.moves:
        _tell(client, name, held, f"champion until version {version.version}")
    _tell(client, name, version, f"{_rank(decided)}: {decided.reason}")
    client.set_model_version_tag(name, version.version, DECISION_TAG, decided.reason)


def aliased(client: Any, name: str, alias: str) -> Any | None:
    """The version that has the alias, or None."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException:
        return None


def _version(
    client: Any, experiment: str, run_id: str, event: Mapping[str, Any], place: str
) -> Any:
    """The version of the model with the event's digest, made where there is none."""
    name, digest = str(event["name"]), str(event["model"])
    with suppress(MlflowException):  # it exists
        client.create_registered_model(
            name,
            description="What each run would ship. Aliases: `champion`, moved only where the "
            "validation images say so beyond the interval; `challenger`, the latest other.",
        )
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(MODEL_DIGEST) == digest and version.run_id == run_id:
            return version
    where = f"source_run_id = '{run_id}' AND tags.`{MODEL_DIGEST}` = '{digest}'"
    (model,) = client.search_logged_models([experiment], where)
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
        found: dict[str, bool] = read_json(
            Path(client.download_artifacts(version.run_id, place, scratch))
        )
    return found


def _move(client: Any, name: str, version: Any, decided: Promotion) -> None:
    """Point the aliases; the challenger is never an older one than before."""
    challenger = aliased(client, name, CHALLENGER)
    if decided.moves:
        client.set_registered_model_alias(name, CHAMPION, version.version)
        if challenger is not None and int(challenger.version) <= int(version.version):
            client.delete_registered_model_alias(name, CHALLENGER)
    elif challenger is None or int(challenger.version) < int(version.version):
        client.set_registered_model_alias(name, CHALLENGER, version.version)


def _rank(decided: Promotion) -> str:
    return CHAMPION if decided.moves else CHALLENGER


def _tell(client: Any, name: str, version: Any, text: str) -> None:
    client.update_model_version(name, version.version, description=text[:1].upper() + text[1:])
