"""What a run shows beside its own metrics: data sets, tables, folders, system metrics."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipeline.data.shards import MANIFEST
from pipeline.files import write_json
from pipeline.tracking import sender
from pipeline.tracking.sender import Sender
from tests.tracking.tracked import QUIET_MLFLOW, NoSender, Store, open_tracker, send_all, tracked

pytestmark = QUIET_MLFLOW
CPU = "system/cpu_utilization_percentage"


def artifacts(store: Store, name: str, folder: str | None = None) -> list[str]:
    run_id = store.runs()[name].info.run_id
    return sorted(each.path for each in store.client.list_artifacts(run_id, folder))


def test_data_sets_are_listed_once_with_digests_and_counts(root: Path, no_sender: NoSender) -> None:
    used: dict[str, tuple[Path, str]] = {}
    for part, digest, rows in (("labeled", "a", 70), ("test", "b", 899)):
        folder = root / "prepared" / part
        used[part] = (folder, digest * 64)
        shard = {"file": "shard_00000.parquet", "rows": rows, "sha256": "0" * 64}
        write_json(folder / MANIFEST, {"rows": rows, "shards": [shard]})
    for _ in range(2):  # a run that is run again uses the same
        with tracked(root) as tracker:
            tracker.inputs("digits", used)
        send_all(root)
    inputs = Store(root).runs()["train@0"].inputs.dataset_inputs
    found = {each.dataset.name: each for each in inputs}
    assert sorted(found) == ["digits/prepared/labeled", "digits/prepared/test"]
    assert len(inputs) == 2
    test = found["digits/prepared/test"]
    assert test.dataset.digest == "b" * 36
    assert json.loads(test.dataset.profile) == {"num_rows": 899}
    assert [tag.value for tag in test.tags] == ["test"]


def test_a_table_is_known_as_one(root: Path, no_sender: NoSender) -> None:
    write_json(root / "selection.json", {"columns": ["class"], "data": [["cat"]]})
    with tracked(root) as tracker:
        tracker.table(root / "selection.json")
    send_all(root)
    tags = Store(root).runs()["train@0"].data.tags
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [
        {"path": "selection.json", "type": "table"}
    ]
    assert artifacts(Store(root), "train@0") == ["selection.json"]


def test_a_folder_keeps_its_name(root: Path, no_sender: NoSender) -> None:
    write_json(root / "figures" / "loss.svg", {})
    with tracked(root) as tracker:
        tracker.artifact(root / "figures")
        tracker.artifact(root / "figures", "more")
    send_all(root)
    assert artifacts(Store(root), "train@0", "figures") == ["figures/loss.svg"]
    assert artifacts(Store(root), "train@0", "more/figures") == ["more/figures/loss.svg"]


def test_mlflow_samples_the_machine_while_a_run_goes_on(
    root: Path, no_sender: NoSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "SAMPLE_SECONDS", 0.05)
    for _ in range(2):  # a run that was killed goes on where it was left
        tracker, store = open_tracker(root), Store(root)
        sending = Sender(root)
        sending.send()
        before = len(store.points("train@0", CPU))
        while len(points := store.points("train@0", CPU)) < before + 2:
            time.sleep(0.05)
        tracker.finish("KILLED")
        sending.send()
        points = store.points("train@0", CPU)
        assert [step for step, _ in points] == list(range(len(points)))
        assert store.runs()["train@0"].info.status == "KILLED"
