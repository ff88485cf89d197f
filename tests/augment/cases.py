"""Every augmentation beside its slow reference: the rows of the table in docs/methods.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import torch
from torch import Tensor

from pipeline.augment import colour
from pipeline.augment.boxes import crop_boxes, resized_crop
from pipeline.augment.geometry import KNOTS
from pipeline.augment.randaugment import COLOUR, Plan, apply_plan, draw_plan
from pipeline.augment.views import move
from pipeline.params import AugmentParams
from tests.augment import references as slow
from tests.augment.mixing_cases import LEVELS, Case, erased_and_mixed, image_by_image, make_draws


def cases() -> Iterator[Case]:
    """Every row of the table, in order."""
    yield from _weak()
    yield from _geometric()
    yield from _colours()
    yield from erased_and_mixed()
    yield Case(
        "RandAugment",
        "`operations`, `num_ops`, `magnitude`, `magnitude_std`, `distinct_ops`",
        "Cubuk et al. 2020",
        "its operations one after the other",
        lambda images: apply_plan(images, _plan()),
        lambda images: torch.cat([_one_by_one(n, image[None]) for n, image in enumerate(images)]),
    )


# One geometric operation, which comes first: chains of them are fused into one resampling.
@lru_cache
def _plan() -> Plan:
    return draw_plan(
        make_draws(),
        AugmentParams(
            operations=("rotate", *COLOUR),
            num_ops=3,
            magnitude=15.0,
            magnitude_std=5.0,
            distinct_ops=True,
        ),
    )


def _one_by_one(number: int, image: Tensor) -> Tensor:
    plan = _plan()
    names = [plan.operations[k] for k in plan.indices[number].tolist()]
    drawn = list(zip(names, plan.levels[number].tolist(), strict=True))
    for name, level in sorted(drawn, key=lambda pair: pair[0] != "rotate"):
        image = slow.one_operation(name, image, level, plan, number)
    return image


def _weak() -> Iterator[Case]:
    right, down = (make_draws().integers(9, 2) - 4).unbind(1)
    mirrored = torch.arange(len(LEVELS)) % 2 == 0
    for padding in ("reflect", "zeros"):
        yield Case(
            f"mirror and random crop, {padding}",
            "`flip`, `crop: shift`, `shift`, `padding`",
            "Sohn et al. 2020",
            "torchvision `pad`, `crop`, `horizontal_flip`",
            partial(_moved, right, down, mirrored, padding),
            partial(_slowly_moved, right, down, mirrored, padding),
        )
    yield Case(
        "random resized crop",
        "`crop: resized`, `crop_area`, `crop_ratio`",
        "Szegedy et al. 2015",
        "torchvision `resized_crop`",
        lambda images: resized_crop(images, _boxes(images)),
        lambda images: image_by_image(
            lambda image, box: slow.resized_crop(image, box, image.shape[-2:]),
            images,
            _boxes(images),
        ),
    )


def _moved(right: Tensor, down: Tensor, mirrored: Tensor, padding: str, images: Tensor) -> Tensor:
    return move(images, right, down, mirrored, padding=padding)  # type: ignore[arg-type]


def _slowly_moved(
    right: Tensor, down: Tensor, mirrored: Tensor, padding: str, images: Tensor
) -> Tensor:
    def one(image: Tensor, x: int, y: int, turned: bool) -> Tensor:
        return slow.shift(image, x, y, mirrored=turned, padding=padding)

    return image_by_image(one, images, right, down, mirrored)


def _boxes(images: Tensor) -> Tensor:
    return crop_boxes(make_draws(), images.shape[-2], images.shape[-1], (0.1, 1.0), (0.75, 4 / 3))


def _against_torchvision(
    name: str, source: str, ours: Callable[[Tensor, Tensor], Tensor], strengths: Tensor
) -> Case:
    theirs = slow.TORCHVISION[name]
    called = {"rotate": "rotate", "posterize": "posterize", "solarize": "solarize"}
    affine = name.startswith(("shear", "translate", "scale"))
    adjusted = f"adjust_{name}" if name in ("brightness", "contrast", "saturation") else name
    adjusted = "adjust_sharpness" if name == "sharpness" else adjusted
    return Case(
        name.replace("_", " "),
        f"`{name}`",
        source,
        f"torchvision `{'affine' if affine else called.get(name, adjusted)}`",
        lambda images: ours(images, strengths),
        lambda images: image_by_image(theirs, images, strengths),
    )


def _geometric() -> Iterator[Case]:
    for name, argument, strengths in (
        ("rotate", "angle", LEVELS * 30),
        ("shear_x", "shear_x", LEVELS * 0.3),
        ("shear_y", "shear_y", LEVELS * 0.3),
        ("translate_x", "translate_x", (LEVELS * 10).round()),
        ("translate_y", "translate_y", (LEVELS * 10).round()),
        ("scale", "scale", 1.5**LEVELS),
    ):
        paper = "Cireşan et al. 2010" if name == "scale" else "Cubuk et al. 2020"
        yield _against_torchvision(name, paper, partial(_by_matrix, argument), strengths)
    yield Case(
        "perspective",
        "`perspective`",
        "Hartley and Zisserman 2004",
        "torchvision `perspective`",
        lambda images: slow.carried(images, *_centred(images)),
        lambda images: torch.stack(
            [slow.perspective(i, s, e) for i, s, e in zip(images, *_corners(images), strict=True)]
        ),
    )
    yield Case(
        "local warp",
        "`elastic`",
        "Simard et al. 2003",
        "loop over pixels",
        lambda images: slow.warped(images, _knots(), LEVELS.abs() * 2),
        lambda images: torch.stack(
            [slow.warp(image, _field(n, *image.shape[-2:])) for n, image in enumerate(images)]
        ),
    )


def _by_matrix(argument: str, images: Tensor, strengths: Tensor) -> Tensor:
    return slow.moved(images, **{argument: strengths})


def _corners(images: Tensor) -> tuple[Tensor, Tensor]:
    """Four points and where they go, whole pixels from the top left: (13, 4, 2) each."""
    height, width = images.shape[-2:]
    start = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]]).float()
    inward = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])
    end = start + inward * make_draws().integers(6, 4, 2)
    return start.expand_as(end), end


def _centred(images: Tensor) -> tuple[Tensor, Tensor]:
    middle = torch.tensor([images.shape[-1] / 2, images.shape[-2] / 2])
    start, end = _corners(images)
    return start - middle, end - middle


def _knots() -> Tensor:
    return make_draws().normal(2, KNOTS, KNOTS)


@lru_cache
def _field(number: int, height: int, width: int) -> Tensor:
    return slow.elastic_field(_knots()[number], float(LEVELS[number].abs()) * 2, height, width)


def _colours() -> Iterator[Case]:
    source, factors = "Cubuk et al. 2020", 1 + 0.9 * LEVELS
    for name in ("brightness", "contrast", "saturation", "sharpness"):
        yield _against_torchvision(name, source, getattr(colour, name), factors)
    bits, shares = (8 - 4 * LEVELS.abs()).round(), 1 - LEVELS.abs()
    yield _against_torchvision("posterize", source, colour.posterize, bits)
    yield _against_torchvision("solarize", source, colour.solarize, shares)
    yield _against_torchvision(
        "equalize", source, lambda images, _: colour.equalize(images), LEVELS
    )
    yield _against_torchvision(
        "autocontrast", source, lambda images, _: colour.autocontrast(images), LEVELS
    )
    amounts, axes = make_draws().signed(3) * 0.3, torch.tensor(colour.IMAGENET_AXES)
    yield Case(
        "colour shift",
        "`colour_shift`",
        "Wu et al. 2015",
        "loop over channels",
        lambda images: colour.colour_shift(images, amounts[:, : images.shape[1]]),
        lambda images: image_by_image(slow.colour_shift, images, amounts),
    )
    yield Case(
        "PCA colour shift",
        "`pca_colour_shift`",
        "Krizhevsky et al. 2012",
        "loop over channels and axes",
        lambda images: colour.pca_colour_shift(images, amounts),
        lambda images: image_by_image(
            lambda image, weights: (
                slow.pca_colour_shift(image, weights, axes) if len(image) == 3 else image
            ),
            images,
            amounts,
        ),
    )
