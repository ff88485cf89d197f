"""Slow, obvious references of the augmentations, one image at a time.

torchvision's functional operations where it has them, else loops written from the papers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from pipeline.augment import colour, geometry
from pipeline.augment.geometry import KNOTS, SMOOTHNESS
from pipeline.augment.randaugment import Plan

BILINEAR = InterpolationMode.BILINEAR
Slow = Callable[[Tensor, float], Tensor]


def degrees(tangent: float) -> float:
    """The angle of a tangent."""
    return math.degrees(math.atan(tangent))


def affine(image: Tensor, **values: object) -> Tensor:
    """torchvision's affine with what is not given left as it is, bilinear."""
    still = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]}
    result: Tensor = reference.affine(image, **(still | values), interpolation=BILINEAR)
    return result


TORCHVISION: dict[str, Slow] = {
    "rotate": lambda image, x: reference.rotate(image, x, interpolation=BILINEAR),
    "shear_x": lambda image, x: affine(image, shear=[degrees(x), 0.0]),
    "shear_y": lambda image, x: affine(image, shear=[0.0, degrees(x)]),
    "translate_x": lambda image, x: affine(image, translate=[x, 0]),
    "translate_y": lambda image, x: affine(image, translate=[0, x]),
    "scale": lambda image, x: affine(image, scale=x),
    "brightness": lambda image, x: reference.adjust_brightness(image, x),
    "contrast": lambda image, x: reference.adjust_contrast(image, x),
    "saturation": lambda image, x: reference.adjust_saturation(image, x),
    "sharpness": lambda image, x: reference.adjust_sharpness(image, x),
    "posterize": lambda image, bits: reference.posterize(image, int(bits)),
    "solarize": lambda image, share: reference.solarize(image, share),
    "equalize": lambda image, _: reference.equalize(image),
    "autocontrast": lambda image, _: reference.autocontrast(image),
}


