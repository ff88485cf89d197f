"""What `train.precision: bfloat16` costs in accuracy on networks for which `auto` chooses it.

python -m benchmarks.precision --data fashion_mnist.parquet [--seeds 4] [--processes 2]

The protocol: by seed, 1,000 labels and 5,000 unlabelled images of Fashion-MNIST's training part,
balanced over the classes; tested on the 10,000 test images, without validation images or test-time
views. A network learns from the labels alone and teaches one student, with the noise of
presets/fashion_mnist.yaml; both are trained in float32, and both again in bfloat16. Finished runs
are kept under .selftrain/benchmarks, so that it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.fashion_mnist import fashion_part, few_labels, parse_arguments
from benchmarks.in_process import Images, self_train
from benchmarks.runs import RESULTS, ROOT, gain_table, kept, machine, percent, side_by_side
from pipeline.files import write_json
from pipeline.params import ModelParams, Params, load_params
from pipeline.params.load import parse_params
from pipeline.progress import say

HERE = Path(__file__)
RESULT = RESULTS / "precision.json"
PRESET = ROOT / "presets" / "fashion_mnist.yaml"
NUM_LABELS, NUM_UNLABELED, NUM_TEST = 1_000, 5_000, 10_000
FORMATS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Case:
    """A network, and how many steps its teacher and its student take."""

    model: ModelParams
    teacher_steps: int
    student_steps: int


CASES = {  # operations of an image, forwards: 13 and 40 million
    "resnet_small, width 32": Case(ModelParams(width=32, stem_stride=2), 2_000, 1_000),
    "wrn_16_1": Case(ModelParams(name="wrn_16_1"), 1_000, 500),
}


def params_of(case: Case, seed: int, precision: str) -> Params:
    """The preset with the case's network and steps, one student, all in `precision`."""
    params = load_params(PRESET)
    noise = {key: getattr(params.model, key) for key in ("dropout_rate", "stochastic_depth_rate")}
    values = params.model_dump(mode="json")
    values["seed"], values["data"]["validation_fraction"] = seed, 0.0
    values["model"] = case.model.model_copy(update=noise).model_dump(mode="json")
    values["train"] |= {"steps": case.student_steps, "precision": precision}
    values["teacher"]["train"] = {"steps": case.teacher_steps}
    values["generations"] = {"1": values["generations"]["1"]}
    values["evaluate"]["views"] = "centre"
    values["controls"] = {}
    return parse_params(values, str(PRESET))


def accuracies(images: Images, case: Case, seed: int, precision: str) -> list[float]:
    """Test accuracy in [0, 1] of teacher and student."""
    generations = self_train(images, params_of(case, seed, precision))
    return [generation.test_accuracy for generation in generations]


@lru_cache(maxsize=1)
def _parts(data: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return fashion_part(data, "train", 60_000), fashion_part(data, "test", NUM_TEST)


def run(data: Path, name: str, seed: int, precision: str) -> list[float]:
    """The accuracies of a case and seed, kept."""

    def work() -> list[float]:
        train, test = _parts(data)
        counts = {"num_labels": NUM_LABELS, "num_unlabeled": NUM_UNLABELED}
        return accuracies(few_labels(train, test, seed=seed, **counts), case, seed, precision)

    case = CASES[name]
    what = params_of(case, seed, precision).model_dump(mode="json")
    came: list[float] = kept(HERE, f"{name.split(',')[0]}-{precision}-{seed}", what, work)
    return came


def rows_of(
    came: dict[tuple[str, int, str], list[float]], name: str, seeds: int
) -> list[dict[str, float]]:
    """Of each seed of a case the accuracies by generation and format."""
    return [
        {
            f"{generation}, {precision}": came[name, seed, precision][number]
            for number, generation in enumerate(("teacher", "student"))
            for precision in FORMATS
        }
        for seed in range(seeds)
    ]


def table(name: str, rows: list[dict[str, float]]) -> str:
    """Both generations in both formats, with the gain of bfloat16, in Markdown."""
    parts = [
        gain_table(
            rows,
            [f"{generation}, {precision}" for precision in FORMATS],
            f"{generation}, float32",
            gain="over float32",
            title=name,
        )
        for generation in ("teacher", "student")
    ]
    return "\n".join([parts[0], *parts[1].splitlines()[2:]])


def main() -> None:
    """Run what is not kept yet, print the tables and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    given = parse_arguments(parser)
    if given is None:
        return
    todo = [
        (name, seed, precision)
        for name in CASES
        for seed in range(given.seeds)
        for precision in FORMATS
    ]
    came: dict[tuple[str, int, str], list[float]] = {}
    with side_by_side(given.processes) as pool:
        runs = {pool.submit(run, given.data, *each): each for each in todo}
        for done in as_completed(runs):
            name, seed, precision = runs[done]
            came[runs[done]] = done.result()
            shown = dict(zip(("teacher", "student"), done.result(), strict=True))
            say(f"{name}, seed {seed}, {precision}: {percent(shown)}")
    tables: dict[str, Any] = {name: rows_of(came, name, given.seeds) for name in CASES}
    protocol = " ".join(str(__doc__).split("The protocol: ")[1].split())
    write_json(RESULT, {"protocol": protocol, "machine": machine(), "accuracy": tables})
    for name, rows in tables.items():
        say(table(name, rows))


if __name__ == "__main__":
    main()
