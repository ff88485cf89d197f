"""See an image in several ways and average what the network says (test-time views).

Crops translate: the image is widened by round(S/8) pixels on each side that repeat its border, and
windows of S × S are taken from the corners and the centre, after Krizhevsky et al. 2012, sec. 4.1.
Scales shrink and enlarge the stored image by round(S/16) pixels on each side, about an eighth in
all, and take its centre; what a shrunk image leaves free repeats its border. No view but `flip`
and `ten_crop` mirrors: whether a mirrored image keeps its class is for the user to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import NamedTuple, Required, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.augment import Draws
from pipeline.augment.geometry import resample
from pipeline.augment.views import jitter_matrices
from pipeline.data.tensors import Images
from pipeline.memory import joined
from pipeline.models.passes import Passes, choose_passes, laid_out, most_images, run_pass
from pipeline.params import ViewParams
from pipeline.progress import Advance
from pipeline.tasks import Task
from pipeline.tasks.task import Array

# Jitter is drawn for so many consecutive images at a time, wherever batches begin and end.
DRAW_BLOCK = 1024
CENTRE = ViewParams()
WHOLE = 0.999  # of a pixel: how much of it must have been seen
Undo = Callable[[Tensor], Tensor]


class View(NamedTuple):
    """One view of images, (N, C, S, S), and what brings scores of it, (N, K, S, S), back to where
    the images have them; -inf what it does not show."""

    images: Tensor
    undo: Undo


def num_views(params: ViewParams) -> int:
    """How many forward passes an image takes."""
    counts = {"centre": 1, "flip": 2, "five_crop": 5, "ten_crop": 10, "multi_scale": 3}
    return counts.get(params.views, params.jitter_views)


def views_of(
    images: Tensor, params: ViewParams, *, seed: int = 0, start: int = 0, alike: bool = False
) -> Iterator[View]:
    """Yield the views of a batch one by one.

    images: (N, C, S, S) float in [0, 1]; start: the first image's number in a larger set, so that
    the draws of `jitter` do not depend on the batch size; alike: `jitter` moves every image in the
    same way, so that what is said of one depends on no other.
    """
    if params.views == "jitter":
        for view in range(params.jitter_views):
            yield _alike(images, seed, view) if alike else _jittered(images, seed, view, start)
        return
    yield View(images, _as_it_is)
    if params.views == "flip":
        yield View(images.flip(-1), _mirrored)
    elif params.views == "multi_scale":
        yield from _scales(images)
    elif params.views == "five_crop":
        yield from _corners(images)
    elif params.views == "ten_crop":
        yield View(images.flip(-1), _mirrored)
        for crop in _corners(images):
            yield crop
            yield View(crop.images.flip(-1), partial(_then, _mirrored, crop.undo))


def predict(
    network: nn.Module, images: Images | NDArray[np.uint8], task: Task, **how: Unpack[How]
) -> Array:
    """What a network says of `images` (N, C, S, S) uint8, as the task has predictions, (N, …).

    No images give an array of shape (0, 0).
    """
    return packed(iter_log_probs(network, images, task, **how), task)


def packed(log_probs: Iterable[Tensor], task: Task) -> Array:
    """The predictions (N, …) of batches of log-probabilities (n, K, …), of one batch at a time."""
    parts = (task.pack(batch) for batch in log_probs)
    first = next(parts, None)
    return np.zeros((0, 0), np.float32) if first is None else joined(chain([first], parts))


class How(TypedDict, total=False):
    """How a network sees images.

    mean, std: of each channel, on the scale of [0, 1]; temperature: its logits are divided by it;
    seed, alike: see views_of; passes: how they run, None: as suits so many images, in float32;
    `advance` is told the images done.
    """

    mean: Required[Sequence[float]]
    std: Required[Sequence[float]]
    temperature: float
    views: ViewParams
    seed: int
    alike: bool
    passes: Passes | None
    device: str | torch.device
    advance: Advance | None


def iter_log_probs(
    network: nn.Module,
    images: Images | NDArray[np.uint8],
    task: Task,
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
) -> Iterator[Tensor]:
    """Yield, batch by batch, the log of the mean over the views of softmax(logits / temperature),
    (n, K, …), on `device`.

    images: (N, C, S, S) uint8; the rest as How says. The network, already on `device`, runs in
    evaluation mode and is left in the mode it was in.
    """
    shift, scale = (_per_channel(values, device) for values in (mean, std))
    was_training = network.training
    network.eval()
    try:
        most = views.batch_size
        if len(images) and (passes is None or passes.images is None):
            shape, count = (len(mean), *images[:1].shape[-2:]), len(images) * num_views(views)
            most = most if task.image_classes else most_images(network, shape, most)
            passes = passes or choose_passes(network, shape, count, most=most)
        passes = passes or Passes()
        size = passes.images or most
        with laid_out(network, passes):
            for start in range(0, len(images), size):
                with torch.inference_mode():
                    batch = _scaled(images[start : start + size], device)
                    seen = views_of(batch, views, seed=seed, start=start, alike=alike)
                    normalised = (View((v.images - shift) / scale, v.undo) for v in seen)
                    log_probs = _mean_log_probs(network, normalised, temperature, passes, task)
                yield log_probs
                if advance is not None:
                    advance(len(batch))
    finally:
        network.train(was_training)


def _per_channel(values: Sequence[float], device: str | torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, -1, 1, 1)


def _scaled(images: Tensor | NDArray[np.uint8], device: str | torch.device) -> Tensor:
    """uint8 images as float in [0, 1] on `device`; an array may be read-only, so it is copied."""
    batch = images if isinstance(images, Tensor) else torch.from_numpy(images.copy())
    return batch.to(device).float() / 255


def _mean_log_probs(
    network: nn.Module, views: Iterator[View], temperature: float, passes: Passes, task: Task
) -> Tensor:
    """Log of the mean probability over normalised views; stays finite where it would underflow.

    What a view did not show has no vote: its log-probabilities are -inf there.
    """
    total, votes, count = None, None, 0
    for view in views:
        log_probs = F.log_softmax(run_pass(network, view.images, passes) / temperature, dim=1)
        log_probs = task.undo(log_probs, view.undo)
        voted = (log_probs.amax(dim=1, keepdim=True) > -math.inf).to(torch.int16)
        total = log_probs if total is None else torch.logaddexp(total, log_probs)
        votes = voted if votes is None else votes + voted
        count += 1
    assert total is not None  # every name has a view
    assert votes is not None
    if count == 1:
        return total
    logs = [math.log(max(number, 1)) for number in range(count + 1)]
    return total - torch.tensor(logs, device=total.device)[votes.int()]


def _as_it_is(scores: Tensor) -> Tensor:
    return scores


def _mirrored(scores: Tensor) -> Tensor:
    return scores.flip(-1)


def _then(first: Undo, second: Undo, scores: Tensor) -> Tensor:
    return second(first(scores))


def _corners(images: Tensor) -> Iterator[View]:
    """The four corners of the widened image."""
    side = images.shape[-1]
    margin = max(1, round(side / 8))
    widened = F.pad(images, (margin, margin, margin, margin), mode="replicate")
    for top in (0, 2 * margin):
        for left in (0, 2 * margin):
            crop = widened[..., top : top + side, left : left + side]
            yield View(crop, partial(_shifted, down=top - margin, right=left - margin))


def _shifted(scores: Tensor, down: int, right: int) -> Tensor:
    """Scores (N, K, S, S) moved by whole pixels; what moves in is unseen."""
    moved = torch.full_like(scores, -math.inf)
    target, source = zip(*map(_overlap, (down, right), scores.shape[-2:]), strict=True)
    moved[(..., *target)] = scores[(..., *source)]
    return moved


def _overlap(move: int, side: int) -> tuple[slice, slice]:
    """What of a side is filled by a move, and by what of it."""
    return slice(max(move, 0), side + min(move, 0)), slice(max(-move, 0), side - max(move, 0))


def _scales(images: Tensor) -> Iterator[View]:
    """The centre of the image shrunk and enlarged."""
    side = images.shape[-1]
    margin = max(1, round(side / 16))
    for size in (side - 2 * margin, side + 2 * margin):
        scaled = F.interpolate(
            images, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        if size < side:
            view = F.pad(scaled, (margin, margin, margin, margin), mode="replicate")
        else:
            view = scaled[..., margin : margin + side, margin : margin + side]
        yield View(view, partial(_rescaled, margin=(side - size) // 2))


def _rescaled(scores: Tensor, margin: int) -> Tensor:
    """Scores (N, K, S, S) without a margin, or with one that is unseen, brought to their side."""
    probs, side = scores.exp(), scores.shape[-1]
    seen = torch.ones_like(probs[:1, :1])
    both = (
        F.interpolate(
            F.pad(part, [-margin] * 4), (side, side), mode="bilinear", antialias=margin < 0
        )
        for part in (probs, seen)
    )
    moved, seen = both
    return _logs(moved, seen > WHOLE)


def _logs(probs: Tensor, seen: Tensor) -> Tensor:
    """Logarithms of probabilities (N, K, S, S), -inf where not `seen`, (N or 1, 1, S, S)."""
    probs = probs / probs.sum(dim=1, keepdim=True)
    logs = probs.clamp(min=torch.finfo(probs.dtype).tiny).log()
    return logs.masked_fill(~seen, -math.inf)


def _alike(images: Tensor, seed: int, view: int) -> View:
    """One jittered view of the images, all moved as one."""
    draws = Draws(_draw_seed(seed, view), 1)
    matrices = jitter_matrices(draws, *images.shape[-2:])
    moved = resample(images.flatten(0, 1)[None], matrices, padding="reflection").view_as(images)
    return View(moved, partial(_moved_back, matrices=matrices))


def _jittered(images: Tensor, seed: int, view: int, start: int) -> View:
    """One jittered view of images number `start`, `start` + 1, …"""
    parts, end = [], start + len(images)
    for block in range(start // DRAW_BLOCK, -(-end // DRAW_BLOCK)):
        first, last = max(start, block * DRAW_BLOCK), min(end, (block + 1) * DRAW_BLOCK)
        rows = slice(first - block * DRAW_BLOCK, last - block * DRAW_BLOCK)
        draws = Draws(_draw_seed(seed, view, block), DRAW_BLOCK, rows)
        parts.append(jitter_matrices(draws, *images.shape[-2:]))
    matrices = torch.cat(parts)
    moved = resample(images, matrices, padding="reflection")
    return View(moved, partial(_moved_back, matrices=matrices))


def _moved_back(scores: Tensor, matrices: Tensor) -> Tensor:
    """Scores (N, K, S, S) of moved images, moved back; past the edge the nearest speak."""
    back = torch.linalg.inv(matrices.double()).float().expand(len(scores), 3, 3)
    probs = resample(scores.exp(), back, padding="border")
    return _logs(probs, torch.ones_like(probs[:1, :1], dtype=torch.bool))


def _draw_seed(*entropy: int) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
