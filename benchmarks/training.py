"""Images a second of `fit` with strong augmentation, against a bare training loop.

python -m benchmarks.training [--rounds 3] [--steps 2] [--network wrn_28_2]

64 labelled and 448 pseudo-labelled images a step at 32×32. The bare loop has random tensors that
lie ready, channels-last, and nothing but passes, loss and optimizer. Seconds are the process's own,
so that augmentation counts although a thread does it ahead.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.runs import Row, arguments, compare, keep
from pipeline.models.build import build_network
from pipeline.params import AugmentParams, TrainParams
from pipeline.train.fit import fit
from pipeline.train.training_data import TrainingData

LABELED, RATIO, SIDE, CLASSES = 64, 7, 32, 10
BATCH = LABELED * (1 + RATIO)
WARM_UP = "wrn_10_1"
CPU = torch.device("cpu")
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def example(side: int, count: int) -> TrainingData:
    """So many random images with labels, and as many with pseudo-labels."""
    draw = torch.Generator().manual_seed(0)

    def images() -> Tensor:
        return torch.randint(0, 256, (count, 3, side, side), generator=draw, dtype=torch.uint8)

    return TrainingData(
        images(),
        torch.arange(count) % CLASSES,
        (0.5,) * 3,
        (0.25,) * 3,
        unlabeled_images=images(),
        unlabeled_rows=torch.arange(count),
        unlabeled_targets=torch.rand(count, CLASSES, generator=draw).softmax(dim=1),
        num_classes=CLASSES,
    )


def network_of(name: str, side: int, device: torch.device = CPU) -> nn.Module:
    """The network as training starts with it."""
    made = build_network(name, num_classes=CLASSES, channels=3, image_size=side, seed=0)
    return made.train().to(device).to(memory_format=torch.channels_last)


def ready(count: int, side: int, device: torch.device = CPU) -> Tensor:
    """Normalised images that lie ready."""
    images = torch.randn(count, 3, side, side, device=device)
    return images.contiguous(memory_format=torch.channels_last)


def bare_loop(network: nn.Module, images: Tensor, steps: int, *, bfloat16: bool) -> None:
    """Passes, loss and AdamW on one batch."""
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    targets = torch.rand(len(images), CLASSES, device=images.device).softmax(dim=1)
    for _ in range(steps):
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            logits = network(images)
        loss: Any = nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def row_of(name: str, precision: Precision, steps: int, rounds: int) -> Row:
    """The comparison in one precision."""
    data, images = example(SIDE, 4096), ready(BATCH, SIDE)
    how: dict[str, Any] = {"batch_size": LABELED, "unlabeled_ratio": RATIO}
    augment = AugmentParams(flip=True)
    train = TrainParams(steps=steps, precision=precision, threads=1, **how)

    def ours(what: str = name) -> float:
        network = network_of(what, SIDE)
        started = time.process_time()
        fit(network, data, train=train, augment=augment, seed=0)
        return steps * BATCH / (time.process_time() - started)

    def bare(what: str = name) -> float:
        network = network_of(what, SIDE)
        started = time.process_time()
        bare_loop(network, images, steps, bfloat16=precision == "bfloat16")
        return steps * BATCH / (time.process_time() - started)

    ours(WARM_UP)  # what torch loads when it is first used
    bare(WARM_UP)
    return compare(f"{name}, {precision}", "images/s", ours, bare, rounds=rounds, at_least=0.9)


def main() -> None:
    """Measure both precisions and keep the table."""
    parser = arguments(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--network", default="wrn_28_2")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row_of(given.network, each, given.steps, given.rounds) for each in PRECISIONS]
    keep("train", rows, rounds=given.rounds, about={"batch": BATCH, "steps": given.steps})


if __name__ == "__main__":
    main()
