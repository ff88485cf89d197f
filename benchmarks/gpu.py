"""On a GPU: training and prediction against bare loops on random tensors, and augmentation's share.

python -m benchmarks.gpu [--rounds 5] [--steps 20]

Needs a GPU, torch, torchvision and what the core reads data and parameters with, but no Ray, DVC or
MLflow. All in bfloat16: WRN-28-2 at 32×32 and ResNet-50 at 224×224. The achieved operations a
second are those of prediction, against what a product of large bfloat16 matrices reaches on the
same card.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.runs import Row, arguments, compare, keep
from benchmarks.training import bare_loop, example, network_of, ready
from pipeline.evaluate.views import predict
from pipeline.models.passes import Passes, operations, run_pass
from pipeline.params import AugmentParams, TrainParams, ViewParams
from pipeline.progress import say
from pipeline.tasks.classification import TASK
from pipeline.train.batch import step_batch
from pipeline.train.fit import fit
from pipeline.train.worker import Worker

NETWORKS = {"wrn_28_2": (32, 64, 7), "resnet50": (224, 32, 3)}  # side, labelled images, ratio
WARM_UP, MATRIX = 3, 8192
FAST = Passes(channels_last=True, bfloat16=True)
GPU = torch.device("cuda")


def seconds(work: Callable[[], object]) -> float:
    """Seconds of `work` until the GPU has done it."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def rows_of(name: str, steps: int, rounds: int) -> list[Row]:
    """Training, augmentation's share and prediction of one network."""
    side, labeled, ratio = NETWORKS[name]
    batch, worker, augment = labeled * (1 + ratio), Worker(device=GPU), AugmentParams(flip=True)
    data = example(side, 2 * batch)
    how: dict[str, Any] = {"batch_size": labeled, "unlabeled_ratio": ratio, "device": "cuda"}
    train = TrainParams(steps=steps, precision="bfloat16", **how)

    def ours() -> float:
        network = network_of(name, side, GPU)

        def work(count: int) -> None:
            params = train.model_copy(update={"steps": count})
            fit(network, data, train=params, augment=augment, seed=0, worker=worker)

        work(WARM_UP)
        return steps * batch / seconds(lambda: work(steps))

    def bare() -> float:
        network, images = network_of(name, side, GPU), ready(batch, side, GPU)
        bare_loop(network, images, WARM_UP, bfloat16=True)
        return steps * batch / seconds(lambda: bare_loop(network, images, steps, bfloat16=True))

    title = f"{name} at {side}×{side}"
    training = compare(f"{title}, training", "images/s", ours, bare, rounds=rounds, at_least=0.9)
    there = data.to(GPU)
    made = seconds(
        lambda: [step_batch(there, train, augment, 0, step, worker) for step in range(steps)]
    )
    share = made / steps * training.ours / batch
    return [
        training,
        Row(f"{title}, augmentation's share of a step", "", share, at_most=0.1),
        *predicted(name, side, batch, steps, rounds),
    ]


def predicted(name: str, side: int, batch: int, steps: int, rounds: int) -> list[Row]:
    """Prediction of stored images, and the operations a second it comes to."""
    network, normalised = network_of(name, side, GPU).eval(), ready(batch, side, GPU)
    images = torch.randint(0, 256, (steps * batch, 3, side, side), dtype=torch.uint8).to(GPU)

    def ours() -> float:
        how: dict[str, Any] = {"mean": [0.5] * 3, "std": [0.25] * 3, "device": GPU}
        how |= {"passes": FAST, "views": ViewParams(batch_size=batch)}
        return len(images) / seconds(lambda: predict(network, images, TASK, **how))

    def bare() -> float:
        with torch.inference_mode():
            return len(images) / seconds(
                lambda: [run_pass(network, normalised, FAST) for _ in range(steps)]
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
    parser = arguments(__file__, __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        say("no GPU that torch can use: nothing is measured")
        sys.exit(1)
    rows = [row for name in NETWORKS for row in rows_of(name, given.steps, given.rounds)]
    keep("gpu", rows, rounds=given.rounds, about={"steps": given.steps})


if __name__ == "__main__":
    main()
