"""What a run shows beside metrics: data sets, tables, figures drawn by the sender."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.files import write_json
from pipeline.runtime.tracking_spool import spool_of
from tests.runtime.tracked import QUIET_MLFLOW, NoSender, Store, open_tracker, send_all

pytestmark = QUIET_MLFLOW

DATASETS = [
    {
        "name": f"digits/prepared/{part}",
        "digest": digest * 36,
        "context": context,
        "source": f"prepared/{part}",
        "rows": rows,
    }
    for part, digest, context, rows in (
        ("labeled", "a", "training", 70),
        ("test", "b", "testing", 899),
    )
]


def artifacts(store: Store, name: str, folder: str | None = None) -> list[str]:
    run_id = store.runs()[name].info.run_id
    return sorted(each.path for each in store.client.list_artifacts(run_id, folder))


def test_data_sets_are_listed_once_with_digests_and_counts(root: Path, no_sender: NoSender) -> None:
    for _ in range(2):  # a run that is run again uses the same
        with open_tracker(root) as tracker:
            tracker.inputs(DATASETS)
        send_all(root)
    inputs = Store(root).runs()["train@0"].inputs.dataset_inputs
    found = {each.dataset.name: each for each in inputs}
    assert len(inputs) == len(found) == 2
    test = found["digits/prepared/test"]
    assert test.dataset.digest == "b" * 36
    assert json.loads(test.dataset.profile) == {"num_rows": 899}
    assert [tag.value for tag in test.tags] == ["testing"]


def test_a_table_is_known_as_one(root: Path, no_sender: NoSender) -> None:
    write_json(root / "selection.json", {"columns": ["class"], "data": [["cat"]]})
    with open_tracker(root) as tracker:
        tracker.table(root / "selection.json")
    send_all(root)
    tags = Store(root).runs()["train@0"].data.tags
    assert json.loads(tags["mlflow.loggedArtifacts"]) == [
        {"path": "selection.json", "type": "table"}
    ]
    assert artifacts(Store(root), "train@0") == ["selection.json"]


def test_the_sender_draws_and_what_it_cannot_draw_holds_up_nothing(
    root: Path, no_sender: NoSender
) -> None:
    audit: dict[str, Any] = {"images": [2, 1], "repeats": [2, 2]}
    audit |= {"histogram": [0, 3], "kept_histogram": [0, 3]}
    write_json(root / "1.json", audit)
    write_json(root / "2.json", {"no": "audit"})
    about = {"generation": "1", "classes": ["cat", "dog"]}
    for number in (1, 2):
        with open_tracker(root, f"select@{number}-aa") as tracker:
            tracker.drawn("selection", root / f"{number}.json", about)
            tracker.metrics({"kept": 3.0})
    send_all(root)
    store = Store(root)
    figures = artifacts(store, "select@1", "figures")
    assert figures == ["figures/class_balance.svg", "figures/confidence.svg"]
    assert artifacts(store, "select@2") == []
    assert store.points("select@2", "kept") == [(0, 3.0)]
    refused = spool_of(root, "select@2-aa").folder / "refused.jsonl"
    assert "KeyError" in json.loads(refused.read_text())["error"]


def test_sampled_metrics_go_on_where_the_run_was_left(root: Path, no_sender: NoSender) -> None:
    for _ in range(2):
        with open_tracker(root) as tracker:
            first = tracker.next_step("system/cpu")
            for step in range(first, first + 3):
                tracker.metrics({"system/cpu": float(step)}, step)
        send_all(root)
    assert Store(root).points("train@0", "system/cpu") == [(s, float(s)) for s in range(6)]
