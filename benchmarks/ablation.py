"""Which part of self-training helps: one part taken away at a time, on two data sets.

python -m benchmarks.ablation [--data FOLDER] [--seeds 5] [--fashion-seeds 3] [--processes 2]
                              [--only "Fashion-MNIST, online teacher"]

Digits: 50 labels, 848 unlabelled, 899 test images. Fashion-MNIST, where FOLDER holds
fashion_mnist.parquet: 1,000 labels, 20,000 unlabelled, 10,000 test images, with pseudo-labels of
generations and with an online teacher. No validation images.
All of it takes about 70 minutes of two cores (30 s a run on digits, 140 on Fashion-MNIST, up to 9
minutes with an online teacher).
Every run is kept under .selftrain/benchmarks, by its parameters and the code it rests on, so that
it goes on where it stopped. `--steps 4` is a trial: its table goes there too, not into docs/.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablation_page import page, run_of, summary
from benchmarks.ablation_rows import (
    GENERATIONS,
    MAIN,
    ONLINE,
    ROWS,
    Row,
    row_params,
    with_steps,
)
from benchmarks.runs import code_of, side_by_side
from pipeline.files import read_json, value_digest, write_json, write_text
from pipeline.params import Params, load_params
from pipeline.progress import say

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "ablation.json"
PAGE = ROOT / "docs" / "ablation.md"
KEPT = ROOT / ".selftrain" / "benchmarks"
FASHION_FILE = "fashion_mnist.parquet"
ONLINE_NAME = "Fashion-MNIST, online teacher"
DIGITS_STEPS = 450  # half of the preset's, so that all of it takes no more than 2 hours
# What a run's figures rest on; other changes leave kept runs as they are.
CODE = (
    *("pipeline/augment", "pipeline/labels", "pipeline/models", "pipeline/train"),
    *("pipeline/evaluate/views.py", "pipeline/evaluate/ensemble.py"),
    *("pipeline/evaluate/calibration.py", "pipeline/data/images.py", "benchmarks/in_process.py"),
    *(
        "benchmarks/in_process_models.py",
        "benchmarks/digits_data.py",
        "benchmarks/fashion_mnist.py",
    ),
)
PARAMETERS: dict[str, Any] = {
    **dict.fromkeys(("seed", "model", "augment", "train", "transfer", "predict", "select"), True),
    **dict.fromkeys(("teacher", "generations"), True),
    "data": {"image_size"},
    "evaluate": {"views", "jitter_views"},
}


@dataclass(frozen=True)
class DataSet:
    """One data set of the ablation: its preset, how much of it is used, and where it lies."""

    name: str
    preset: str
    labels: int
    unlabeled: int
    test: int
    seeds: int
    steps: int | None = None
    path: Path | None = None
    names: tuple[str, ...] = GENERATIONS

    @property
    def rows(self) -> list[Row]:
        """The rows that are run on it."""
        return [row for row in ROWS if row.name in self.names]

    @property
    def params(self) -> Params:
        """The full form's parameters: the preset without validation images, on one thread."""
        params = load_params(ROOT / "presets" / f"{self.preset}.yaml")
        data = params.data.model_copy(update={"labels": self.labels, "validation_fraction": 0.0})
        train = params.train.model_copy(update={"threads": 1, "device": "cpu"})
        params = params.model_copy(update={"data": data, "train": train})
        return params if self.steps is None else with_steps(params, self.steps)

    @property
    def protocol(self) -> str:
        """What is measured, in a sentence."""
        steps = "" if self.steps is None else f", {self.steps} steps a generation"
        return (
            f"{self.labels:,} labels, {self.unlabeled:,} unlabelled and {self.test:,} test images, "
            f"`presets/{self.preset}.yaml`{steps}, no validation images."
        )


@dataclass(frozen=True)
class Task:
    """One run: a row on a data set with a seed."""

    data: DataSet
    row: Row
    seed: int

    @property
    def params(self) -> Params:
        """Its parameters."""
        return row_params(self.row, self.data.params).model_copy(update={"seed": self.seed})

    @property
    def kept(self) -> Path:
        """Where its outcome is kept; parameters left at their default don't change it."""
        said = self.params.model_dump(mode="json", include=PARAMETERS, exclude_defaults=True)
        where = {"labels": self.data.labels, "unlabeled": self.data.unlabeled, "params": said}
        digest = value_digest(where | {"seed": self.seed, "code": code_of(CODE)})
        return KEPT / f"ablation-{self.data.preset}-{digest[:16]}-{self.seed}.json"


