"""One augmentation beside its slow reference, and the cases of erasing and mixing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.augment import Draws
from pipeline.augment.boxes import crop_boxes, cutout, random_erasing
from pipeline.augment.mix import blend, cutmix_boxes, partners, paste
from tests.augment import references as slow

LEVELS = torch.linspace(-1, 1, 13)
Operation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """One row: `ours` does a batch (13, C, H, W), `theirs` the same image by image."""

    tool: str
    parameter: str
    source: str
    reference: str
    ours: Operation
    theirs: Operation


def make_draws() -> Draws:
    return Draws(3, len(LEVELS))


def image_by_image(function: Callable[..., Tensor], images: Tensor, *values: Tensor) -> Tensor:
    """`function` of each image and its own value of each of `values`, stacked."""
    items = zip(images, *(value.tolist() for value in values), strict=True)
    return torch.stack([function(*item) for item in items])


def erased_and_mixed() -> Iterator[Case]:
    yield Case(
        "cutout",
        "`cutout`",
        "DeVries and Taylor 2017",
        "torchvision `erase`",
        lambda images: cutout(images, make_draws(), side=0.4),
        lambda images: image_by_image(slow.erase, images, _squares(images, 0.4)),
    )
    yield Case(
        "random erasing",
        "`erasing`",
        "Zhong et al. 2020",
        "torchvision `erase`",
        lambda images: random_erasing(images, make_draws(), chance=0.7),
        lambda images: image_by_image(slow.erase, images, _rectangles(images, 0.7)),
    )
    targets, own = torch.zeros(len(LEVELS), 1), make_draws().beta(1.0)
    yield Case(
        "MixUp",
        "`mix: mixup`, `mix_alpha`",
        "Zhang et al. 2018",
        "loop over images",
        lambda images: blend((images, targets), partners((images, targets)), own)[0],
        lambda images: torch.stack(
            [slow.mixup(*one) for one in zip(images, _partners(images), own.tolist(), strict=True)]
        ),
    )
    yield Case(
        "CutMix",
        "`mix: cutmix`, `mix_alpha`",
        "Yun et al. 2019",
        "loop over pixels",
        lambda images: paste((images, targets), partners((images, targets)), _cut(images))[0],
        lambda images: torch.stack(
            [
                slow.cutmix(image, other, box)
                for image, other, box in zip(
                    images, _partners(images), _cut(images).tolist(), strict=True
                )
            ]
        ),
    )


def _partners(images: Tensor) -> Tensor:
    return partners((images, images))[0]


def _squares(images: Tensor, side: float) -> Tensor:
    draws, (height, width) = make_draws(), images.shape[-2:]
    length = round(side * min(height, width))
    top, left = draws.integers(height) - length // 2, draws.integers(width) - length // 2
    return torch.stack((top, left, top + length, left + length), dim=1)


def _rectangles(images: Tensor, chance: float) -> Tensor:
    """The boxes drawn after each image's lot; an empty one where the lot is against it."""
    draws = make_draws()
    lots = draws.uniform()
    boxes = crop_boxes(draws, images.shape[-2], images.shape[-1], (0.02, 1 / 3), (0.3, 10 / 3))
    boxes[lots >= chance] = 0
    return boxes


def _cut(images: Tensor) -> Tensor:
    return cutmix_boxes(make_draws(), 1.0, images.shape[-2], images.shape[-1])
