"""Change colours in place of pixels: each operation takes one strength for each image.

images: (N, C, H, W) float in [0, 1], C 1 or 3; the result is a new tensor. Strengths: (N,), on any
device. Values are those of torchvision's functional operations; what leaves the range is clipped.
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
    return (images * _each(factor, images)).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch about the image's mean grey by `factor`, 0 or more: 0 flat, 1 unchanged."""
    return _blended(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch colours away from grey by `factor`, 0 or more: 0 grey; one channel is unchanged."""
    return images.clone() if images.shape[1] == 1 else _blended(images, _grey(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Stretch away from a 3 x 3 blur by `factor`, 0 or more: 0 blurred; edge pixels stay."""
    result = images.clone()
    if min(images.shape[-2:]) <= 2:
        return result
    inner = result[..., 1:-1, 1:-1]
    rows = images[..., :-2, :] + images[..., 1:-1, :] + images[..., 2:, :]
    around = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    blur = around.add_(inner, alpha=4).div_(13)
    inner += blur.sub_(inner).mul_(1 - _each(factor, images))
    return result.clamp_(0, 1)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest `bits` (0 to 8, whole) of each value's eight."""
    levels = torch.exp2(_each(bits, images))
    return torch.minimum((images * levels).floor_(), levels - 1).clamp_(min=0).div_(levels)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above `threshold` in [0, 1]."""
    return torch.where(images >= _each(threshold, images), 1 - images, images)


def colour_shift(images: Tensor, amount: Tensor) -> Tensor:
    """Add `amount` (N, C) to each channel."""
    return (images + _each(amount, images)).clamp_(0, 1)


def pca_colour_shift(images: Tensor, weights: Tensor) -> Tensor:
    """Shift RGB along ImageNet's principal axes by `weights` (N, 3): AlexNet's (Krizhevsky et al.
    2012). One channel is unchanged."""
    if images.shape[1] == 1:
        return images.clone()
    axes = torch.tensor(IMAGENET_AXES).to(weights)
    # Not a matrix product, whose rounding depends on how many rows there are.
    return colour_shift(images, (weights[:, None, :] * axes).sum(dim=2))


def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel so that its darkest value is black and its brightest white.

    A channel of one value is unchanged.
    """
    low = images.amin(dim=(2, 3), keepdim=True)
    high = images.amax(dim=(2, 3), keepdim=True)
    flat = high == low
    scale = 1 / (high - low).masked_fill(flat, 1)
    return (images - low.masked_fill(flat, 0)).mul_(scale).clamp_(0, 1)


def equalize(images: Tensor) -> Tensor:
    """Spread each channel's values, brought to 256 levels, evenly over the range.

    By the rule of Pillow's ImageOps.equalize. A channel whose values leave no step between levels
    is unchanged.
    """
    channels = images.shape[0] * images.shape[1]
    # Where each value stands in a row of 256 levels for every channel, one after the other.
    rows = torch.arange(0, 256 * channels, 256, dtype=torch.int32, device=images.device)
    places = ((images * 255.999).int() + rows.view(*images.shape[:2], 1, 1)).flatten()
    counts = _counts(places, 256 * channels).view(-1, 256)
    total = counts.cumsum(1)
    brightest = total.argmax(1, keepdim=True)
    step = (total[:, -1:] - counts.gather(1, brightest)).div_(255, rounding_mode="floor")
    # A level's new value counts the pixels darker than it.
    spread = (total - counts + step // 2).div_(step.clamp(min=1), rounding_mode="floor")
    same = torch.arange(256, device=counts.device)
    table = torch.where(step > 0, spread.clamp_(0, 255), same).to(images.dtype).div_(255)
    return table.flatten().index_select(0, places).view_as(images)


def _counts(places: Tensor, length: int) -> Tensor:
    """How often each of 0 … length - 1 occurs: (length,) int64."""
    if places.device.type == "cpu":
        return torch.bincount(places, minlength=length)
    counts = places.new_zeros(length, dtype=torch.int64)  # bincount waits for the GPU
    return counts.index_add_(0, places, counts.new_ones(1).expand(len(places)))


def _each(strength: Tensor, images: Tensor) -> Tensor:
    """(N,) or (N, C) as numbers that broadcast over images."""
    return strength.to(images).view(len(strength), -1, 1, 1)


def _blended(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    factor = _each(factor, images)
    return (images * factor).add_(other * (1 - factor)).clamp_(0, 1)


def _grey(images: Tensor) -> Tensor:
    """Luminance: (N, 1, H, W)."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images.unbind(1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])[:, None]
