"""What the killed stages logged: one run each, and no step twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.files import read_json
from pipeline.runtime.tracking import drain
from pipeline.runtime.tracking_spool import all_spools, read_events


def twice_logged(folder: Path) -> list[str]:
    """Metrics of which a step was logged twice, and stages with two runs, a line each."""
    problems, names = list[str](), Counter[str]()
    for spool in all_spools(folder):
        name = str(read_json(spool.header)["name"])
        names[name] += 1
        steps = Counter(
            (metric, event["step"])
            for event, _ in read_events(spool)
            if event["kind"] == "metrics"
            for metric in event["values"]
        )
        problems += [
            f"{name}: {metric} of step {step} logged {count} times"
            for (metric, step), count in steps.items()
            if count > 1
        ]
    return problems + [f"{name}: {count} runs" for name, count in names.items() if count > 1]


def logged_in_mlflow(folder: Path, seconds: float) -> list[str]:
    """The same of MLflow's own store, once all is sent, for which it waits `seconds`."""
    left = drain(folder, seconds)
    if left.unsent:
        return [f"MLflow lacks {left.unsent} events: {left.error}"]
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    problems, names = list[str](), Counter[str]()
    for run in client.search_runs(experiments):
        name = str(run.info.run_name)
        names[name] += 1
        for metric in run.data.metrics:
            steps = Counter(m.step for m in client.get_metric_history(run.info.run_id, metric))
            problems += [
                f"{name}: MLflow has {metric} of step {step} {count} times"
                for step, count in steps.items()
                if count > 1
            ]
    return problems + [f"{name}: MLflow has {n} runs" for name, n in names.items() if n > 1]
