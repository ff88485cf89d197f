"""RandAugment (Cubuk et al. 2020) for whole batches, each image with its own operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pipeline.augment import colour
from pipeline.augment.draws import Draws
from pipeline.augment.geometry import (
    KNOTS,
    affine_matrix,
    displacement,
    perspective_matrix,
    resample,
)
from pipeline.augment.warp import Warp
from pipeline.params import AugmentParams

CACHED_VALUES = 1 << 18  # values worked on at once by a CPU
MAGNITUDES = 30.0  # the strongest magnitude; levels are magnitudes divided by it

# What a geometric operation does at a level of 1; the sign of a level is its direction.
DEGREES = 30.0
SHEAR = 0.3
TRANSLATION = 150 / 331  # share of the side
ENLARGEMENT = 1.5
DISTORTION = 0.5  # of perspective: how far corners move in, share of half the side
WARP = 0.09  # of elastic: standard deviation, share of the side; Simard et al. use 0.048
GEOMETRY = (
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "scale",
    "perspective",
    "elastic",
)

NEED_COLOURS = {"colour_shift", "pca_colour_shift"}  # a number a channel beside their level
ColourOperation = Callable[[Tensor, Tensor, Tensor], Tensor]
# Each takes images, signed levels (N,) in [-1, 1], and three numbers (N, 3) in [-1, 1).
COLOUR: dict[str, ColourOperation] = {
    "brightness": lambda images, level, _: colour.brightness(images, 1 + 0.9 * level),
    "contrast": lambda images, level, _: colour.contrast(images, 1 + 0.9 * level),
    "saturation": lambda images, level, _: colour.saturation(images, 1 + 0.9 * level),
    "sharpness": lambda images, level, _: colour.sharpness(images, 1 + 0.9 * level),
    "posterize": lambda images, level, _: colour.posterize(images, 8 - (4 * level.abs()).round()),
    "solarize": lambda images, level, _: colour.solarize(images, 1 - level.abs()),
    "equalize": lambda images, level, _: colour.equalize(images),
    "autocontrast": lambda images, level, _: colour.autocontrast(images),
    "colour_shift": lambda images, level, extra: colour.colour_shift(
        images, 0.3 * level[:, None] * extra[:, : images.shape[1]]
    ),
    "pca_colour_shift": lambda images, level, extra: colour.pca_colour_shift(
        images, level[:, None] * extra
    ),
}
OPERATIONS = ("identity", *GEOMETRY, *COLOUR)


@dataclass(frozen=True)
class Plan:
    """What RandAugment does to each of N images, on the CPU.

    indices: (N, num_ops) positions in `operations`; levels: (N, num_ops) in [-1, 1]; knots:
    (N, 2, K, K) for elastic; corners: (N, 4, 2) in [0, 1) for perspective; colours: (N, 3) in
    [-1, 1) for the colour shifts. The last three are None where no operation needs them.
    """

    operations: tuple[str, ...]
    indices: Tensor
    levels: Tensor
    knots: Tensor | None
    corners: Tensor | None
    colours: Tensor | None

    def level_of(self, operation: str) -> Tensor:
        """The level where `operation` was drawn, 0 elsewhere: (N, num_ops)."""
        if operation not in self.operations:
            return torch.zeros_like(self.levels)
        return self.levels * (self.indices == self.operations.index(operation))


def rand_augment(
    images: Tensor, draws: Draws, params: AugmentParams, warp: Warp | None = None
) -> Tensor:
    """Do `num_ops` random operations to each image, each in a random direction.

    `magnitude`: 0 to 30 on torchvision's scale; `magnitude_sampling`: normal, about it with
    `magnitude_std`, or uniform, between 0 and it; `distinct_ops`: no operation twice for one image.
    All geometric operations of an image are fused into one resampling, which comes before all of
    its colour operations; those are done in the order drawn. `warp` records how the pixels move.
    """
    return apply_plan(images, draw_plan(draws, params), warp)


def draw_plan(draws: Draws, params: AugmentParams) -> Plan:
    """Draw operations and signed levels; what is drawn depends on the parameters alone."""
    operations = params.operations
    if params.distinct_ops:
        indices = draws.uniform(len(operations)).argsort(dim=1)[:, : params.num_ops]
    else:
        indices = draws.integers(len(operations), params.num_ops)
    sign = draws.integers(2, indices.shape[1]) * 2 - 1
    magnitudes = torch.full(indices.shape, params.magnitude)
    if params.magnitude_sampling == "uniform":
        magnitudes = magnitudes * draws.uniform(indices.shape[1])
    elif params.magnitude_std > 0:
        magnitudes = magnitudes + params.magnitude_std * draws.normal(indices.shape[1])
    return Plan(
        operations=operations,
        indices=indices,
        levels=magnitudes.clamp_(0, MAGNITUDES) / MAGNITUDES * sign,
        knots=draws.normal(2, KNOTS, KNOTS) if "elastic" in operations else None,
        corners=draws.uniform(4, 2) if "perspective" in operations else None,
        colours=draws.signed(3) if NEED_COLOURS & set(operations) else None,
    )


def apply_plan(images: Tensor, plan: Plan, warp: Warp | None = None) -> Tensor:
    """Do to each image what `plan` says; see rand_augment."""
    images = images.clone()
    _warp(images, plan, warp)
    _recolour(images, plan)
    return images


def _warp(images: Tensor, plan: Plan, record: Warp | None) -> None:
    """Resample, in place, the images that drew a geometric operation."""
    height, width = images.shape[-2:]
    geometric = torch.tensor([name in GEOMETRY for name in plan.operations])
    rows = geometric[plan.indices].any(dim=1).nonzero().squeeze(1)
    matrices = _matrices(plan, height, width)
    warps = plan.level_of("elastic").abs().sum(1) * (WARP * min(height, width))
    if record is not None:
        record.resample(matrices, plan.knots, warps)

    def warped(part: Tensor, rows: Tensor) -> Tensor:
        field = None
        if plan.knots is not None:
            knots = plan.knots[rows].to(images.device)
            field = displacement(knots, warps[rows], height, width)
        projective = plan.corners is not None
        return resample(part, matrices[rows], displacement=field, projective=projective)

    _change(images, rows, warped)


def _matrices(plan: Plan, height: int, width: int) -> Tensor:
    """The product of each image's matrices, in the order drawn: (N, 3, 3)."""
    count, num_ops = plan.indices.shape
    each = affine_matrix(
        angle=plan.level_of("rotate").flatten() * DEGREES,
        shear_x=plan.level_of("shear_x").flatten() * SHEAR,
        shear_y=plan.level_of("shear_y").flatten() * SHEAR,
        translate_x=plan.level_of("translate_x").flatten() * (TRANSLATION * width),
        translate_y=plan.level_of("translate_y").flatten() * (TRANSLATION * height),
        scale=torch.exp(plan.level_of("scale").flatten() * math.log(ENLARGEMENT)),
    ).view(count, num_ops, 3, 3)
    if plan.corners is not None:
        is_perspective = plan.indices == plan.operations.index("perspective")
        distorted = _perspectives(plan, plan.corners, height, width)
        each = torch.where(is_perspective[:, :, None, None], distorted, each)
    product = each[:, 0]
    for slot in range(1, num_ops):
        product = product @ each[:, slot]
    return product


