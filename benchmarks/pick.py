"""What labels are worth by how their images were picked: typical, doubtful or at random.

python -m benchmarks.pick [--data fashion_mnist.parquet] [--seeds 3] [--steps 150]

The protocol: by seed, scikit-learn's digits (10 labels, then 50) and, where --data is given,
2,000 unlabelled images of Fashion-MNIST (10 labels, then 200), balanced over the classes, 10 being
one a class. A teacher and a student of 150 steps each are trained; the hidden truth of so many
unlabelled images more is added (20 or 30 of digits, 20 or 50 of Fashion-MNIST), as a person
would, and both are trained again from the start: typical images of the clusters of their pixels,
doubtful ones by the teacher of the run before, diverse, or images drawn at random. Tested on 899
digits or 2,000 test images. Each finished training is kept under .selftrain/benchmarks.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import corrections
from benchmarks.corrections import BEFORE, Outcome, Scene, answered, outcome
from benchmarks.digits_data import digits, split_digits
from benchmarks.fashion_mnist import fashion_part, few_label_rows, few_labels
from benchmarks.runs import (
    RESULTS,
    ROOT,
    Part,
    at_once,
    gain_table,
    kept,
    machine,
    parts_kept,
    percent,
)
from pipeline.files import file_digest, write_json
from pipeline.labels.doubt import class_pairs, diverse, doubt
from pipeline.labels.pool import pixel_features
from pipeline.labels.typical import reduced, typical_rows
from pipeline.params import Params, load_params
from pipeline.progress import say

HERE = Path(__file__)
RESULT = RESULTS / "pick.json"
STEPS = 150
DIGITS_SIDE = 16
NUM_UNLABELED, NUM_TEST = 2000, 2000
WAYS = ("typical", "doubtful", "random")


@dataclass(frozen=True)
class Case:
    """So many labels, and then so many `more`, of a data set."""

    data: str
    labels: int
    more: int

    @property
    def name(self) -> str:
        """What the tables call it."""
        return f"{self.data}, {self.labels} labels and {self.more} more"


CASES = (
    Case("digits", 10, 20),
    Case("digits", 50, 30),
    Case("Fashion-MNIST", 10, 20),
    Case("Fashion-MNIST", 200, 50),
)


def main() -> None:
    """Run what is not kept yet, print the tables and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pick", description=__doc__)
    parser.add_argument("--data", type=Path, help="fashion_mnist.parquet; without it digits alone")
    parser.add_argument("--seeds", type=int, default=3, choices=range(2, 11))
    parser.add_argument("--steps", type=int, default=STEPS, help="other steps write no results")
    given = parser.parse_args()
    if given.data is not None and not given.data.is_file():
        say(f"{given.data}: not there; nothing is measured")
        return
    found: dict[str, list[dict[str, float]]] = {}
    for case in CASES:
        if case.data == "digits" or given.data is not None:
            found[case.name] = [
                run_case(case, seed, given.data, given.steps) for seed in range(given.seeds)
            ]
    if given.steps == STEPS:
        protocol = " ".join(str(__doc__).split("The protocol: ")[1].split())
        write_json(RESULT, {"protocol": protocol, "machine": machine(), "accuracy": found})
    for name, rows in found.items():
        say(f"{name}\n\n{table(rows)}\n")


def run_case(case: Case, seed: int, data: Path | None, steps: int) -> dict[str, float]:
    """Test accuracy before, and after the labels more by each way."""

    def work() -> dict[str, float]:
        scene, params = scene_of(case, seed, data), run_params(case, seed, steps)
        return measured(scene, params, seed, case.more, parts_kept(HERE, name, what))

    name = f"{case.data}-{case.labels}-{seed}"
    what = {
        "case": case.name,
        "seed": seed,
        "steps": steps,
        "scene": file_digest(Path(corrections.__file__)),
    }
    row: dict[str, float] = kept(HERE, name, what, work)
    say(f"{case.name}, seed {seed}: {percent(row)}")
    return row


def run_params(case: Case, seed: int, steps: int) -> Params:
    """The data set's preset with one student, few steps, and no use of the labels' shares."""
    preset = "digits_50" if case.data == "digits" else "fashion_mnist"
    params = load_params(ROOT / "presets" / f"{preset}.yaml")
    first = params.generations["1"].model_copy(update={"select": {}})
    train = {"steps": steps, "threads": 1, "device": "cpu"}
    changes: dict[str, Any] = {
        "seed": seed,
        "train": params.train.model_copy(update=train),
        "teacher": params.teacher.model_copy(update={"train": {}}),
        # Picked labels are no sample of the classes.
        "select": params.select.model_copy(update={"distribution_alignment": "none"}),
        "data": params.data.model_copy(update={"validation_fraction": 0.0}),
        "generations": {"1": first},
    }
    return params.model_copy(update=changes)


def scene_of(case: Case, seed: int, data: Path | None) -> Scene:
    """What a seed starts with."""
    if case.data == "digits":
        split = split_digits(seed, case.labels)
        images = digits(seed, case.labels, DIGITS_SIDE)
        return Scene(images, torch.from_numpy(split.labels[split.unlabeled]))
    assert data is not None
    train = fashion_part(data, "train", 60_000)
    test = fashion_part(data, "test", NUM_TEST)
    counts = {"num_labels": case.labels, "num_unlabeled": NUM_UNLABELED, "seed": seed}
    _, others = few_label_rows(train[1], **counts)
    return Scene(few_labels(train, test, **counts), train[1][others])


def measured(
    scene: Scene, params: Params, seed: int, more: int, part: Part = at_once
) -> dict[str, float]:
    """The accuracy before, and after `more` labels by each way; `part` may keep each."""
    before = cache(lambda: outcome(scene, params))

    def after(way: str) -> float:
        rows = picked(way, scene, before(), more, seed)
        return outcome(answered(scene, rows), params).accuracy

    found = {BEFORE: part(BEFORE, lambda: before().accuracy)}
    return found | {way: part(way, partial(after, way)) for way in WAYS}


def picked(way: str, scene: Scene, before: Outcome, more: int, seed: int) -> list[int]:
    """The rows of the unlabelled images that are labelled; `way`: one of WAYS."""
    if way == "typical":
        return _typical(scene.images.unlabeled, scene.images.labeled, more, seed)
    if way == "doubtful":
        mean = np.mean(before.teachers, axis=0)
        return diverse(doubt(before.teachers), class_pairs(mean), more)
    drawn: list[int] = np.random.default_rng(seed).permutation(len(scene.truth))[:more].tolist()
    return drawn


def _typical(unlabeled: Tensor, labeled: Tensor, more: int, seed: int) -> list[int]:
    """As stages.pick chooses before anything was trained."""
    features = pixel_features(torch.cat([unlabeled, labeled])).numpy()
    known = np.arange(len(features)) >= len(unlabeled)
    return [pick.row for pick in typical_rows(reduced(features), known, more, seed=seed)]


def table(rows: list[dict[str, float]]) -> str:
    """The gain of each way over the run before, in Markdown."""
    return gain_table(rows, [BEFORE, *WAYS], BEFORE, gain="gain", title="labels added")


if __name__ == "__main__":
    main()
