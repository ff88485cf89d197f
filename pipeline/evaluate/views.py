"""Look at an image in several ways and average what the network says (test-time views).

Crops translate: where the network takes the stored size S, the image is first widened by round(S/8)
pixels on each side that repeat its border, and windows of S × S are taken from the corners and the
centre, after Krizhevsky et al. 2012, sec. 4.1. Where it takes less, its windows lie inside.
Scales shrink and enlarge the stored image by round(S/16) pixels on each side, about an eighth in
all, and look at its centre; what a shrunk image leaves free repeats its border. No view but `flip`
and `ten_crop` mirrors: whether a mirrored image keeps its class is for the user to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.augment import Draws, jitter
from pipeline.data.tensors import Images
from pipeline.errors import ModelError, ParameterError
from pipeline.models.passes import Passes, choose_passes, laid_out, run_pass
from pipeline.progress import Advance

VIEWS = ("centre", "flip", "five_crop", "ten_crop", "multi_scale", "jitter")
# Jitter is drawn for so many consecutive images at a time, wherever batches begin and end.
DRAW_BLOCK = 1024


def num_views(name: str, jitter_views: int = 8) -> int:
    """How many forward passes an image takes; raises ParameterError for an unknown name."""
    counts = {"centre": 1, "flip": 2, "five_crop": 5, "ten_crop": 10, "multi_scale": 3}
    counts["jitter"] = jitter_views
    if name not in counts:
        raise ParameterError(f"views = {name!r}: there are {', '.join(VIEWS)}")
    return counts[name]


def views(
    images: Tensor,
    name: str,
    *,
    crop_size: int | None = None,
    jitter_views: int = 8,
    seed: int = 0,
    start: int = 0,
    alike: bool = False,
) -> Iterator[Tensor]:
    """Yield the views of a batch one by one, each (N, C, crop_size, crop_size).

    images: (N, C, S, S) float in [0, 1]; crop_size: None for S; start: the first image's number in
    a larger set, so that the draws of `jitter` do not depend on the batch size; alike: `jitter`
    moves every image in the same way, so that what is said of one depends on no other.
    Raises ParameterError for an unknown name, ModelError where crop_size is over S.
    """
    num_views(name, jitter_views)
    side = images.shape[-1] if crop_size is None else crop_size
    if side > images.shape[-1]:
        raise ModelError(
            f"the network takes images of {side} pixels, but they are stored with "
            f"{images.shape[-1]}; data.image_size must be at least {side}"
        )
    centre = _centre(images, side)
    if name in ("centre", "flip"):
        yield centre
        if name == "flip":
            yield centre.flip(-1)
    elif name == "multi_scale":
        yield from (centre, *_scales(images, side))
    elif name == "jitter":
        for view in range(jitter_views):
            yield _alike(centre, seed, view) if alike else _jittered(centre, seed, view, start)
    else:
        for crop in _five_crops(images, side):
            yield crop
            if name == "ten_crop":
                yield crop.flip(-1)


def predict_log_probs(
    network: nn.Module,
    images: Images | NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    temperature: float = 1.0,
    view: str = "centre",
    crop_size: int | None = None,
    jitter_views: int = 8,
    seed: int = 0,
    start: int = 0,
    alike: bool = False,
    batch_size: int = 512,
    passes: Passes | None = None,
    device: str | torch.device = "cpu",
    advance: Advance | None = None,
) -> NDArray[np.float32]:
    """Log of the mean over the views of softmax(logits / temperature), (N, K).

    images: (N, C, S, S) uint8; mean, std: of each channel, on the scale of [0, 1]; view: one of
    VIEWS; start, alike: see views; `advance` is told the images done. The network, already on
    `device`, runs in evaluation mode and is left in the mode it was in. No images give an array
    of shape (0, 0). batch_size: most images of a pass; passes: how they run, None: as suits so many
    images, in float32.
    """
    shift, scale = (_per_channel(values, device) for values in (mean, std))
    parts: list[Tensor] = []
    was_training = network.training
    network.eval()
    try:
        if passes is None and len(images):
            shape = (len(mean), *(crop_size or side for side in images[:1].shape[-2:]))
            count = len(images) * num_views(view, jitter_views)
            passes = choose_passes(network, shape, count, most=batch_size)
        passes = passes or Passes()
        batch_size = passes.images or batch_size
        with laid_out(network, passes), torch.inference_mode():
            for at in range(0, len(images), batch_size):
                batch = _scaled(images[at : at + batch_size], device)
                seen = views(
                    batch,
                    view,
                    crop_size=crop_size,
                    jitter_views=jitter_views,
                    seed=seed,
                    start=start + at,
                    alike=alike,
                )
                shown = ((crop - shift) / scale for crop in seen)
                parts.append(_mean_log_probs(network, shown, temperature, passes).cpu())
                if advance is not None:
                    advance(len(batch))
    finally:
        network.train(was_training)
    result = torch.cat(parts) if parts else torch.zeros(0, 0)
    return np.asarray(result.numpy(), dtype=np.float32)


def _per_channel(values: Sequence[float], device: str | torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)


def _scaled(images: Tensor | NDArray[np.uint8], device: str | torch.device) -> Tensor:
    """uint8 images as float in [0, 1] on `device`; an array may be read-only, so it is copied."""
    batch = images if isinstance(images, Tensor) else torch.from_numpy(images.copy())
    return batch.to(device).float() / 255


def _mean_log_probs(
    network: nn.Module, shown: Iterator[Tensor], temperature: float, passes: Passes
) -> Tensor:
    """Log of the mean probability over normalised views; stays finite where it would underflow."""
    total, count = None, 0
    for view in shown:
        log_probs = F.log_softmax(run_pass(network, view, passes) / temperature, dim=1)
        total = log_probs if total is None else torch.logaddexp(total, log_probs)
        count += 1
    assert total is not None  # every name has a view
    return total - math.log(count)


def _centre(images: Tensor, side: int) -> Tensor:
    offset = (images.shape[-1] - side) // 2
    return images[..., offset : offset + side, offset : offset + side]


def _five_crops(images: Tensor, side: int) -> Iterator[Tensor]:
    """The centre and the four corners, (N, C, side, side) each."""
    yield _centre(images, side)
    if side == images.shape[-1]:
        margin = max(1, round(side / 8))
        images = F.pad(images, (margin, margin, margin, margin), mode="replicate")
    last = images.shape[-1] - side
    for top, left in ((0, 0), (0, last), (last, 0), (last, last)):
        yield images[..., top : top + side, left : left + side]


def _scales(images: Tensor, side: int) -> Iterator[Tensor]:
    """The centre of the image shrunk and enlarged, (N, C, side, side) each."""
    stored = images.shape[-1]
    change = 2 * max(1, round(stored / 16))  # even, so that the centre stays where it is
    for size in (stored - change, stored + change):
        scaled = F.interpolate(
            images, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        if size < side:
            margin = -(-(side - size) // 2)
            scaled = F.pad(scaled, (margin, margin, margin, margin), mode="replicate")
        yield _centre(scaled, side)


def _alike(images: Tensor, seed: int, view: int) -> Tensor:
    """One jittered view of the images, all moved as one."""
    entropy = np.random.SeedSequence([seed, view]).generate_state(1, np.uint64)
    draws = Draws(int(entropy[0] >> 1), 1)
    return jitter(images.flatten(0, 1)[None], draws).view_as(images)


def _jittered(images: Tensor, seed: int, view: int, start: int) -> Tensor:
    """One jittered view of images number `start`, `start` + 1, …"""
    parts = []
    at = start
    while at < start + len(images):
        block, first = divmod(at, DRAW_BLOCK)
        last = min(DRAW_BLOCK, first + start + len(images) - at)
        entropy = np.random.SeedSequence([seed, view, block]).generate_state(1, np.uint64)
        draws = Draws(int(entropy[0] >> 1), DRAW_BLOCK, slice(first, last))
        parts.append(jitter(images[at - start : at - start + last - first], draws))
        at += last - first
    return torch.cat(parts) if parts else images
