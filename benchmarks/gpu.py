"""On a GPU: training and prediction against bare loops on random tensors, and augmentation's share.

python -m benchmarks.gpu [--rounds 5] [--steps 20]

Needs a GPU, torch, torchvision and what the core reads data and parameters with, but no Ray, DVC or
MLflow. All in bfloat16: WRN-28-2 at 32×32 and
ResNet-50 at 224×224. The achieved operations a second are those of prediction, against what a
product of large bfloat16 matrices reaches on the same card.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import Row, compare, keep
from pipeline.evaluate.views import predict_log_probs
from pipeline.models.build import build_network
from pipeline.models.passes import Passes, operations, run_pass
from pipeline.params import AugmentParams, TrainParams
from pipeline.progress import say
from pipeline.train.batch import step_batch
from pipeline.train.fit import fit
from pipeline.train.training_data import TrainingData, on_device
from pipeline.train.worker import Worker

NETWORKS = {"wrn_28_2": (32, 64, 7), "resnet50": (224, 32, 3)}  # side, labelled images, ratio
CLASSES, MATRIX = 10, 8192
FAST = Passes(channels_last=True, bfloat16=True)
GPU = torch.device("cuda")


def seconds(work: Callable[[], object]) -> float:
    """Seconds of `work` until the GPU has done it."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def network_of(name: str, side: int) -> nn.Module:
    """The network on the GPU, channels-last."""
    made = build_network(name, num_classes=CLASSES, channels=3, image_size=side, seed=0)
    return made.to(GPU).to(memory_format=torch.channels_last)


def example(side: int, count: int) -> TrainingData:
    """Random images, labels and pseudo-labels."""
    draw = torch.Generator().manual_seed(0)
    shape = (count, 3, side, side)
    return TrainingData(
        torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8),
        torch.arange(count) % CLASSES,
        (0.5,) * 3,
        (0.25,) * 3,
        unlabeled_images=torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8),
        unlabeled_rows=torch.arange(count),
        unlabeled_targets=torch.rand(count, CLASSES, generator=draw).softmax(dim=1),
        num_classes=CLASSES,
    )


def random_batch(count: int, side: int) -> Tensor:
    """Normalised images that lie ready."""
    images = torch.randn(count, 3, side, side, device=GPU)
    return images.contiguous(memory_format=torch.channels_last)


def bare_training(name: str, side: int, batch: int, steps: int) -> float:
    """Images a second of passes, loss and AdamW."""
    network = network_of(name, side).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images, targets = random_batch(batch, side), torch.rand(batch, CLASSES, device=GPU)

    def work(count: int) -> None:
        for _ in range(count):
            with torch.autocast("cuda", torch.bfloat16):
                logits = network(images)
            loss: Any = nn.functional.cross_entropy(logits.float(), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    work(3)
    return steps * batch / seconds(lambda: work(steps))


def rows_of(name: str, steps: int, rounds: int) -> list[Row]:
    """Training, augmentation's share and prediction of one network."""
    side, labeled, ratio = NETWORKS[name]
    batch = labeled * (1 + ratio)
    data, augment, worker = example(side, 2 * batch), AugmentParams(flip=True), Worker(device=GPU)
    train = TrainParams(
        steps=steps, batch_size=labeled, unlabeled_ratio=ratio, precision="bfloat16", device="cuda"
    )

    def ours() -> float:
        network = network_of(name, side)

        def work(count: int) -> None:
            how = train.model_copy(update={"steps": count})
            fit(network, data, train=how, augment=augment, seed=0, worker=worker)

        work(3)
        return steps * batch / seconds(lambda: work(steps))

    training = compare(
        f"{name} at {side}×{side}, training",
        "images/s",
        ours,
        lambda: bare_training(name, side, batch, steps),
        rounds=rounds,
        at_least=0.9,
    )
    on_gpu = on_device(example(side, 2 * batch), GPU)
    made = seconds(
        lambda: [step_batch(on_gpu, train, augment, 0, step, worker) for step in range(steps)]
    )
    share = made / steps * training.ours / batch
    return [
        training,
        Row(f"{name} at {side}×{side}, augmentation's share of a step", "", share, at_most=0.1),
        *predicted(name, side, batch, steps, rounds),
    ]


def predicted(name: str, side: int, batch: int, steps: int, rounds: int) -> list[Row]:
    """Prediction of stored images, and the operations a second it comes to."""
    network = network_of(name, side).eval()
    images = torch.randint(0, 256, (steps * batch, 3, side, side), dtype=torch.uint8).to(GPU)
    ready = random_batch(batch, side)

    def ours() -> float:
        how: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.25] * 3, "device": GPU}
        how |= {"passes": FAST, "batch_size": batch}
        return len(images) / seconds(lambda: predict_log_probs(network, images, **how))

    def bare() -> float:
        with torch.inference_mode():
            return len(images) / seconds(
                lambda: [run_pass(network, ready, FAST) for _ in range(steps)]
            )

    ours()
    bare()
    title = f"{name} at {side}×{side}, prediction"
    row = compare(title, "images/s", ours, bare, rounds=rounds, at_least=0.9)
    done = row.ours * operations(network, (3, side, side)) / 1e12
    return [row, Row(title, "TFLOP/s", done, peak := matrix_peak(), done / peak)]


def matrix_peak() -> float:
    """TFLOP/s of a product of two large bfloat16 matrices."""
    left, right = (torch.randn(MATRIX, MATRIX, device=GPU).bfloat16() for _ in range(2))
    seconds(lambda: left @ right)
    return 10 * 2 * MATRIX**3 / seconds(lambda: [left @ right for _ in range(10)]) / 1e12


def main() -> None:
    """Measure both networks and keep the table; says so where there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        say("no GPU that torch can use: nothing is measured")
        sys.exit(1)
    rows = [row for name in NETWORKS for row in rows_of(name, args.steps, args.rounds)]
    keep("gpu", rows, rounds=args.rounds, about={"steps": args.steps})


if __name__ == "__main__":
    main()
