"""What DVC, Ray, MLflow and the stages' starts add to the arithmetic of `make demo`.

python -m benchmarks.orchestration [--rounds 3]

Each round, in turn: `dvc repro` in a fresh clone of HEAD; `dvc repro` there again, with nothing to
do; and the arithmetic alone, every generation trained, taught and tested in one process on as many
images. A stage's fixed cost is what it takes in another clone whose parameters leave it next to
nothing to compute: one step of training, every image seen once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.measure import Row, compared, keep
from benchmarks.runs import ROOT
from pipeline.progress import say

RAN = re.compile(r"^Running stage '(.+)':")
WITH_RAY = "pseudo_label"
Seconds = dict[str, float]


def arithmetic() -> float:
    """Seconds that the demo's generations take in this process, imports apart."""
    from benchmarks.digits_data import digits
    from benchmarks.in_process import self_train
    from pipeline.params import load_params

    params = load_params(ROOT / "params.yaml")
    assert params.data.labels is not None
    images = digits(params.seed, params.data.labels, params.data.image_size)
    started = time.perf_counter()
    self_train(images, params)
    return time.perf_counter() - started


def reproduced(folder: Path) -> tuple[float, Seconds]:
    """Seconds of one `dvc repro` in `folder`, and of each stage until the next one began."""
    started = time.perf_counter()
    begun: list[tuple[str, float]] = []
    command = [str(Path(sys.executable).parent / "dvc"), "repro"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": ""}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if match := RAN.match(line):
                begun.append((match[1], time.perf_counter()))
    ended = time.perf_counter()
    if process.returncode:
        raise RuntimeError("".join(said[-20:]))
    times = [*(when for _, when in begun), ended]
    stages = {name: end - when for (name, when), end in zip(begun, times[1:], strict=True)}
    return ended - started, stages


def shortened(folder: Path) -> None:
    """Leave the stages in `folder` next to nothing to compute."""
    yaml, file = YAML(), folder / "params.yaml"
    values = yaml.load(file.read_text(encoding="utf-8"))
    values["train"]["steps"] = values["teacher"]["train"]["steps"] = 1
    for section in ("predict", "evaluate"):
        values[section]["views"] = "centre"
    with file.open("w", encoding="utf-8") as text:
        yaml.dump(values, text)


def one_round(folder: Path) -> dict[str, Any]:
    """The figures of one round, seconds; `folder` is empty."""
    for name in ("demo", "short"):
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / name)], check=True)
    demo, _ = reproduced(folder / "demo")
    nothing, ran = reproduced(folder / "demo")
    assert not ran
    shortened(folder / "short")
    _, fixed = reproduced(folder / "short")
    command = [sys.executable, "-m", "benchmarks.orchestration", "--arithmetic"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {
        "demo": demo,
        "nothing to do": nothing,
        "stages": fixed,
        "arithmetic": float(answer.stdout.splitlines()[-1]),
    }


def rows_of(rounds: list[dict[str, Any]]) -> list[Row]:
    """The table of the rounds: seconds, medians."""
    pairs = {"ours": "demo", "reference": "arithmetic"}
    answers = {name: [each[key] for each in rounds] for name, key in pairs.items()}
    stages = {
        name: statistics.median(each["stages"][name] for each in rounds)
        for name in rounds[0]["stages"]
    }
    with_ray = [value for name, value in stages.items() if name.startswith(WITH_RAY)]
    without = [value for name, value in stages.items() if not name.startswith(WITH_RAY)]
    nothing = statistics.median(each["nothing to do"] for each in rounds)
    limits = (
        ("the demo", statistics.median(answers["ours"]), 90.0),
        ("a stage without Ray, the median one", statistics.median(without), 6.0),
        ("a stage without Ray, the longest", max(without), 6.0),
        ("a stage with Ray, the longest", max(with_ray), 20.0),
        ("nothing to do", nothing, 3.0),
    )
    rows = [compared("the demo against its arithmetic", "s", answers)]
    return rows + [Row(name, "s", value, at_most=bar) for name, value, bar in limits]


def main() -> None:
    """Run the rounds and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.orchestration")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--arithmetic", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arithmetic:
        print(arithmetic())
        return
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory(
            prefix="orchestration-", ignore_cleanup_errors=True
        ) as folder:
            rounds.append(one_round(Path(folder)))
        say(f"round {number + 1} of {options.rounds}: {json.dumps(rounds[-1])}")
    keep("orchestration", rows_of(rounds), rounds=options.rounds, about={"each": rounds})


if __name__ == "__main__":
    main()
