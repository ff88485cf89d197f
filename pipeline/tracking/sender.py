"""The sender: one background process that carries the spools to MLflow, then ends.

Trackers start it. The server is the truth: a run is found by its tag, a metric's step that it has
is left out, and all else is the same if it is sent again; so a spool that failed, or whose sender
was killed, is sent from its beginning. Exit code 1: the server did not take something, for the
reason in `.selftrain/tracking/last_error.txt`; else 0.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.validation import (
    MAX_EXPERIMENT_NAME_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)

from pipeline.errors import visible
from pipeline.files import discard_folder, remove_partials, write_text
from pipeline.tracking.model import log_model, register
from pipeline.tracking.server import named_server, note_experiment
from pipeline.tracking.spool import (
    EVENTS,
    Event,
    all_spools,
    is_locked,
    read_events,
    tracking_folder,
    try_lock,
    unsent_runs,
)

POLL_SECONDS = 0.25
RETRY_SECONDS = 10.0
SAMPLE_SECONDS = 2.0
REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "One parent run for each set of prepared images and parameters, and "
    "under it a run for each stage and generation: docs/tracking.md.",
}


class SpooledRun:
    """The run in MLflow that a spool goes to: found by its key, or made."""

    def __init__(self, client: Any, root: Path, spool: Path) -> None:
        self.client, self.root, self.spool = client, root, spool
        header = read_events(spool)[0][0]
        name = shown(header["experiment"], MAX_EXPERIMENT_NAME_LENGTH)
        self.experiment = _experiment(client, name, root)
        note_experiment(root, self.experiment)
        tags = {"selftrain.lineage": header["lineage_key"]}
        parent = self._run(header["lineage_name"], header["started"], tags)
        self.parent = str(parent.info.run_id)
        tags = {"selftrain.run_key": header["run_key"], "mlflow.parentRunId": self.parent}
        run = self._run(header["name"], header["started"], tags | header["tags"])
        self.run_id = str(run.info.run_id)
        if not (self.parent and self.run_id):
            raise ConnectionError("the answers are not those of an MLflow server")
        self._steps = {last.key: last.step for last in run.data.to_proto().metrics}
        self._offset, self._ended = 0, False
        self._monitor: Any = None

    def _run(self, name: str, started: float, tags: dict[str, str]) -> Any:
        """The run that has the first of the tags, with all of them; made where there is none."""
        tags = {name: shown(value, MAX_TAG_VAL_LENGTH) for name, value in tags.items()}
        tag, key = next(iter(tags.items()))
        found = self.client.search_runs([self.experiment], f"tags.`{tag}` = '{key}'")
        if not found:
            began = int(1000 * started)
            return self.client.create_run(self.experiment, began, tags, shown(name, 250))
        self.client.log_batch(found[0].info.run_id, tags=[RunTag(*each) for each in tags.items()])
        return found[0]

    def send(self) -> bool:
        """Send what is new; whether the run has ended. Raises what MLflow raises."""
        # Looked at first: all that it wrote before it let go is there then.
        alive = is_locked(self.spool / EVENTS)
        events, self._offset = read_events(self.spool, self._offset)
        batches = groupby(events, lambda event: event["kind"] == "metrics" or id(event))
        for batch in [list(group) for _, group in batches]:
            try:
                self._write(batch)
            except MlflowException as error:
                if error.error_code not in REFUSED:
                    raise
                self._note_refused(batch, error)
        if not alive and not self._ended:
            self._end("KILLED", time.time_ns() // 1_000_000)
        if alive and not self._ended and self._monitor is None:
            self._start_monitor()
        return not alive

    def _write(self, batch: Sequence[Event]) -> None:
        """Send one event, or metrics that follow each other."""
        client, run_id, experiment, event = self.client, self.run_id, self.experiment, batch[0]
        path, values = self.spool / event.get("path", ""), event.get("values", {}).items()
        kind = event["kind"]
        if kind == "run":
            for each in (run_id, self.parent):
                client.update_run(each, status="RUNNING")
        elif kind == "metrics":
            client.log_batch(run_id, metrics=self._unlogged(batch))
        elif kind == "parameters":
            self._log_parameters(self.parent if event["lineage"] else run_id, event["values"])
        elif kind == "headline":
            step = event["step"]
            points = [Metric(name, value, event["time"], step) for name, value in values]
            client.log_batch(self.parent, metrics=points)
        elif kind == "tags":
            tagged = self.parent if event["lineage"] else run_id
            tags = [RunTag(name, shown(value, MAX_TAG_VAL_LENGTH)) for name, value in values]
            client.log_batch(tagged, tags=tags)
        elif kind == "inputs":
            inputs = [
                DatasetInput(Dataset(**about), [InputTag("mlflow.data.context", part)])
                for part, about in values
            ]
            client.log_inputs(run_id, inputs)
        elif kind == "artifact":
            client.log_artifact(run_id, str(path), event["folder"])
        elif kind == "model":
            log_model(client, experiment, run_id, path)
        elif kind == "register":
            register(client, experiment, run_id, event["name"], path, event["compared"])
        elif kind == "end":
            self._end(event["status"], event["time"])

    def _log_parameters(self, run_id: str, values: Mapping[str, str]) -> None:
        params = [Param(name, shown(value, MAX_PARAM_VAL_LENGTH)) for name, value in values.items()]
        for start in range(0, len(params), MAX_PARAMS_TAGS_PER_BATCH):
            some = params[start : start + MAX_PARAMS_TAGS_PER_BATCH]
            self.client.log_batch(run_id, params=some)

    def _unlogged(self, events: Iterable[Event]) -> list[Metric]:
        """The points of metrics behind the last step of each name."""
        points = []
        for event in events:
            step = event["step"]
            for name, value in event["values"].items():
                if step > self._steps.get(name, step - 1):
                    self._steps[name] = step
                    points.append(Metric(name, value, event["time"], step))
        return points

    def _end(self, status: str, end_time: int) -> None:
        self.stop_monitor()
        for run_id in (self.run_id, self.parent):
            self.client.set_terminated(run_id, status, end_time=end_time)
        self._ended = True

    def _start_monitor(self) -> None:
        """Let MLflow log system metrics of this machine while the run goes on."""
        monitors: Any = SystemMetricsMonitor  # untyped
        uri, run_id = self.client.tracking_uri, self.run_id
        self._monitor = monitors(run_id, SAMPLE_SECONDS, resume_logging=True, tracking_uri=uri)
        self._monitor.start()

    def stop_monitor(self) -> None:
        """End the system metrics."""
        if self._monitor is not None:
            self._monitor.finish()

    def _note_refused(self, events: Iterable[Event], error: Exception) -> None:
        """Keep what the server will never take, and go on."""
        with (tracking_folder(self.root) / "refused.jsonl").open("a", encoding="utf-8") as file:
            for event in events:
                about = {"run": self.spool.name, "error": str(error)[:500]}
                file.write(json.dumps(event | about) + "\n")


def shown(text: str, limit: int) -> str:
    """`text` as MLflow takes it: escapes for what can't be printed, but for line ends, and cut."""
    lines = "\n".join(visible(line) for line in text.split("\n"))
    return lines if len(lines) <= limit else f"{lines[: limit - 1]}…"


