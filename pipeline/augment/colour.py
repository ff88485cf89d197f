"""Change colours in place of pixels: each operation takes one strength for each image.

images: (N, C, H, W), C 1 or 3, float in [0, 1] or uint8; the result has the same type and is a
new tensor. Strengths: (N,), on any device. Values are those of torchvision's functional
operations; what leaves the range is clipped.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601
# Principal axes of ImageNet's RGB values, one a column, times their standard deviations.
IMAGENET_AXES = (
    (-0.5675 * 0.2175, 0.7192 * 0.0188, 0.4009 * 0.0045),
    (-0.5808 * 0.2175, -0.0045 * 0.0188, -0.8140 * 0.0045),
    (-0.5836 * 0.2175, -0.6948 * 0.0188, 0.4203 * 0.0045),
)


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor`, 0 or more: 0 black, 1 unchanged."""
    return _clipped(_real(images) * _each(factor, images), images)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch about the image's mean grey by `factor`, 0 or more: 0 flat, 1 unchanged."""
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    return _blended(images, mean, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch colours away from grey by `factor`, 0 or more: 0 grey; one channel is unchanged."""
    if images.shape[1] == 1:
        return images.clone()
    return _blended(images, _grey(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch away from a 3 x 3 blur by `factor`, 0 or more: 0 blurred; edge pixels stay."""
    if min(images.shape[-2:]) <= 2:
        return images.clone()
    result = images.float() if images.dtype == torch.uint8 else images.clone()
    inner = result[..., 1:-1, 1:-1]
    blur = _box_sum(result).add_(inner, alpha=4).div_(13)
    if images.dtype == torch.uint8:
        blur.round_()
    inner += blur.sub_(inner).mul_(1 - _each(factor, images))
    return _clipped(result, images)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (0 to 8, whole) of each value's eight."""
    bits = bits.to(images.device).view(-1, 1, 1, 1)
    if images.dtype == torch.uint8:
        return images & (256 - 2 ** (8 - bits.long())).to(torch.uint8)
    levels = torch.exp2(bits.to(images.dtype))
    return torch.minimum((images * levels).floor_(), levels - 1).clamp_(min=0).div_(levels)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above `threshold`, a share of full white in [0, 1]."""
    bar = _each(threshold, images)
    if images.dtype == torch.uint8:
        # Exclusive or with 255 inverts; 0 - 1 is 255.
        inverted = images >= (bar * 255).ceil_().to(torch.uint8)
        return inverted.view(torch.uint8).neg_().bitwise_xor_(images)
    return torch.where(images >= bar, 1 - images, images)


def colour_shift(images: Tensor, amount: Tensor) -> Tensor:
    """Add `amount` (N, C), a share of full white, to each channel."""
    return _clipped(images + _each(amount, images) * _white(images), images)


def pca_colour_shift(images: Tensor, weights: Tensor, axes: Tensor | None = None) -> Tensor:
    """Shift RGB along its principal axes by `weights` (N, 3): AlexNet's (Krizhevsky et al. 2012).

    `axes`: (3, 3), one axis a column, times its standard deviation, shares of full white; None:
    ImageNet's. One channel is unchanged.
    """
    if images.shape[1] == 1:
        return images.clone()
    axes = torch.tensor(IMAGENET_AXES) if axes is None else axes
    # Not a matrix product, whose rounding depends on how many rows there are.
    return colour_shift(images, (weights[:, None, :] * axes.to(weights)).sum(dim=2))


def _each(strength: Tensor, images: Tensor) -> Tensor:
    """(N,) or (N, C) as a float that broadcasts over images."""
    dtype = images.dtype if images.is_floating_point() else torch.float32
    strength = strength.to(images.device, dtype)
    return strength.view(len(strength), -1, 1, 1)


def _real(images: Tensor) -> Tensor:
    """Floats of the same values; first, since arithmetic of mixed types is slower."""
    return images if images.is_floating_point() else images.float()


def _white(images: Tensor) -> float:
    return 255.0 if images.dtype == torch.uint8 else 1.0


def _clipped(values: Tensor, like: Tensor) -> Tensor:
    """`values` within the range and as the type of `like`; uint8 drops fractions."""
    values = values.clamp_(0, _white(like))
    return as_levels(values) if like.dtype == torch.uint8 else values.to(like.dtype)


def as_levels(values: Tensor) -> Tensor:
    """Floats in [0, 255] as uint8, fractions dropped.

    Through int16: on a CPU torch turns floats into bytes one by one, four times as slowly.
    """
    return values.to(torch.int16).to(torch.uint8)


def _blended(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = _each(factor, images)
    return _clipped((_real(images) * factor).add_(other * (1 - factor)), images)


def _grey(images: Tensor) -> Tensor:
    """Luminance: (N, 1, H, W) float; whole levels where images are uint8."""
    if images.shape[1] == 1:
        return _real(images)
    red, green, blue = _real(images).unbind(1)
    grey = (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])[:, None]
    return grey if images.is_floating_point() else grey.floor_()


def _box_sum(images: Tensor) -> Tensor:
    """The sum of each 3 x 3 neighbourhood: (N, C, H - 2, W - 2)."""
    rows = images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
