"""The registered model's aliases move only when validation says so, with MLflow's own registry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.files import write_json
from pipeline.models.checkpoint import network_of, save_checkpoint
from pipeline.models.spec import ModelSpec
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, send_all, tracked

pytestmark = [
    *QUIET_MLFLOW,
    pytest.mark.filterwarnings("ignore:.*input example:UserWarning"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]
NAME = "selftrain-digits"


def model(folder: Path, seed: int) -> Path:
    spec = ModelSpec(
        network={"name": "resnet_small", "width": 4},
        classes=["cat", "dog"],
        image_size=16,
        channels=1,
        mean=[0.4],
        std=[0.2],
        generation="0",
        temperature=1.0,
    )
    save_checkpoint(folder, network_of(spec, seed=seed).state_dict(), spec)
    return folder


def ship(root: Path, seed: int, right: int, images: int = 200) -> None:
    """Log and register a model that has the first `right` of the validation images right."""
    rights = root / f"{seed}" / "validation.json"
    write_json(rights, {f"image {number:03}": number < right for number in range(images)})
    with tracked(root, f"ensemble-{seed}") as tracker:
        tracker.model(model(root / f"model-{seed}", seed))
        tracker.register(NAME, rights, {"samples": 500, "interval": 0.95})
    send_all(root)


def aliases(root: Path) -> dict[str, str]:
    found = Store(root).client.get_registered_model(NAME).aliases
    return {alias: str(version) for alias, version in found.items()}


def told(root: Path, version: str) -> str:
    return str(Store(root).client.get_model_version(NAME, version).description)


def test_the_champion_changes_only_beyond_the_interval(root: Path, no_sender: NoSender) -> None:
    ship(root, seed=1, right=170)
    assert aliases(root) == {"champion": "1"}
    ship(root, seed=2, right=172)  # two images more: within the interval
    assert aliases(root) == {"champion": "1", "challenger": "2"}
    assert "+1.0 points" in told(root, "2")
    assert "no difference shown" in told(root, "2")
    ship(root, seed=3, right=150)
    assert aliases(root) == {"champion": "1", "challenger": "3"}
    assert told(root, "3").endswith("worse")
    ship(root, seed=4, right=195)
    assert aliases(root) == {"champion": "4"}
    assert told(root, "1") == "Came as champion: the first"
    ship(root, seed=5, right=10, images=0)  # no validation images at all
    assert aliases(root) == {"champion": "4", "challenger": "5"}
    assert "no validation image in common" in told(root, "5")

    # A model that is logged once more makes no version and moves no alias.
    ship(root, seed=2, right=172)
    assert aliases(root) == {"champion": "4", "challenger": "5"}
    assert len(Store(root).client.search_model_versions(f"name = '{NAME}'")) == 5


def test_a_champion_named_by_hand_is_compared_with(root: Path, no_sender: NoSender) -> None:
    ship(root, seed=1, right=100)
    ship(root, seed=2, right=99)
    client: Any = Store(root).client
    client.set_registered_model_alias(NAME, "champion", "2")
    client.delete_registered_model_alias(NAME, "challenger")
    ship(root, seed=3, right=160)
    assert aliases(root) == {"champion": "3"}
    assert "+30.5 points" in told(root, "3")


def test_the_champion_is_loaded_by_its_alias(root: Path, no_sender: NoSender) -> None:
    ship(root, seed=1, right=100)
    version = Store(root).client.get_model_version_by_alias(NAME, "champion")
    run = Store(root).runs()["ensemble"]
    assert version.run_id == run.info.run_id
    place = Path(version.source.removeprefix("file://"))
    assert version.source.startswith("models:/") or (place / "MLmodel").exists()
