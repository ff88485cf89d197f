"""RandAugment(2, 10) of a batch of uint8 images, against torchvision's image by image.

python -m benchmarks.augmentation [--rounds 5]

Both draw from torchvision's fourteen operations and resample bilinearly, in one thread; seconds are
the process's own, which what else runs on the machine disturbs less than the wall's.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandAugment

from benchmarks.ingest import pictures
from benchmarks.measure import Row, compare, keep
from pipeline.augment import Draws
from pipeline.augment.randaugment import rand_augment
from pipeline.data.images import decode_png

OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
NUM_OPS, MAGNITUDE = 2, 10
BARS = {32: 5.0, 224: 2.0}
IMAGES = {32: 2048, 224: 64}


def batch(side: int, count: int) -> Tensor:
    """Pictures (count, 3, side, side) uint8."""
    drawn = []
    for row in pictures(count, side):
        data = row["image"]
        assert isinstance(data, bytes)
        drawn.append(torch.from_numpy(decode_png(data)).permute(2, 0, 1))
    return torch.stack(drawn)


def ours(images: Tensor, seed: int) -> Tensor:
    """The whole batch at once."""
    return rand_augment(
        images,
        Draws(seed, len(images)),
        operations=OPERATIONS,
        num_ops=NUM_OPS,
        magnitude=MAGNITUDE,
    )


def reference(images: Tensor, seed: int) -> Tensor:
    """Image by image, into one tensor."""
    torch.manual_seed(seed)
    change = RandAugment(NUM_OPS, MAGNITUDE, interpolation=InterpolationMode.BILINEAR)
    return torch.stack([change(image) for image in images])


def row_of(side: int, rounds: int) -> Row:
    """The comparison at one size, over several draws a round."""
    images = batch(side, IMAGES[side])

    def measured(work: object) -> float:
        assert callable(work)
        started = time.process_time()
        for seed in range(3):
            work(images, seed)
        return 3 * len(images) / (time.process_time() - started)

    for work in (ours, reference):
        work(images[:8], 0)
    return compare(
        f"{side}×{side}",
        "images/s",
        lambda: measured(ours),
        lambda: measured(reference),
        rounds=rounds,
        at_least=BARS[side],
    )


def main() -> None:
    """Measure both sizes and keep the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row_of(side, args.rounds) for side in BARS]
    about = {"num_ops": NUM_OPS, "magnitude": MAGNITUDE, "images": IMAGES}
    keep("augment", rows, rounds=args.rounds, about=about)


if __name__ == "__main__":
    main()