def _experiment(client: Any, name: str, root: Path) -> str:
    """The id of the experiment, made or restored where there is none."""
    found = client.get_experiment_by_name(name)
    if found is None:
        local = client.tracking_uri.startswith("sqlite:")  # a server has a place of its own
        place = (root / "mlartifacts").as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=place, tags=EXPERIMENT_TAGS))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


class Sender:
    """Sends the spools under `root` to the server that a tracker named last."""

    def __init__(self, root: Path) -> None:
        self.root, self.uri = root, named_server(root)
        self._client: Any = None
        self._error = tracking_folder(root) / "last_error.txt"
        self._runs: dict[Path, SpooledRun] = {}

    def send(self) -> bool:
        """Send what is new of each run that can be sent; whether the server took all of it."""
        taken = True
        for spool in all_spools(self.root):
            run = self._runs.pop(spool, None)
            try:
                # Here, for a store that is damaged, locked or of another MLflow.
                self._client = self._client or MlflowClient(self.uri, registry_uri=self.uri)
                run = run or SpooledRun(self._client, self.root, spool)
                if run.send():
                    discard_folder(spool)
                else:
                    self._runs[spool] = run
            except Exception as error:  # whatever it is, the spool is kept and the user is told
                taken = False
                first = (str(error).strip().splitlines() or [""])[0]
                write_text(self._error, visible(f"{type(error).__name__}: {first}")[:500] + "\n")
                if run:
                    run.stop_monitor()
        if taken:
            self._error.unlink(missing_ok=True)
        return taken


def run(root: Path, linger_s: float) -> int:
    """Send, as the only sender of `root`, until no spool came for `linger_s`; the exit code."""
    with try_lock(tracking_folder(root) / "sender.lock") as held:
        if not held:
            return 0
        remove_partials(tracking_folder(root))
        sender, idle_since = Sender(root), time.monotonic()
        while (spools := all_spools(root)) or time.monotonic() - idle_since < linger_s:
            if spools:
                idle_since = time.monotonic()
            if sender.uri != named_server(root):
                sender = Sender(root)
            taken = sender.send()
            if not taken and unsent_runs(root) == len(all_spools(root)):
                return 1
            time.sleep(POLL_SECONDS if taken else RETRY_SECONDS)
    # A stage that ended while the lock was still held relies on this second look.
    return run(root, linger_s) if all_spools(root) else 0


if __name__ == "__main__":
    os.nice(5)
    sys.exit(run(Path(sys.argv[1]), float(sys.argv[2])))
