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

from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.data import fashion_part, few_label_rows, few_labels
from benchmarks.runs import (
    RESULTS,
    ROOT,
    arguments,
    data_missing,
    gain_table,
    kept,
    percent,
    result_of,
    side_by_side,
)
from pipeline.files import write_json
from pipeline.labels.doubt import class_pairs, diverse, doubt, margins
from pipeline.params import Params, load_params
from pipeline.progress import say
from pipeline.self_training.loop import Floats, Images, self_train

HERE = Path(__file__)
NUM_LABELS, NUM_UNLABELED, NUM_TEST = 200, 10_000, 10_000
CLICKS = (48, 200)  # one page of the report, and about four
WAYS = ("offered", "margin", "random")
STEPS = 300  # the preset's would take hours
BEFORE = "no labels more"


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
    parser = arguments(__file__, __doc__)
    parser.add_argument("--data", type=Path, required=True, help="fashion_mnist.parquet")
    parser.add_argument("--seeds", type=int, default=3, choices=range(2, 6))
    parser.add_argument("--processes", type=int, default=2, help="seeds at work at once")
    given = parser.parse_args()
    if data_missing(given.data):
        return
    with side_by_side(given.processes) as pool:
        rows = list(pool.map(partial(run_seed, data=given.data), range(given.seeds)))
    write_json(RESULTS / "corrections.json", result_of(__doc__, accuracy=rows))
    say(gain_table(rows, rows[0], BEFORE))


def run_seed(seed: int, *, data: Path) -> dict[str, float]:
    """Test accuracy before, and after so many labels chosen in each way."""
    train, test = fashion_part(data, "train", 60_000), fashion_part(data, "test", NUM_TEST)
    counts = {"num_labels": NUM_LABELS, "num_unlabeled": NUM_UNLABELED, "seed": seed}
    _, others = few_label_rows(train[1], **counts)
    scene = Scene(few_labels(train, test, **counts), train[1][others])
    row = measured(scene, run_params(seed), seed)
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


def measured(
    scene: Scene, params: Params, seed: int, clicks: tuple[int, ...] = CLICKS
) -> dict[str, float]:
    """The accuracy before, and of each way and number of labels, as "offered 48"; each is kept."""
    before = cache(lambda: outcome(scene, params))
    what = {"params": params.model_dump(mode="json"), "unlabeled": len(scene.truth)}

    def after(way: str, count: int) -> float:
        rows = picked(way, before().teachers, count, seed)
        return outcome(answered(scene, rows), params).accuracy

    found = {BEFORE: kept(HERE, f"{seed}-before", what, lambda: before().accuracy)}
    for count in clicks:
        for way in WAYS:
            work = partial(after, way, count)
            found[f"{way} {count}"] = kept(HERE, f"{seed}-{way}-{count}", what, work)
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


if __name__ == "__main__":
    main()
