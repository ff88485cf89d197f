"""Images a second of `fit` with strong augmentation, against a bare training loop.

python -m benchmarks.training [--rounds 3] [--steps 2] [--network wrn_28_2]

64 labelled and 448 pseudo-labelled images a step at 32×32. The bare loop has random tensors that
lie ready, channels-last, and nothing but passes, loss and optimizer. Seconds are the process's own,
so that augmentation counts although a thread does it ahead.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.measure import Row, compare, keep
from pipeline.models.build import build_network
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.fit import fit
from pipeline.train.training_data import TrainingData

LABELED, RATIO, SIDE, CLASSES = 64, 7, 32, 10
BATCH = LABELED * (1 + RATIO)
WARM_UP = "wrn_10_1"
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def example() -> TrainingData:
    """Random images, labels and pseudo-labels."""
    draw = torch.Generator().manual_seed(0)

    def images(count: int) -> Tensor:
        return torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=draw, dtype=torch.uint8)

    unlabeled = 4096
    return TrainingData(
        images(1024),
        torch.arange(1024) % CLASSES,
        (0.5,) * 3,
        (0.25,) * 3,
        unlabeled_images=images(unlabeled),
        unlabeled_rows=torch.arange(unlabeled),
        unlabeled_targets=torch.rand(unlabeled, CLASSES, generator=draw).softmax(dim=1),
        num_classes=CLASSES,
    )


def network_of(name: str) -> nn.Module:
    """The network as training starts with it."""
    made = build_network(name, num_classes=CLASSES, channels=3, image_size=SIDE, seed=0)
    return made.train().to(memory_format=torch.channels_last)


def bare_loop(network: nn.Module, steps: int, *, bfloat16: bool) -> None:
    """Passes, loss and AdamW on one random batch."""
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    targets = torch.rand(BATCH, CLASSES).softmax(dim=1)
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            logits = network(images)
        loss: Any = nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def row_of(name: str, precision: Precision, steps: int, rounds: int) -> Row:
    """The comparison in one precision."""
    data, augment = example(), AugmentParams(flip=True)
    train = TrainParams(
        steps=steps, batch_size=LABELED, unlabeled_ratio=RATIO, precision=precision, threads=1
    )

    def ours(what: str = name) -> float:
        network = network_of(what)
        started = time.process_time()
        fit(network, data, train=train, augment=augment, seed=0)
        return steps * BATCH / (time.process_time() - started)

    def bare(what: str = name) -> float:
        network = network_of(what)
        started = time.process_time()
        bare_loop(network, steps, bfloat16=precision == "bfloat16")
        return steps * BATCH / (time.process_time() - started)

    ours(WARM_UP)  # what torch loads when it is first used
    bare(WARM_UP)
    return compare(f"{name}, {precision}", "images/s", ours, bare, rounds=rounds, at_least=0.9)


def main() -> None:
    """Measure both precisions and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--network", default="wrn_28_2")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row_of(args.network, precision, args.steps, args.rounds) for precision in PRECISIONS]
    keep("train", rows, rounds=args.rounds, about={"batch": BATCH, "steps": args.steps})


if __name__ == "__main__":
    main()
