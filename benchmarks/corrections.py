"""What a person's labels are worth: those that the report asks for, against random ones.

python -m benchmarks.corrections --data fashion_mnist.parquet [--seeds 3] [--processes 2]

The protocol: by seed, 200 labels and 10,000 unlabelled images of Fashion-MNIST's training part,
balanced over the classes; tested on its 10,000 test images, `presets/fashion_mnist.yaml` without
validation images and with 300 steps a generation. After one run the hidden truth of so many
unlabelled images is added, as a person would, and all generations are trained again from the start:
images as the report offers them (margin and disagreement of the teachers, diverse), images of the
smallest margin alone, or images drawn at random, with the same seed. Each finished training is kept
under .selftrain/benchmarks.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.fashion_mnist import fashion_part, few_label_rows, few_labels, parse_arguments
from benchmarks.in_process import Floats, Images, self_train
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
    side_by_side,
)
from pipeline.files import write_json
from pipeline.labels.doubt import class_pairs, diverse, doubt, margins
from pipeline.params import Params, load_params
from pipeline.progress import say

HERE = Path(__file__)
RESULT = RESULTS / "corrections.json"
NUM_LABELS, NUM_UNLABELED, NUM_TEST = 200, 10_000, 10_000
CLICKS = (48, 200)  # one page of the report, and about four
WAYS = ("offered", "margin", "random")
STEPS = 300  # the preset's would take hours
BEFORE = "none"


@dataclass(frozen=True)
class Scene:
    """What a seed starts with; truth: (U,) int64, the labels that only the person knows."""

    images: Images
    truth: Tensor


@dataclass(frozen=True)
class Outcome:
    """A run: test accuracy of the last generation, and what each teacher saw, (U, K) each."""

    accuracy: float
    teachers: list[Floats]


def main() -> None:
    """Run what is not kept yet, print the table and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corrections", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="others write no results")
    parser.add_argument("--processes", type=int, default=2, help="seeds at work at once")
    parser.add_argument("--unlabeled", type=int, default=NUM_UNLABELED)
    given = parse_arguments(parser)
    if given is None:
        return
    run = partial(run_seed, data=given.data, num_unlabeled=given.unlabeled, steps=given.steps)
    with side_by_side(given.processes) as pool:
        rows = list(pool.map(run, range(given.seeds)))
    if given.steps == STEPS and given.unlabeled == NUM_UNLABELED:
        result = {
            "protocol": " ".join(str(__doc__).split("The protocol: ")[1].split()),
            "machine": machine(),
            "accuracy": rows,
        }
        write_json(RESULT, result)
    say(table(rows))


def run_seed(seed: int, *, data: Path, num_unlabeled: int, steps: int) -> dict[str, float]:
    """Test accuracy before, and after so many labels chosen in each way."""

    def work() -> dict[str, float]:
        train = fashion_part(data, "train", 60_000)
        test = fashion_part(data, "test", NUM_TEST)
        scene = scene_of(seed, train, test, num_labels=NUM_LABELS, num_unlabeled=num_unlabeled)
        part = parts_kept(HERE, str(seed), what)
        return measured(scene, run_params(seed, steps), seed, part=part)

    what = {"seed": seed, "unlabeled": num_unlabeled, "steps": steps}
    row: dict[str, float] = kept(HERE, str(seed), what, work)
    say(f"seed {seed}: {percent(row)}")
    return row


def run_params(seed: int, steps: int = STEPS) -> Params:
    """The preset with so many steps a generation, without validation images, on one thread."""
    params = load_params(ROOT / "presets" / "fashion_mnist.yaml")
    update = {"threads": 1, "device": "cpu", "steps": steps}
    changes: dict[str, Any] = {"seed": seed}
    changes["teacher"] = params.teacher.model_copy(update={"train": {}})
    changes["train"] = params.train.model_copy(update=update)
    changes["data"] = params.data.model_copy(update={"validation_fraction": 0.0})
    return params.model_copy(update=changes)


def scene_of(
    seed: int,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    num_labels: int,
    num_unlabeled: int,
) -> Scene:
    """Labelled and unlabelled images by seed, both balanced."""
    counts = {"num_labels": num_labels, "num_unlabeled": num_unlabeled, "seed": seed}
    _, others = few_label_rows(train[1], **counts)
    return Scene(few_labels(train, test, **counts), train[1][others])


def measured(
    scene: Scene,
    params: Params,
    seed: int,
    clicks: tuple[int, ...] = CLICKS,
    part: Part = at_once,
) -> dict[str, float]:
    """The accuracy before, and of each way and number of labels, as "offered 48".

    `part` may keep each.
    """
    before = cache(lambda: outcome(scene, params))

    def after(way: str, count: int) -> float:
        rows = picked(way, before().teachers, count, seed)
        return outcome(answered(scene, rows), params).accuracy

    found = {BEFORE: part(BEFORE, lambda: before().accuracy)}
    for count in clicks:
        for way in WAYS:
            name = f"{way} {count}"
            found[name] = part(name, partial(after, way, count))
    return found


def outcome(scene: Scene, params: Params) -> Outcome:
    """Train all generations; what the teachers among them make of the unlabelled images."""
    tested = len(scene.images.test)
    both = replace(
        scene.images,
        test=torch.cat([scene.images.test, scene.images.unlabeled]),
        test_labels=torch.cat([scene.images.test_labels, scene.truth]),
    )
    generations = self_train(both, params)
    right = generations[-1].log_probs[:tested].argmax(axis=1) == scene.images.test_labels.numpy()
    teachers = [np.exp(part.log_probs[tested:]) for part in generations[:-1]]
    return Outcome(float(right.mean()), teachers)


def picked(way: str, teachers: list[Floats], count: int, seed: int) -> list[int]:
    """The rows of the unlabelled images that are labelled; `way`: one of WAYS."""
    mean = np.mean(teachers, axis=0)
    if way == "offered":
        return diverse(doubt(teachers), class_pairs(mean), count)
    if way == "margin":
        smallest: list[int] = np.argsort(margins(mean), kind="stable")[:count].tolist()
        return smallest
    drawn: list[int] = np.random.default_rng(seed).permutation(len(mean))[:count].tolist()
    return drawn


def answered(scene: Scene, rows: list[int]) -> Scene:
    """The same with these unlabelled images labelled by their truth."""
    images, moved = scene.images, torch.tensor(rows, dtype=torch.int64)
    left = torch.ones(len(scene.truth), dtype=torch.bool)
    left[moved] = False
    labeled = replace(
        images,
        labeled=torch.cat([images.labeled, images.unlabeled[moved]]),
        labels=torch.cat([images.labels, scene.truth[moved]]),
        unlabeled=images.unlabeled[left],
    )
    return Scene(labeled, scene.truth[left])


def table(rows: list[dict[str, float]]) -> str:
    """The gain of each way over the run before, in Markdown."""
    names = [BEFORE, *(name for name in rows[0] if name != BEFORE)]
    return gain_table(rows, names, BEFORE, gain="gain", title="labels added")


if __name__ == "__main__":
    main()
