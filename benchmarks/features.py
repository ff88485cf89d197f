"""Epochs of a classifier on kept features, against epochs through its frozen body.

python -m benchmarks.features [--rounds 3] [--steps 4]

A ResNet-18 at 32×32 whose body is frozen, batches of 64 that are not augmented. The one pass that
makes the features is counted apart.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.measure import Row, compare, keep
from pipeline.models.build import build_network
from pipeline.models.parts import network_parts
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.features import feature_data, separate_head
from pipeline.train.fit import fit
from pipeline.train.training_data import TrainingData
from pipeline.train.transfer import freeze

IMAGES, BATCH, CLASSES = 512, 64, 10


def example() -> TrainingData:
    """Random images and labels."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=draw, dtype=torch.uint8)
    labels = torch.arange(IMAGES) % CLASSES
    return TrainingData(images, labels, (0.5,) * 3, (0.25,) * 3, num_classes=CLASSES)


def rows_of(steps: int, rounds: int) -> list[Row]:
    """The comparison, and what the features cost once."""
    data = example()
    network = build_network(
        "resnet18", num_classes=CLASSES, channels=3, image_size=32, seed=0
    ).train()
    freeze(network, network_parts(network), mode="head", frozen_stages=0)
    train = TrainParams(steps=steps, batch_size=BATCH, labeled_augment="none", threads=1)
    head = separate_head(network, data, train=train, dropout_rate=0.0, seed=0)
    assert head is not None
    started = time.process_time()
    seen = feature_data(network, data, torch.device("cpu"))
    once = time.process_time() - started

    def trained(what: torch.nn.Module, given: TrainingData, count: int) -> float:
        how = train.model_copy(update={"steps": count})
        begun = time.process_time()
        fit(what, given, train=how, augment=AugmentParams(), seed=0)
        return count * BATCH / (time.process_time() - begun)

    row = compare(
        "ResNet-18 at 32×32",
        "images/s",
        lambda: trained(head.network, seen, 100 * steps),
        lambda: trained(network, data, steps),
        rounds=rounds,
        at_least=20.0,
    )
    return [row, Row(f"features of {IMAGES} images, once", "s", once)]


def main() -> None:
    """Measure and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep("features", rows_of(args.steps, args.rounds), rounds=args.rounds, about={"batch": BATCH})


if __name__ == "__main__":
    main()
