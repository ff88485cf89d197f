"""What the killed stages logged: one run each, and no step twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pipeline.files import read_json
from pipeline.runtime.tracking_spool import all_spools, read_events


def twice_logged(folder: Path) -> list[str]:
    """Metrics of which a step was logged twice, and stages with two runs, a line each."""
    problems, names = [], Counter[str]()
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