def perspective(image: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """torchvision's perspective; start, end: (4, 2) whole pixels from the top left corner."""
    points = (start.int().tolist(), end.int().tolist())
    result: Tensor = reference.perspective(image, *points, interpolation=BILINEAR)
    return result


def resized_crop(image: Tensor, box: Sequence[int], size: Sequence[int]) -> Tensor:
    """torchvision's resized_crop; box: top, left, bottom, right."""
    top, left, bottom, right = box
    result: Tensor = reference.resized_crop(
        image, top, left, bottom - top, right - left, list(size), antialias=False
    )
    return result


def erase(image: Tensor, box: Sequence[int]) -> Tensor:
    """torchvision's erase with the image's mean colour; box may reach over the edge."""
    top, left = max(0, box[0]), max(0, box[1])
    bottom, right = min(image.shape[-2], box[2]), min(image.shape[-1], box[3])
    colour = image.double().mean(dim=(1, 2)).to(image.dtype)[:, None, None]
    result: Tensor = reference.erase(image, top, left, bottom - top, right - left, colour)
    return result


def shift(image: Tensor, right: int, down: int, *, mirrored: bool, padding: str) -> Tensor:
    """Pad all round, cut the window out, mirror it."""
    height, width = image.shape[-2:]
    most = max(abs(right), abs(down))
    mode = "reflect" if padding == "reflect" else "constant"
    wide = reference.pad(image, [most] * 4, padding_mode=mode)
    cut: Tensor = reference.crop(wide, most - down, most - right, height, width)
    return reference.horizontal_flip(cut) if mirrored else cut


def colour_shift(image: Tensor, amount: Sequence[float]) -> Tensor:
    """Add to every value of each channel, and clip."""
    result = image.clone()
    for channel in range(image.shape[0]):
        result[channel] = (image[channel].double() + amount[channel]).clamp(0, 1)
    return result


def pca_colour_shift(image: Tensor, weights: Sequence[float], axes: Tensor) -> Tensor:
    """Add [p1 p2 p3] [a1 l1, a2 l2, a3 l3]^T (Krizhevsky et al. 2012, sec. 4.1)."""
    amount = [sum(float(axes[c, k]) * weights[k] for k in range(3)) for c in range(3)]
    return colour_shift(image, amount)


def elastic_field(knots: Tensor, strength: float, height: int, width: int) -> Tensor:
    """One image's field: every pixel sums every knot under a normalised Gaussian weight."""
    places = [(j, i) for j in range(KNOTS) for i in range(KNOTS)]
    vectors = [[float(knots[axis, j, i]) for j, i in places] for axis in range(2)]
    field = torch.zeros(2, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            weights = []
            for j, i in places:
                down = y / (height - 1) - j / (KNOTS - 1)
                across = x / (width - 1) - i / (KNOTS - 1)
                weights.append(math.exp(-(down**2 + across**2) / (2 * SMOOTHNESS**2)))
            norm = math.sqrt(sum(weight**2 for weight in weights))
            for axis in range(2):
                total = sum(w * v for w, v in zip(weights, vectors[axis], strict=True))
                field[axis, y, x] = strength * total / norm
    return field


def warp(image: Tensor, field: Tensor) -> Tensor:
    """Each output pixel takes the input at its place plus the field, bilinearly, black outside."""
    height, width = image.shape[-2:]
    values, moved = image.tolist(), field.tolist()
    result = torch.zeros(image.shape, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            at_x, at_y = x + moved[0][y][x], y + moved[1][y][x]
            sums = [0.0] * len(values)
            for j in (math.floor(at_y), math.floor(at_y) + 1):
                for i in (math.floor(at_x), math.floor(at_x) + 1):
                    if 0 <= j < height and 0 <= i < width:
                        share = (1 - abs(at_x - i)) * (1 - abs(at_y - j))
                        for channel, plane in enumerate(values):
                            sums[channel] += share * plane[j][i]
            result[:, y, x] = torch.tensor(sums, dtype=torch.float64)
    return result


def mixup(image: Tensor, other: Tensor, own: float) -> Tensor:
    """own x + (1 - own) x' (Zhang et al. 2018, sec. 2)."""
    return own * image.double() + (1 - own) * other.double()


def cutmix(image: Tensor, other: Tensor, box: Sequence[int]) -> Tensor:
    """Pixel by pixel, the other's inside the box (Yun et al. 2019, eq. 1)."""
    result = image.clone()
    for y in range(box[0], box[2]):
        for x in range(box[1], box[3]):
            result[:, y, x] = other[:, y, x]
    return result


def moved(images: Tensor, **strength: Tensor) -> Tensor:
    """Our resampling by one affine operation; strength: (N,)."""
    return geometry.resample(images, geometry.affine_matrix(**strength))


def carried(images: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Our resampling by a perspective; start, end: (N, 4, 2) pixels from the centre."""
    return geometry.resample(images, geometry.perspective_matrix(start, end), projective=True)


def warped(images: Tensor, knots: Tensor, strength: Tensor) -> Tensor:
    """Our resampling by smooth displacements; knots: (N, 2, K, K); strength: (N,) pixels."""
    field = geometry.displacement(knots, strength, *images.shape[-2:])
    still = geometry.affine_matrix(scale=torch.ones(len(images)))
    return geometry.resample(images, still, displacement=field)


def one_operation(name: str, image: Tensor, level: float, plan: Plan, number: int) -> Tensor:
    """One operation of RandAugment on one image (1, C, H, W), through the public functions.

    `level`: signed, in [-1, 1]; what else it needs is that of image `number` of the plan.
    """
    height, width = image.shape[-2:]
    signed, size = torch.tensor([level]), torch.tensor([abs(level)])
    colours = torch.zeros(1, 3) if plan.colours is None else plan.colours[number : number + 1]
    cases: dict[str, Callable[[], Tensor]] = {
        "identity": lambda: image,
        "rotate": lambda: moved(image, angle=signed * 30),
        "shear_x": lambda: moved(image, shear_x=signed * 0.3),
        "shear_y": lambda: moved(image, shear_y=signed * 0.3),
        "translate_x": lambda: moved(image, translate_x=signed * width * 150 / 331),
        "translate_y": lambda: moved(image, translate_y=signed * height * 150 / 331),
        "scale": lambda: moved(image, scale=1.5**signed),
        "perspective": lambda: carried(image, *_inward(plan, number, level, image)),
        "brightness": lambda: colour.brightness(image, 1 + 0.9 * signed),
        "contrast": lambda: colour.contrast(image, 1 + 0.9 * signed),
        "saturation": lambda: colour.saturation(image, 1 + 0.9 * signed),
        "sharpness": lambda: colour.sharpness(image, 1 + 0.9 * signed),
        "posterize": lambda: colour.posterize(image, 8 - (4 * size).round()),
        "solarize": lambda: colour.solarize(image, 1 - size),
        "equalize": lambda: colour.equalize(image),
        "autocontrast": lambda: colour.autocontrast(image),
        "colour_shift": lambda: colour.colour_shift(
            image, 0.3 * level * colours[:, : image.shape[1]]
        ),
        "pca_colour_shift": lambda: colour.pca_colour_shift(image, level * colours),
    }
    return cases[name]()


def _inward(plan: Plan, number: int, level: float, image: Tensor) -> tuple[Tensor, Tensor]:
    """The image's corners, and each moved towards the centre by up to half of the way."""
    assert plan.corners is not None
    x, y = image.shape[-1] / 2, image.shape[-2] / 2
    start = torch.tensor([[[-x, -y], [x, -y], [x, y], [-x, y]]])
    return start, start * (1 - 0.5 * abs(level) * plan.corners[number])
