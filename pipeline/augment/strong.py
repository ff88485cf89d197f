"""The strong view of training: the weak one, then RandAugment, then cutout and erasing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pipeline.augment.draws import Draws
from pipeline.augment.erase import cutout as erase_square
from pipeline.augment.erase import random_erasing
from pipeline.augment.randaugment import Sampling, rand_augment
from pipeline.augment.weak import weak


def strong(
    images: Tensor,
    draws: Draws,
    *,
    shift: float,
    flip: bool,
    operations: Sequence[str],
    num_ops: int,
    magnitude: float,
    magnitude_std: float,
    cutout: float,
    padding: Literal["reflect", "zeros"] = "reflect",
    sampling: Sampling = "normal",
    distinct: bool = False,
    erasing: float = 0.0,
    crop: Literal["shift", "resized"] = "shift",
    crop_area: tuple[float, float] = (0.5, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Crop and mirror, do `num_ops` random operations, then erase a square and a rectangle.

    images: (N, C, H, W) float in [0, 1] or uint8; a new tensor is made. See `weak` and
    `rand_augment` for the parameters; `cutout`: side of the square, share of the image's, 0:
    none; `erasing`: chance of a random rectangle. Raises ParameterError for an unknown operation.
    """
    images = weak(
        images,
        draws,
        shift=shift,
        flip=flip,
        padding=padding,
        crop=crop,
        crop_area=crop_area,
        crop_ratio=crop_ratio,
    )
    if num_ops > 0:
        images = rand_augment(
            images,
            draws,
            operations=operations,
            num_ops=num_ops,
            magnitude=magnitude,
            magnitude_std=magnitude_std,
            sampling=sampling,
            distinct=distinct,
        )
    if cutout > 0:
        images = erase_square(images, draws, side=cutout)
    return random_erasing(images, draws, chance=erasing) if erasing > 0 else images
