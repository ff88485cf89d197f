"""Common corruptions at five severities, computed on the fly.

After Hendrycks & Dietterich 2019 ("Benchmarking Neural Network Robustness to Common Corruptions
and Perturbations"), written anew for images of any side: lengths are shares of the side, so that
small images suffer as much as large ones. Their frost is overlaid photographs; here snow stands for
both. Figures can be compared between models, not with published ones.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pipeline.augment.colour import saturation
from pipeline.augment.geometry import KNOTS, affine_matrix, displacement, resample
from pipeline.errors import ParameterError

SEVERITIES = (1, 2, 3, 4, 5)
BLUR_STEPS = 11  # images averaged along a motion or a zoom
FOG_GRIDS = (2, 4, 8, 16)  # knots along a side, each grid half as strong as the one before
Corruption = Callable[[Tensor, float, torch.Generator], Tensor]


def gaussian_noise(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Add normal noise."""
    return images + std * torch.randn(images.shape, generator=generator)


def shot_noise(images: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Count photons, so many on average where the image is white."""
    return torch.poisson(images * photons, generator=generator) / photons


def impulse_noise(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set that share of the values to black or white, either as often."""
    chance = torch.rand(images.shape, generator=generator)
    black = torch.where(chance < share / 2, 0.0, images)
    return torch.where(chance >= 1 - share / 2, 1.0, black)


def speckle_noise(images: Tensor, std: float, generator: torch.Generator) -> Tensor:
    """Add normal noise that grows with the value."""
    return images + images * std * torch.randn(images.shape, generator=generator)


def defocus_blur(images: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Average over a disc; radius: what it has beyond half a pixel, share of the side."""
    pixels = 0.5 + radius * images.shape[-1]
    radius = int(pixels + 0.5)
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    distance = (steps[:, None].square() + steps.square()).sqrt()
    disc = (pixels + 0.5 - distance).clamp(0, 1)
    kernel = (disc / disc.sum()).expand(images.shape[1], 1, -1, -1)
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    return F.conv2d(padded, kernel, groups=images.shape[1])


def motion_blur(images: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Average along a line in a direction of its own for each image; length: share of the side."""
    angle = torch.pi * torch.rand(len(images), generator=generator)
    return _moved(images, angle, length * images.shape[-1])


def zoom_blur(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Average over enlargements about the centre from 1 to `factor`."""
    total = torch.zeros_like(images)
    for scale in torch.linspace(1, factor, BLUR_STEPS):
        total += resample(images, affine_matrix(scale=scale.expand(len(images))), padding="border")
    return total / BLUR_STEPS


def fog(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Add clouds and take the range back to what it was."""
    clouds = _clouds(len(images), images.shape[-1], generator)
    return (images + strength * clouds) / (1 + strength)


def snow(images: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Whiten, and let a flake fall at that share of the pixels, blurred by its fall."""
    flakes = torch.rand((len(images), 1, *images.shape[-2:]), generator=generator) < density
    slant = torch.pi * (0.25 + 0.5 * torch.rand(len(images), generator=generator))
    falling = 2 * _moved(flakes.float(), slant, 0.15 * images.shape[-1])
    return images + 4 * density * (1 - images) + falling


def brightness(images: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Add to every value."""
    return images + amount


def contrast(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Shrink the distance to each channel's mean."""
    mean = images.mean(dim=(-2, -1), keepdim=True)
    return mean + factor * (images - mean)


def saturate(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Stretch colours away from grey; a grey image stays as it is."""
    return saturation(images, torch.full((len(images),), factor))


def elastic(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Warp locally; strength: standard deviation of the displacements, share of the side."""
    knots = torch.randn((len(images), 2, KNOTS, KNOTS), generator=generator)
    side = images.shape[-1]
    field = displacement(knots, torch.full((len(images),), strength * side), side, side)
    still = affine_matrix(scale=torch.ones(len(images)))
    return resample(images, still, displacement=field, padding="border")


def pixelate(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Shrink to that share of the side, and enlarge as squares."""
    side = max(1, round(share * images.shape[-1]))
    small = F.interpolate(images, (side, side), mode="area")
    return F.interpolate(small, images.shape[-2:], mode="nearest-exact")


def jpeg(images: Tensor, quality: float, generator: torch.Generator) -> Tensor:
    """Encode at that quality, 1 to 95, and decode."""
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    decoded = []
    for image in pixels:
        file = io.BytesIO()
        whole = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        whole.save(file, "JPEG", quality=int(quality))
        with Image.open(file) as read:
            decoded.append(np.asarray(read).reshape(image.shape))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float() / 255


# What each does and its strength at severities 1 to 5.
CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, float, float, float, float]]] = {
    "gaussian_noise": (gaussian_noise, (0.06, 0.1, 0.14, 0.2, 0.28)),
    "shot_noise": (shot_noise, (100, 50, 25, 12, 6)),
    "impulse_noise": (impulse_noise, (0.02, 0.04, 0.07, 0.11, 0.16)),
    "speckle_noise": (speckle_noise, (0.12, 0.2, 0.3, 0.42, 0.55)),
    "defocus_blur": (defocus_blur, (0.02, 0.03, 0.045, 0.06, 0.075)),
    "motion_blur": (motion_blur, (0.1, 0.15, 0.2, 0.27, 0.35)),
    "zoom_blur": (zoom_blur, (1.1, 1.17, 1.25, 1.35, 1.45)),
    "fog": (fog, (0.3, 0.6, 0.9, 1.3, 1.8)),
    "snow": (snow, (0.008, 0.017, 0.03, 0.045, 0.065)),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.6, 0.45, 0.3, 0.2, 0.1)),
    "saturate": (saturate, (0.4, 0.1, 2, 4, 8)),
    "elastic": (elastic, (0.015, 0.025, 0.035, 0.045, 0.06)),
    "pixelate": (pixelate, (0.75, 0.6, 0.5, 0.4, 0.3)),
    "jpeg": (jpeg, (50, 30, 20, 12, 8)),
}
COLOUR_ONLY = ("saturate",)


def corruption_names(channels: int) -> list[str]:
    """The corruptions that change images of so many channels, in order."""
    return [name for name in CORRUPTIONS if channels == 3 or name not in COLOUR_ONLY]


def corrupt(images: Tensor, name: str, severity: int, generator: torch.Generator) -> Tensor:
    """`images` (N, C, S, S) uint8 on the CPU, corrupted; a new tensor of the same kind.

    severity: 1 (slight) to 5. Raises ParameterError for an unknown name or severity.
    """
    if name not in CORRUPTIONS:
        raise ParameterError(f"corruption = {name!r}: there are {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise ParameterError(f"severity = {severity}: must be 1 to 5")
    if not len(images):
        return images.clone()
    change, strengths = CORRUPTIONS[name]
    changed = change(images.float() / 255, strengths[severity - 1], generator)
    return (changed * 255).round().clamp(0, 255).byte()


def _moved(images: Tensor, angle: Tensor, length: float) -> Tensor:
    """The average along lines of `length` pixels in the direction `angle` (N,) radians."""
    total = torch.zeros_like(images)
    for place in torch.linspace(-0.5, 0.5, BLUR_STEPS).tolist():
        across, down = place * length * angle.cos(), place * length * angle.sin()
        shift = affine_matrix(translate_x=across, translate_y=down)
        total += resample(images, shift, padding="border")
    return total / BLUR_STEPS


def _clouds(count: int, side: int, generator: torch.Generator) -> Tensor:
    """Random clouds (count, 1, side, side), each from 0 to 1: noise on ever finer grids."""
    total = torch.zeros(count, 1, side, side)
    for octave, grid in enumerate(FOG_GRIDS):
        knots = torch.rand((count, 1, grid, grid), generator=generator)
        size = (side, side)
        total += F.interpolate(knots, size, mode="bilinear", align_corners=True) / 2**octave
    low, high = total.amin(dim=(-2, -1), keepdim=True), total.amax(dim=(-2, -1), keepdim=True)
    return (total - low) / (high - low).clamp(min=1e-6)
