"""Write a spool's events into MLflow: each once, however often stage and sender are killed.

The server is the truth: runs are found by their tags, a run it does not have is sent from the
beginning, and a metric's step that it has is left out. System metrics are MLflow's own, of the
machine that sends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from pipeline.files import read_json, write_json
from pipeline.tracking.model import log_model, register
from pipeline.tracking.spool import Event, Spool, is_locked

METRICS_A_CALL = 1000
OTHERS_A_CALL = 100
SAMPLE_SECONDS = 2.0
RUN_KEY = "selftrain.run_key"
LINEAGE = "selftrain.lineage"
PARENT = "mlflow.parentRunId"
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Self-training. One parent run for each set of prepared images, and "
    "under it a run for each stage and generation: docs/tracking.md.",
}


@dataclass
class Target:
    """Where a spool's events go: ids in MLflow, and the last step of each metric there."""

    experiment: str
    parent: str
    run: str
    steps: dict[str, int]


class Destination:
    """One MLflow server, and what is known of the runs in it."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root, self.uri = root, uri
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._targets: dict[Path, Target] = {}
        self._monitors: dict[str, Any] = {}

    def send(self, spool: Spool) -> None:
        """Send the unsent events of one spool; raises what MLflow raises, with the rest kept."""
        target, offset = self._targets.get(spool.folder), spool.sent_bytes(self.uri)
        if target is None:
            target, known = self._found_or_made(read_json(spool.header))
            offset = offset if known else 0
        self._targets.pop(spool.folder, None)  # after a failure nobody knows what came through
        for kind, group in groupby(spool.read(offset), key=lambda each: str(each[0]["kind"])):
            events, ends = zip(*group, strict=True)
            try:
                self._write(kind, events, spool, target)
            except (MlflowException, OSError) as error:
                if not _is_refused(error):
                    raise
                _note_refused(spool, events, error)
            write_json(spool.sent, {"uri": self.uri, "bytes": ends[-1]})
        self._targets[spool.folder] = target
        if is_locked(spool.lock) and target.run not in self._monitors:
            self._watch(target.run)

    def _write(self, kind: str, events: Sequence[Event], spool: Spool, target: Target) -> None:
        if kind == "metrics":
            self._log(target.run, "metrics", unlogged(events, target.steps))
            return
        for event in events:
            path = spool.folder / event.get("path", "")
            if kind == "parameters":
                self._parameters(target.run, event["values"])
            elif kind == "headline":
                self._log(target.parent, "metrics", unlogged([event], {}))
            elif kind == "tags":
                self._tags(target.parent if event["lineage"] else target.run, event["values"])
            elif kind == "inputs":
                self.client.log_inputs(target.run, dataset_inputs(event["datasets"]))
            elif kind == "artifact":
                self._artifact(target.run, path, event["folder"])
            elif kind == "model":
                log_model(self.client, target.experiment, target.run, path, event["digest"])
            elif kind == "register":
                register(self.client, target.experiment, target.run, event, path)
            elif kind == "status":
                self._status(target, event)

    def _log(self, run_id: str, kind: str, values: Sequence[Any]) -> None:
        """Log metrics, params or tags, as many at once as a server takes."""
        size = METRICS_A_CALL if kind == "metrics" else OTHERS_A_CALL
        for start in range(0, len(values), size):
            self.client.log_batch(run_id, **{kind: values[start : start + size]})

    def _parameters(self, run_id: str, values: Mapping[str, str]) -> None:
        """Log parameters; one that MLflow holds with another value becomes a tag beside it."""
        held = self.client.get_run(run_id).data.params
        self._log(run_id, "params", [Param(k, v) for k, v in values.items() if k not in held])
        changed = {name: v for name, v in values.items() if held.get(name, v) != v}
        self._tags(run_id, {f"selftrain.changed.{name}": v for name, v in changed.items()})

    def _tags(self, run_id: str, values: Mapping[str, str]) -> None:
        self._log(run_id, "tags", [RunTag(name, value) for name, value in values.items()])

    def _artifact(self, run_id: str, path: Path, folder: str) -> None:
        if path.is_dir():
            within = f"{folder}/{path.name}" if folder else path.name
            self.client.log_artifacts(run_id, str(path), within)
        else:
            self.client.log_artifact(run_id, str(path), folder or None)

    def _status(self, target: Target, event: Event) -> None:
        running = event["status"] == "RUNNING"
        if not running and (monitor := self._monitors.pop(target.run, None)):
            monitor.finish()
        for run_id in (target.run, target.parent):
            if running:
                self.client.update_run(run_id, status="RUNNING")
            else:
                self.client.set_terminated(run_id, event["status"], end_time=event["time"])

    def _watch(self, run_id: str) -> None:
        """Let MLflow log system metrics of this machine while the run goes on."""
        monitors: Any = SystemMetricsMonitor  # untyped
        monitor = monitors(
            run_id,
            sampling_interval=SAMPLE_SECONDS,
            resume_logging=True,
            tracking_uri=self.uri,
        )
        monitor.start()
        self._monitors[run_id] = monitor

    def _found_or_made(self, header: Mapping[str, Any]) -> tuple[Target, bool]:
        """The run of a spool's header, its parent, and whether the run was there before."""
        experiment = self._experiment(header["experiment"])
        begun = int(1000 * header["started"])
        lineage, key = header["lineage_key"], header["run_key"]
        parent, _ = self._run(experiment, header["lineage_name"], begun, {LINEAGE: lineage})
        tags = {RUN_KEY: key, PARENT: parent, **header["tags"]}
        run, known = self._run(experiment, header["name"], begun, tags)
        steps = self._steps(run) if known else {}
        return Target(experiment, parent, run, steps), known

    def _run(
        self, experiment: str, name: str, begun: int, tags: dict[str, str]
    ) -> tuple[str, bool]:
        """The run that has the first of the tags, with all of them; made where there is none."""
        tag, key = next(iter(tags.items()))
        found = self.client.search_runs([experiment], f"tags.`{tag}` = '{key}'")
        if not found:
            run = self.client.create_run(experiment, start_time=begun, tags=tags, run_name=name)
            return str(run.info.run_id), False
        run_id = min(str(run.info.run_id) for run in found)
        self._tags(run_id, tags)
        return run_id, True

    def _steps(self, run_id: str) -> dict[str, int]:
        """The last step of each metric of a run."""
        names = self.client.get_run(run_id).data.metrics
        histories = {name: self.client.get_metric_history(run_id, name) for name in names}
        return {name: max(point.step for point in points) for name, points in histories.items()}

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            beside = (self.root / "mlartifacts").as_uri()  # a server has a place of its own
            place = beside if self.uri.startswith("sqlite:") else None
            return str(
                self.client.create_experiment(name, artifact_location=place, tags=EXPERIMENT_TAGS)
            )
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)


