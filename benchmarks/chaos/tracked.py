"""What the killed stages logged: one run each, and no step twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.files import read_json
from pipeline.tracking.spool import all_spools
from pipeline.tracking.tracker import drain


def twice_logged(folder: Path) -> list[str]:
    """Stages that have two runs among the spools, a line each.

    A step that a rerun logs again is in a spool twice: the sender leaves it out, which
    `logged_in_mlflow` checks.
    """
    names = Counter(str(read_json(spool.header)["name"]) for spool in all_spools(folder))
    return [f"{name}: {count} runs" for name, count in names.items() if count > 1]


def logged_in_mlflow(folder: Path, seconds: float) -> list[str]:
    """Metrics of which MLflow's store has a step twice, and stages with two runs, a line each.

    It waits `seconds` for all to be sent.
    """
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
