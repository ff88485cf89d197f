"""See an image in several ways and average what the network says (test-time views).

Crops translate: the image is widened by round(S/8) pixels on each side that repeat its border, and
windows of S × S are taken from the corners and the centre, after Krizhevsky et al. 2012, sec. 4.1.
Scales shrink and enlarge the stored image by round(S/16) pixels on each side, about an eighth in
all, and take its centre; what a shrunk image leaves free repeats its border. No view but `flip`
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
from pipeline.models.passes import Passes, choose_passes, laid_out, run_pass
from pipeline.params import ViewParams
from pipeline.progress import Advance

# Jitter is drawn for so many consecutive images at a time, wherever batches begin and end.
DRAW_BLOCK = 1024
CENTRE = ViewParams()


def num_views(params: ViewParams) -> int:
    """How many forward passes an image takes."""
    counts = {"centre": 1, "flip": 2, "five_crop": 5, "ten_crop": 10, "multi_scale": 3}
    return counts.get(params.views, params.jitter_views)


def views_of(
    images: Tensor, params: ViewParams, *, seed: int = 0, start: int = 0, alike: bool = False
) -> Iterator[Tensor]:
    """Yield the views of a batch one by one, each (N, C, S, S).

    images: (N, C, S, S) float in [0, 1]; start: the first image's number in a larger set, so that
    the draws of `jitter` do not depend on the batch size; alike: `jitter` moves every image in the
    same way, so that what is said of one depends on no other.
    """
    if params.views == "jitter":
        for view in range(params.jitter_views):
            yield _alike(images, seed, view) if alike else _jittered(images, seed, view, start)
        return
    yield images
    if params.views == "flip":
        yield images.flip(-1)
    elif params.views == "multi_scale":
        yield from _scales(images)
    elif params.views == "five_crop":
        yield from _corners(images)
    elif params.views == "ten_crop":
        yield images.flip(-1)
        for crop in _corners(images):
            yield crop
            yield crop.flip(-1)


def predict_log_probs(
    network: nn.Module,
    images: Images | NDArray[np.uint8],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    temperature: float = 1.0,
    views: ViewParams = CENTRE,
    seed: int = 0,
    alike: bool = False,
    passes: Passes | None = None,
    device: str | torch.device = "cpu",
    advance: Advance | None = None,
) -> NDArray[np.float32]:
    """Log of the mean over the views of softmax(logits / temperature), (N, K).

    images: (N, C, S, S) uint8; mean, std: of each channel, on the scale of [0, 1]; seed, alike: see
    views_of; passes: how they run, None: as suits so many images, in float32; `advance`
    is told the images done. The network, already on `device`, runs in evaluation mode and is left
    in the mode it was in. No images give an array of shape (0, 0).
    """
    shift, scale = (_per_channel(values, device) for values in (mean, std))
    parts: list[Tensor] = []
    was_training = network.training
    network.eval()
    try:
        if passes is None and len(images):
            shape, count = (len(mean), *images[:1].shape[-2:]), len(images) * num_views(views)
            passes = choose_passes(network, shape, count, most=views.batch_size)
        passes = passes or Passes()
        size = passes.images or views.batch_size
        with laid_out(network, passes), torch.inference_mode():
            for start in range(0, len(images), size):
                batch = _scaled(images[start : start + size], device)
                crops = views_of(batch, views, seed=seed, start=start, alike=alike)
                normalised = ((crop - shift) / scale for crop in crops)
                parts.append(_mean_log_probs(network, normalised, temperature, passes).cpu())
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
    network: nn.Module, views: Iterator[Tensor], temperature: float, passes: Passes
) -> Tensor:
    """Log of the mean probability over normalised views; stays finite where it would underflow."""
    total, count = None, 0
    for view in views:
        log_probs = F.log_softmax(run_pass(network, view, passes) / temperature, dim=1)
        total = log_probs if total is None else torch.logaddexp(total, log_probs)
        count += 1
    assert total is not None  # every name has a view
    return total - math.log(count)


def _corners(images: Tensor) -> Iterator[Tensor]:
    """The four corners of the widened image, (N, C, S, S) each."""
    side = images.shape[-1]
    margin = max(1, round(side / 8))
    widened = F.pad(images, (margin, margin, margin, margin), mode="replicate")
    for top in (0, 2 * margin):
        for left in (0, 2 * margin):
            yield widened[..., top : top + side, left : left + side]


def _scales(images: Tensor) -> Iterator[Tensor]:
    """The centre of the image shrunk and enlarged, (N, C, S, S) each."""
    side = images.shape[-1]
    margin = max(1, round(side / 16))
    for size in (side - 2 * margin, side + 2 * margin):
        scaled = F.interpolate(
            images, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        if size < side:
            yield F.pad(scaled, (margin, margin, margin, margin), mode="replicate")
        else:
            yield scaled[..., margin : margin + side, margin : margin + side]


def _alike(images: Tensor, seed: int, view: int) -> Tensor:
    """One jittered view of the images, all moved as one."""
    draws = Draws(_draw_seed(seed, view), 1)
    return jitter(images.flatten(0, 1)[None], draws).view_as(images)


def _jittered(images: Tensor, seed: int, view: int, start: int) -> Tensor:
    """One jittered view of images number `start`, `start` + 1, …"""
    parts, end = [], start + len(images)
    for block in range(start // DRAW_BLOCK, -(-end // DRAW_BLOCK)):
        first, last = max(start, block * DRAW_BLOCK), min(end, (block + 1) * DRAW_BLOCK)
        rows = slice(first - block * DRAW_BLOCK, last - block * DRAW_BLOCK)
        draws = Draws(_draw_seed(seed, view, block), DRAW_BLOCK, rows)
        parts.append(jitter(images[first - start : last - start], draws))
    return torch.cat(parts)


def _draw_seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
