"""A student of a quarter of its teacher's parameters, with and without it, on Fashion-MNIST.

python -m benchmarks.distillation --data fashion_mnist.parquet [--seeds 3]

The protocol: by seed, 1,000 labels and 5,000 unlabelled images of the training part, balanced over
the classes; tested on the first 5,000 test images, without validation images or test-time views. A
resnet_small of width 32 learns from the labels alone; it teaches students of width 16, which all
take the same number of steps from the same random weights. Teacher and students see images shifted
and mirrored at random. Finished runs are kept under .selftrain/benchmarks, so that it goes on where
it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.fashion_mnist import NUM_CLASSES, fashion_part, few_labels, parse_arguments
from benchmarks.in_process import Images, channel_statistics
from benchmarks.runs import RESULTS, gain_table, kept, machine, percent
from pipeline.evaluate.views import predict_log_probs
from pipeline.files import write_json
from pipeline.models.build import build_network, count_parameters
from pipeline.params import AugmentParams, ModelParams, Training, TrainParams
from pipeline.progress import say
from pipeline.train.run import fit_network
from pipeline.train.training_data import TrainingData

HERE = Path(__file__)
RESULT = RESULTS / "distillation.json"
NUM_LABELS, NUM_UNLABELED, NUM_TEST = 1_000, 5_000, 5_000
STEPS, RATE, BATCH, RATIO = 600, 0.005, 32, 3
TEMPERATURE, WEIGHT = 2.0, 0.7  # of three pairs tried on a seed not reported
TEACHER = ModelParams(width=32, stem_stride=2)
STUDENT = ModelParams(width=16, stem_stride=2)
AUGMENT = AugmentParams(flip=True, shift=0.07, padding="zeros")


@dataclass(frozen=True)
class Lesson:
    """What a student learns from its teacher, besides the labels."""

    on_labeled: bool = False  # the teacher's probabilities of the labelled images
    on_unlabeled: Literal["soft", "hard"] | None = None


STUDENTS = {
    "labels alone": Lesson(),
    "distilled on the labelled images": Lesson(on_labeled=True),
    "soft labels of the unlabelled images": Lesson(on_unlabeled="soft"),
    "both": Lesson(on_labeled=True, on_unlabeled="soft"),
    "hard labels of the unlabelled images": Lesson(on_unlabeled="hard"),
}
ALONE, TAUGHT_BY = "labels alone", "the teacher"


def main() -> None:
    """Run what is not kept yet, print the table and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distillation", description=__doc__)
    given = parse_arguments(parser)
    if given is None:
        return
    torch.set_num_threads(1)
    train = fashion_part(given.data, "train", 60_000)
    test = fashion_part(given.data, "test", NUM_TEST)
    rows = [run_seed(seed, train, test) for seed in range(given.seeds)]
    result = {
        "protocol": " ".join(str(__doc__).split("The protocol: ")[1].split()),
        "settings": settings(),
        "machine": machine(),
        "parameters": {"teacher": size(TEACHER), "student": size(STUDENT)},
        "accuracy": rows,
    }
    write_json(RESULT, result)
    say(table(rows))


def settings() -> dict[str, Any]:
    """What the runs are made with."""
    return {
        "steps": STEPS,
        "batch_size": BATCH,
        "unlabeled_ratio": RATIO,
        "learning_rate": RATE,
        "distillation_temperature": TEMPERATURE,
        "distillation_weight": WEIGHT,
    }


def run_seed(
    seed: int, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]
) -> dict[str, float]:
    """Test accuracy of the teacher and of every student."""

    def work() -> dict[str, float]:
        counts = {"num_labels": NUM_LABELS, "num_unlabeled": NUM_UNLABELED}
        return taught(few_labels(train, test, seed=seed, **counts), seed)

    row: dict[str, float] = kept(HERE, str(seed), {"seed": seed}, work)
    say(f"seed {seed}: {percent(row)}")
    return row


def taught(images: Images, seed: int) -> dict[str, float]:
    """Test accuracy in [0, 1] of the teacher and of every student, trained on `images`."""
    mean, std = channel_statistics(images.labeled)
    data = TrainingData(images.labeled, images.labels, mean, std, num_classes=NUM_CLASSES)
    teacher = trained(TEACHER, data, Lesson(), seed)
    accuracies = {TAUGHT_BY: accuracy(teacher, images, data)}
    on_labeled = probabilities(teacher, images.labeled, data)
    on_unlabeled = probabilities(teacher, images.unlabeled, data)
    for name, lesson in STUDENTS.items():
        seen = replace(data, taught=on_labeled if lesson.on_labeled else None)
        if lesson.on_unlabeled is not None:
            hard = nn.functional.one_hot(on_unlabeled.argmax(dim=1), NUM_CLASSES).float()
            seen = replace(
                seen,
                unlabeled_images=images.unlabeled,
                unlabeled_rows=torch.arange(len(images.unlabeled)),
                unlabeled_targets=on_unlabeled if lesson.on_unlabeled == "soft" else hard,
            )
        accuracies[name] = accuracy(trained(STUDENT, seen, lesson, seed), images, data)
    return accuracies


def trained(model: ModelParams, data: TrainingData, lesson: Lesson, seed: int) -> nn.Module:
    """A network trained on `data`; hard labels are learnt at temperature 1."""
    params = TrainParams(
        steps=STEPS,
        batch_size=BATCH,
        unlabeled_ratio=RATIO,
        learning_rate=RATE,
        weight_decay=0.01,
        labeled_augment="weak",
        unlabeled_augment="weak",
        distillation_weight=WEIGHT if lesson.on_labeled else 0.0,
        distillation_temperature=1.0 if lesson.on_unlabeled == "hard" else TEMPERATURE,
        threads=1,
    )
    network = built(model, seed)
    training = Training(model=model, augment=AUGMENT, train=params)
    network.load_state_dict(fit_network(network, data, training=training, seed=seed))
    return network


def built(model: ModelParams, seed: int) -> nn.Module:
    """The network with random weights, for grey images of 28 pixels."""
    options = model.network
    return build_network(
        options.pop("name"),
        num_classes=NUM_CLASSES,
        channels=1,
        image_size=28,
        seed=seed,
        **options,
    )


def size(model: ModelParams) -> int:
    """The network's parameters."""
    return count_parameters(built(model, 0))


def probabilities(network: nn.Module, images: Tensor, data: TrainingData) -> Tensor:
    """What the network thinks of the images as they are, (n, K)."""
    return torch.from_numpy(
        np.exp(predict_log_probs(network, images, mean=data.mean, std=data.std))
    )


def accuracy(network: nn.Module, images: Images, data: TrainingData) -> float:
    """The share of the test images that the network names right."""
    right = probabilities(network, images.test, data).argmax(dim=1) == images.test_labels
    return float(right.double().mean())


def table(rows: list[dict[str, float]]) -> str:
    """The gain of each lesson over the student alone, in Markdown."""
    names = (TAUGHT_BY, *STUDENTS)
    return gain_table(rows, names, ALONE, gain="over labels alone", title="")


if __name__ == "__main__":
    main()