def unlogged(events: Sequence[Event], steps: dict[str, int]) -> list[Metric]:
    """The points of metrics' events behind the last step of each name, which is kept in `steps`."""
    points = []
    for event in events:
        step = event["step"]
        for name, value in event["values"].items():
            if step > steps.get(name, step - 1):
                steps[name] = step
                points.append(Metric(name, value, event["time"], step))
    return points


def dataset_inputs(datasets: Sequence[Mapping[str, Any]]) -> list[DatasetInput]:
    """The data sets of an event as MLflow's entities."""
    return [
        DatasetInput(
            Dataset(
                name=each["name"],
                digest=each["digest"],
                source_type="local",
                source=json.dumps({"uri": each["source"]}),
                profile=json.dumps({"num_rows": each["rows"]}),
            ),
            [InputTag("mlflow.data.context", each["context"])],
        )
        for each in datasets
    ]


def _is_refused(error: Exception) -> bool:
    """Whether trying again can't help: the server calls the request wrong, or a file is gone."""
    if isinstance(error, MlflowException):
        return error.error_code in REFUSED
    return isinstance(error, FileNotFoundError)


def _note_refused(spool: Spool, events: Sequence[Event], error: Exception) -> None:
    with (spool.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps({**event, "error": str(error)[:500]}) + "\n")