def _perspectives(plan: Plan, corners: Tensor, height: int, width: int) -> Tensor:
    """The corners of the image moved inward by up to the level's distortion: (N, num_ops, 3, 3)."""
    signs = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    start = signs * torch.tensor([width / 2, height / 2])
    inward = plan.level_of("perspective").abs()[..., None, None] * DISTORTION * corners[:, None]
    end = start * (1 - inward)
    matrices = perspective_matrix(start.expand_as(end).flatten(0, 1), end.flatten(0, 1))
    return matrices.view(*end.shape[:2], 3, 3)


def _recolour(images: Tensor, plan: Plan) -> None:
    """Do the colour operations, in place and in the order drawn, each to those that drew it."""
    extra = torch.zeros(len(images), 3) if plan.colours is None else plan.colours
    for levels, indices in zip(plan.levels.unbind(1), plan.indices.unbind(1), strict=True):
        for number, name in enumerate(plan.operations):
            if name in COLOUR:
                rows = (indices == number).nonzero().squeeze(1)
                _change(images, rows, partial(_coloured, COLOUR[name], levels, extra))


def _coloured(
    operation: ColourOperation, levels: Tensor, extra: Tensor, part: Tensor, rows: Tensor
) -> Tensor:
    return operation(part, levels[rows], extra[rows])


def _change(images: Tensor, rows: Tensor, change: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Replace the images `rows` by `change(images[rows], rows)`, on a CPU in cache-sized pieces."""
    size = len(images)
    if images.device.type == "cpu":
        size = max(1, CACHED_VALUES // images[0].numel())
    for piece in torch.split(rows, size) if len(rows) else ():
        here = piece.to(images.device)
        images.index_put_((here,), change(images.index_select(0, here), piece))
