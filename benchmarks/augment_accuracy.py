"""How far each augmentation is from its reference: python -m benchmarks.augment_accuracy

Writes the table of docs/methods.md, section "Augmentation".
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.augment_cases import LEVELS, Case, cases
from pipeline.files import write_text
from pipeline.progress import say

DOCUMENT = Path(__file__).parents[1] / "docs" / "methods.md"
START, END = "<!-- augmentation: start -->", "<!-- augmentation: end -->"
HEAD = (
    "| tool | parameter | source | tested against | largest difference, uint8 levels "
    "| of floats in [0, 1] |\n|---|---|---|---|---|---|\n"
)
SHAPES = ((1, 16, 16), (3, 20, 24), (3, 17, 13))  # channels, height, width


def main() -> None:
    """Measure and write."""
    torch.set_num_threads(1)
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    rows = [row(case, *differences(case)) for case in cases()]
    after = rest.partition(END)[2]
    write_text(DOCUMENT, f"{before}{START}\n{HEAD}{''.join(rows)}{END}{after}")
    say(f"{DOCUMENT}: {len(rows)} rows")


def differences(case: Case) -> tuple[float, float]:
    """The largest difference over all shapes and strengths: of uint8 levels, of floats."""
    most = [0.0, 0.0]
    for channels, height, width in SHAPES:
        images = example_images(channels, height, width)
        for kind, batch in enumerate((images, images.float() / 255)):
            gap = (case.ours(batch).double() - case.theirs(batch).double()).abs().max()
            most[kind] = max(most[kind], float(gap))
    return most[0], most[1]


def row(case: Case, levels: float, share: float) -> str:
    """A line of the table; the floats' difference is rounded up to one digit."""
    words = (case.tool, case.parameter, case.source, case.reference)
    return f"| {' | '.join(words)} | {levels:g} | {rounded_up(share)} |\n"


def rounded_up(value: float) -> str:
    """`value` with one digit, rounded up; differences under 1e-7 count as 1e-7."""
    if value == 0:
        return "0"
    value = max(value, 1e-7)
    unit = 10.0 ** math.floor(math.log10(value))
    return f"{math.ceil(value / unit - 1e-9) * unit:.0e}"


def example_images(channels: int, height: int, width: int) -> Tensor:
    """(13, C, H, W) uint8: smooth colours and some noise, each image another."""
    generator = torch.Generator().manual_seed(channels * height)
    coarse = torch.rand(len(LEVELS), channels, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    noise = torch.rand(smooth.shape, generator=generator)
    return ((0.85 * smooth + 0.15 * noise) * 255).round().to(torch.uint8)


if __name__ == "__main__":
    main()