def run_task(row: str, data: DataSet, seed: int) -> dict[str, float]:
    """Accuracies of one run, from its file if it was done before."""
    task = Task(data, next(part for part in ROWS if part.name == row), seed)
    if not task.kept.exists():
        write_json(task.kept, _outcome(task))
    outcome: dict[str, float] = json.loads(task.kept.read_text())
    return outcome


def _outcome(task: Task) -> dict[str, float]:
    from benchmarks.digits_data import digits
    from benchmarks.fashion_mnist import few_labels
    from benchmarks.in_process import self_train
    from pipeline.evaluate.ensemble import average_log_probs

    data, params = task.data, task.params
    if data.path is None:
        images = digits(task.seed, data.labels, params.data.image_size)
    else:
        images = few_labels(
            _fashion_part(data.path, "train", 60_000),
            _fashion_part(data.path, "test", data.test),
            num_labels=data.labels,
            num_unlabeled=data.unlabeled,
            seed=task.seed,
        )
    began = time.process_time()
    results = self_train(images, params)
    together = average_log_probs([part.log_probs for part in results]).argmax(axis=1)
    return {
        "last": results[-1].test_accuracy,
        "centre": results[-1].centre_accuracy,
        "ensemble": float((together == images.test_labels.numpy()).mean()),
        "first": results[0].test_accuracy,
        "CPU seconds": time.process_time() - began,
    }


@lru_cache(maxsize=2)  # most of a run of few steps would go into decoding
def _fashion_part(path: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    from benchmarks.fashion_mnist import fashion_part

    return fashion_part(path, split, count)


def run_all(data: Iterable[DataSet], processes: int) -> dict[str, Any]:
    """Every row of every data set, `processes` runs at once; finished ones are not run again."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sets = list(data)
    with side_by_side(processes) as pool:
        futures = {
            pool.submit(run_task, row, part, seed): (part.name, row, seed)
            for part in sets
            for seed in range(part.seeds)
            for row in dict.fromkeys(map(run_of, part.rows))
        }
        outcomes: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
        for future in as_completed(futures):
            name, row, seed = futures[future]
            outcomes.setdefault(name, {}).setdefault(row, {})[seed] = future.result()
            say(f"{name}, {row}, seed {seed}: {100 * future.result()['last']:.2f}")
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {processes} runs at once",
        "data": {
            part.name: {"protocol": part.protocol, "rows": summary(outcomes[part.name], part.rows)}
            for part in sets
        },
    }


def data_sets(given: argparse.Namespace) -> list[DataSet]:
    """The data sets that the command line names; Fashion-MNIST only where its file is."""
    sets = [DataSet("digits", "digits_50", 50, 848, 899, given.seeds, given.steps or DIGITS_STEPS)]
    path = given.data / FASHION_FILE if given.data else None
    if path is None or not path.is_file():
        say(f"{path or '--data'}: not there; Fashion-MNIST is left out")
        return sets
    sizes = (1000, 20_000, 10_000) if given.steps is None else (100, 1000, 10_000)
    seeds, steps = given.fashion_seeds, given.steps
    return [
        *sets,
        DataSet("Fashion-MNIST", "fashion_mnist", *sizes, seeds, steps, path, MAIN),
        DataSet(ONLINE_NAME, "fashion_mnist_online", *sizes, seeds, steps, path, ONLINE),
    ]


def main() -> None:
    """Run what is not kept yet and write the results and the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__)
    parser.add_argument("--data", type=Path, help=f"folder of {FASHION_FILE}")
    parser.add_argument("--seeds", type=int, default=5, help="of digits, numbered from 0")
    parser.add_argument("--fashion-seeds", type=int, default=3, help="of Fashion-MNIST")
    parser.add_argument("--processes", type=int, default=2, help="runs at once, a thread each")
    parser.add_argument("--steps", type=int, help="a trial with so many steps a generation")
    parser.add_argument("--only", help="the data set to run; the others keep their figures")
    given = parser.parse_args()
    every = data_sets(given)
    sets = [part for part in every if given.only in (None, part.name)]
    if not sets:
        parser.error(f"--only {given.only}: no such data set, or its file is not there")
    result = run_all(sets, given.processes)
    trial = given.steps is not None
    if given.only is not None and not trial and RESULT.exists():
        before = read_json(RESULT)
        merged = before["data"] | result["data"]
        order = [part.name for part in every if part.name in merged]
        result = before | {"data": {name: merged[name] for name in order}}
    write_json(KEPT / "ablation_trial.json" if trial else RESULT, result)
    where = KEPT / "ablation_trial.md" if trial else PAGE
    write_text(where, page(result))
    say(f"{where}: written")


if __name__ == "__main__":
    main()
