"""Ten crops by an ensemble of four, against forty bare forward passes of as many images.

python -m benchmarks.evaluation [--rounds 3] [--images 64] [--network wrn_28_2]

Both run channels-last in float32, with as many images a pass as the program chooses for a test set
of 10,000; the bare passes are of random tensors that lie ready.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.measure import Row, compare, keep
from pipeline.evaluate.ensemble import average_log_probs
from pipeline.evaluate.views import num_views, predict_log_probs
from pipeline.models.build import build_network
from pipeline.models.passes import choose_passes, laid_out, run_pass

MEMBERS, VIEW, SIDE, TEST_IMAGES = 4, "ten_crop", 32, 10_000


def row_of(name: str, count: int, rounds: int) -> Row:
    """The comparison."""
    networks = [
        build_network(name, num_classes=10, channels=3, image_size=SIDE, seed=seed).eval()
        for seed in range(MEMBERS)
    ]
    shape = (3, SIDE, SIDE)
    passes = choose_passes(networks[0], shape, TEST_IMAGES * num_views(VIEW), most=512)
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, *shape), generator=draw, dtype=torch.uint8)
    ready = torch.randn((passes.images or count, *shape), generator=draw)
    ready = ready.contiguous(memory_format=torch.channels_last)

    def ours() -> float:
        started = time.process_time()
        average_log_probs(
            [
                predict_log_probs(
                    network, images, mean=[0.5] * 3, std=[0.25] * 3, view=VIEW, passes=passes
                )
                for network in networks
            ]
        )
        return count / (time.process_time() - started)

    def bare() -> float:
        seconds = 0.0
        for network in networks:
            with laid_out(network, passes), torch.inference_mode():
                started = time.process_time()
                for _ in range(num_views(VIEW) * count // len(ready)):
                    run_pass(network, ready, passes)
                seconds += time.process_time() - started
        return count / seconds

    title = f"{MEMBERS} × {num_views(VIEW)} passes of {name}"
    return compare(title, "images/s", ours, bare, rounds=rounds, at_least=0.95)


def main() -> None:
    """Measure and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--network", default="wrn_28_2")
    args = parser.parse_args()
    torch.set_num_threads(1)
    row = row_of(args.network, args.images, args.rounds)
    keep("evaluate", [row], rounds=args.rounds, about={"images": args.images})


if __name__ == "__main__":
    main()
