"""Which part of self-training helps: one part taken away at a time, on two data sets.

python -m benchmarks.ablation [--data FOLDER] [--seeds 5] [--fashion-seeds 3] [--processes 2]
                              [--only "Fashion-MNIST, online teacher"]

Digits: 50 labels, 848 unlabelled, 899 test images. Fashion-MNIST, where FOLDER holds
fashion_mnist.parquet: 1,000 labels, 20,000 unlabelled, 10,000 test images, with pseudo-labels of
generations and with an online teacher. No validation images.
All of it takes about 70 minutes of two cores (30 s a run on digits, 140 on Fashion-MNIST, up to 9
minutes with an online teacher). Every run is kept under .selftrain/benchmarks, by its parameters
and the code it rests on. `--steps 4` is a trial: its table goes there too, not into docs/.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.ablation_page import page, run_of, summary
from benchmarks.ablation_rows import GENERATIONS, MAIN, ONLINE, ROWS, Row, row_params, with_steps
from benchmarks.data import digits, fashion_part, few_labels
from benchmarks.runs import KEPT, RESULTS, ROOT, arguments, code_of, kept, machine, side_by_side
from pipeline.files import read_json, write_json, write_text
from pipeline.params import Params, load_params
from pipeline.progress import say
from pipeline.self_training.loop import Images, self_train
from pipeline.tasks.mixtures import average_log_probs

RESULT = RESULTS / "ablation.json"
PAGE = ROOT / "docs" / "ablation.md"
FASHION_FILE = "fashion_mnist.parquet"
DIGITS_STEPS = 450  # half of the preset's, so that all of it takes no more than 2 hours
# What a run's figures rest on; other changes leave kept runs as they are.
CODE = (
    *(f"pipeline/{part}" for part in ("augment", "labels", "models", "train", "evaluate")),
    *("pipeline/data/images.py", "pipeline/self_training", "benchmarks/data.py"),
)
PARAMETERS: dict[str, Any] = {
    **dict.fromkeys(("seed", "model", "augment", "train", "transfer", "predict", "select"), True),
    **dict.fromkeys(("teacher", "generations"), True),
    "data": {"image_size"},
    "evaluate": {"views", "jitter_views"},
}


@dataclass(frozen=True)
class DataSet:
    """One data set of the ablation: its preset, how much of it is used, and where it lies.

    names: of the rows that are run on it.
    """

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

    def images(self, seed: int, image_size: int) -> Images:
        """Its images, split by seed."""
        if self.path is None:
            return digits(seed, self.labels, image_size)
        train = _fashion_part(self.path, "train", 60_000)
        test = _fashion_part(self.path, "test", self.test)
        counts = {"num_labels": self.labels, "num_unlabeled": self.unlabeled}
        return few_labels(train, test, **counts, seed=seed)


@lru_cache(maxsize=2)  # most of a run of few steps would go into decoding
def _fashion_part(path: Path, split: str, count: int) -> tuple[Tensor, Tensor]:
    return fashion_part(path, split, count)


def run_task(name: str, data: DataSet, seed: int) -> dict[str, float]:
    """Accuracies of one run of the row of this name, from its file if it was done before."""
    row = next(part for part in ROWS if part.name == name)
    params = row_params(row, data.params).model_copy(update={"seed": seed})
    # Parameters left at their default don't change what a run is.
    said = params.model_dump(mode="json", include=PARAMETERS, exclude_defaults=True)
    what = {"labels": data.labels, "unlabeled": data.unlabeled, "test": data.test, "params": said}

    def work() -> dict[str, float]:
        return outcome(data.images(seed, params.data.image_size), params)

    label = f"{data.preset}-{seed}"
    found: dict[str, float] = kept(
        Path(__file__), label, what | {"seed": seed}, work, code=code_of(CODE)
    )
    return found


def outcome(images: Images, params: Params) -> dict[str, float]:
    """Accuracies of a run."""
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


def run_all(data: Iterable[DataSet], processes: int) -> dict[str, Any]:
    """Every row of every data set, `processes` runs at once; finished ones are not run again."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sets = list(data)
    outcomes: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
    with side_by_side(processes) as pool:
        futures = {
            pool.submit(run_task, row, part, seed): (part.name, row, seed)
            for part in sets
            for seed in range(part.seeds)
            for row in dict.fromkeys(map(run_of, part.rows))
        }
        for future in as_completed(futures):
            name, row, seed = futures[future]
            outcomes.setdefault(name, {}).setdefault(row, {})[seed] = future.result()
            say(f"{name}, {row}, seed {seed}: {100 * future.result()['last']:.2f}")
    data_of = {
        part.name: {"protocol": part.protocol, "rows": summary(outcomes[part.name], part.rows)}
        for part in sets
    }
    return {"machine": machine(), "data": data_of}


def data_sets(given: argparse.Namespace) -> list[DataSet]:
    """The data sets that the command line names; Fashion-MNIST only where its file is."""
    sets = [DataSet("digits", "digits_50", 50, 848, 899, given.seeds, given.steps or DIGITS_STEPS)]
    path = given.data / FASHION_FILE if given.data else None
    if path is None or not path.is_file():
        say(f"{path or '--data'}: not there; Fashion-MNIST is left out")
        return sets
    sizes = (1000, 20_000, 10_000) if given.steps is None else (100, 1000, 10_000)
    how = (*sizes, given.fashion_seeds, given.steps, path)
    online = DataSet("Fashion-MNIST, online teacher", "fashion_mnist_online", *how, ONLINE)
    return [*sets, DataSet("Fashion-MNIST", "fashion_mnist", *how, MAIN), online]


def main() -> None:
    """Run what is not kept yet and write the results and the page."""
    parser = arguments(__file__, __doc__)
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
