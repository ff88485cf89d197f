"""Write a spool's events into MLflow: each once, however often the sender is killed.

Metrics carry the time at which they were logged, so that sending one again makes the identical
row, which MLflow's store leaves out. Runs are found again by their tags. The server is the
truth: a run it does not have is sent from the beginning.
"""

from __future__ import annotations

import importlib
import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from pipeline.files import read_json, write_json
from pipeline.runtime.tracking_spool import Event, Spool, read_events, sent_bytes

METRICS_A_CALL = 1000
PARAMETERS_A_CALL = 100
RUN_KEY = "selftrain.run_key"
LINEAGE = "selftrain.lineage"
PARENT = "mlflow.parentRunId"
MODEL_DIGEST = "selftrain.model_digest"
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")

EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Self-training. One parent run for each set of prepared images, and "
    "under it a run for each stage and generation: docs/tracking.md.",
}
FIGURES = "figures"
DRAWER = "pipeline.report.drawn"  # by name: the report lies above the runtime

T = TypeVar("T")


class UndrawableError(Exception):
    """The figures of an event can't be drawn, now or later."""


class Destination:
    """One MLflow server, and which of its runs belongs to which key."""

    def __init__(self, root: Path, uri: str) -> None:
        self.root, self.uri = root, uri
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        self.client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)
        self._experiments: dict[str, str] = {}
        self._runs: dict[tuple[str, str, str], str] = {}

    def send(self, spool: Spool) -> None:
        """Send the unsent events of one spool; raises what MLflow raises, with the rest kept."""
        header = read_json(spool.header)
        offset = sent_bytes(spool, self.uri)
        started = int(spool.header.stat().st_mtime * 1000)  # when its work began
        experiment, parent, run_id, known = self._runs_of(header, started)
        if not known:
            offset = 0
        already = self._points(run_id) if known and offset == 0 else set()
        for kind, events, end in batches(read_events(spool, offset)):
            try:
                self._write(kind, events, spool, (experiment, parent, run_id), already)
            except (MlflowException, OSError, UndrawableError) as error:
                if not _is_refused(error):
                    raise
                note_refused(spool, kind, events, error)
            write_json(spool.sent, {"uri": self.uri, "bytes": end})

    def _write(
        self,
        kind: str,
        events: Sequence[Event],
        spool: Spool,
        ids: tuple[str, str, str],
        already: set[tuple[str, int]],
    ) -> None:
        experiment, parent, run_id = ids
        if kind == "metrics":
            self._metrics(run_id, events, already)
            return
        for event in events:
            if kind == "parameters":
                self._parameters(run_id, event["values"])
            elif kind == "headline":
                self._metrics(parent, [{**event, "step": 0}], set())
            elif kind == "tags":
                self._tags(parent if event["lineage"] else run_id, event["values"])
            elif kind == "artifact":
                self._artifact(run_id, spool.folder / event["path"], event["folder"])
            elif kind == "model":
                from pipeline.runtime.tracking_model import log_model

                folder = spool.folder / event["path"]
                log_model(self.client, experiment, run_id, folder, event["digest"])
            elif kind == "drawn":
                self._drawn(run_id, spool.folder / event["path"], event)
            elif kind == "inputs":
                self.client.log_inputs(run_id, dataset_inputs(event["datasets"]))
            elif kind == "register":
                from pipeline.runtime.tracking_registry import register

                register(self.client, experiment, run_id, event, spool.folder / event["path"])
            elif kind == "status":
                self._status(run_id, event)
                self._status(parent, event)

    def _metrics(self, run_id: str, events: Sequence[Event], already: set[tuple[str, int]]) -> None:
        points = [
            Metric(name, value, event["time"], event["step"])
            for event in events
            for name, value in event["values"].items()
            if (name, event["step"]) not in already
        ]
        for some in in_parts(points, METRICS_A_CALL):
            self.client.log_batch(run_id, metrics=some)

    def _parameters(self, run_id: str, values: dict[str, str]) -> None:
        """Log parameters; one that MLflow holds with another value becomes a tag beside it."""
        held = self.client.get_run(run_id).data.params
        new = [Param(name, value) for name, value in values.items() if name not in held]
        for some in in_parts(new, PARAMETERS_A_CALL):
            self.client.log_batch(run_id, params=some)
        changed = {k: v for k, v in values.items() if held.get(k, v) != v}
        self._tags(run_id, {f"selftrain.changed.{name}": v for name, v in changed.items()})

    def _tags(self, run_id: str, values: dict[str, str]) -> None:
        tags = [RunTag(name, value) for name, value in values.items()]
        for some in in_parts(tags, PARAMETERS_A_CALL):
            self.client.log_batch(run_id, tags=some)

    def _artifact(self, run_id: str, path: Path, folder: str) -> None:
        if path.is_dir():
            target = f"{folder}/{path.name}" if folder else path.name
            self.client.log_artifacts(run_id, str(path), target)
        else:
            self.client.log_artifact(run_id, str(path), folder or None)

    def _drawn(self, run_id: str, path: Path, event: Event) -> None:
        try:
            draw = importlib.import_module(DRAWER).draw
            with tempfile.TemporaryDirectory() as scratch:
                draw(event["what"], path, event["about"], Path(scratch))
                self.client.log_artifacts(run_id, scratch, FIGURES)
        except (MlflowException, OSError):
            raise
        except Exception as error:
            raise UndrawableError(f"{event['what']}: {error!r}") from error

    def _status(self, run_id: str, event: Event) -> None:
        if event["status"] == "RUNNING":
            self.client.update_run(run_id, status="RUNNING")
        else:
            self.client.set_terminated(run_id, event["status"], end_time=event["time"])

    def _runs_of(self, header: dict[str, Any], started: int) -> tuple[str, str, str, bool]:
        """The experiment, the lineage's run, the run, and whether the run was there before."""
        experiment = self._experiment(header["experiment"])
        lineage_tags = {LINEAGE: header["lineage_key"]}
        parent, _ = self._run(
            experiment,
            LINEAGE,
            header["lineage_key"],
            header["lineage_name"],
            lineage_tags,
            started,
        )
        tags = {**header["tags"], RUN_KEY: header["run_key"], PARENT: parent}
        run_id, known = self._run(
            experiment, RUN_KEY, header["run_key"], header["name"], tags, started
        )
        return experiment, parent, run_id, known

    def _run(
        self, experiment: str, tag: str, key: str, name: str, tags: dict[str, str], started: int
    ) -> tuple[str, bool]:
        place = (experiment, tag, key)
        if place in self._runs:
            return self._runs[place], True
        known = self._found(experiment, tag, key)
        if known is not None:
            self._tags(known, tags)
        else:
            self.client.create_run(experiment, start_time=started, tags=tags, run_name=name)
        run_id = known or self._found(experiment, tag, key)
        if run_id is None:
            raise MlflowException(f"the server does not have the run {name} that it made")
        self._runs[place] = run_id
        return run_id, known is not None

    def _found(self, experiment: str, tag: str, key: str) -> str | None:
        """The run with this tag, None where there is none.

        A server that answers too late is asked again and makes a second one: the fuller is kept.
        """
        found = self.client.search_runs([experiment], f"tags.`{tag}` = '{key}'")
        if not found:
            return None
        kept, *doubles = sorted(found, key=lambda run: (-_fullness(run), run.info.run_id))
        for double in doubles:
            self.client.delete_run(double.info.run_id)
        return str(kept.info.run_id)

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                self._experiments[name] = str(
                    self.client.create_experiment(
                        name, artifact_location=self._artifact_root(), tags=EXPERIMENT_TAGS
                    )
                )
            else:
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(found.experiment_id)
                self._experiments[name] = str(found.experiment_id)
        return self._experiments[name]

    def _artifact_root(self) -> str | None:
        """Beside a local store; a server has its own."""
        return (self.root / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None

    def _points(self, run_id: str) -> set[tuple[str, int]]:
        """The (metric, step) pairs that a run holds which was not sent from this spool."""
        names = self.client.get_run(run_id).data.metrics
        histories = {name: self.client.get_metric_history(run_id, name) for name in names}
        return {(name, point.step) for name, points in histories.items() for point in points}


def _fullness(run: Any) -> int:
    """How much a run holds, by which two of the same are told apart."""
    return len(run.data.metrics) + len(run.data.params) + len(run.data.tags)


def batches(
    events: Iterable[tuple[Event, int]],
) -> Iterator[tuple[str, list[Event], int]]:
    """Group events into what is sent at once: `(kind, events, offset behind them)`."""
    for kind, group in groupby(events, key=lambda each: str(each[0]["kind"])):
        several = list(group)
        size = METRICS_A_CALL if kind == "metrics" else 1
        for some in in_parts(several, size):
            yield kind, [event for event, _ in some], some[-1][1]


def dataset_inputs(datasets: Sequence[Mapping[str, Any]]) -> list[DatasetInput]:
    """The data sets of used_datasets as MLflow's entities."""
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


def in_parts(values: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`values` in order, `size` at a time."""
    return (values[start : start + size] for start in range(0, len(values), size))


def note_refused(spool: Spool, kind: str, events: Sequence[Event], error: Exception) -> None:
    """Keep what the server will never take in `refused.jsonl`, so that the rest gets through."""
    with (spool.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps({**event, "kind": kind, "error": str(error)[:500]}) + "\n")


def _is_refused(error: Exception) -> bool:
    """Whether trying again can't help: the server calls the request wrong, or a file is gone."""
    if isinstance(error, MlflowException):
        return error.error_code in REFUSED
    return isinstance(error, FileNotFoundError | UndrawableError)
