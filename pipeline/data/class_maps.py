"""What a model says of each pixel of an image, compact: its two likeliest classes and how sure.

A map is (4, S, S) uint8: the likeliest class, the second, and the probability of each as 255 p. All
but the first come at a stride, each value repeated, so that a map of 256 × 256 pixels packs into
some 8 kB. IGNORED in the place of the likeliest class: the pixel counts in nothing.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipeline.data import masks
from pipeline.data.encoding import encode_png
from pipeline.data.images import BadImageError, decode_stored
from pipeline.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Maps = NDArray[np.uint8]
Floats = NDArray[np.float32]

IGNORED = masks.IGNORED
COARSE_SIDE = 64  # values along a side of what comes at a stride, about
MOST_FLOATS = 1 << 24  # of probabilities in memory at a time
RED, DARK = (220, 30, 30), (40, 40, 40)
STRIPES = (225, 150)  # greys
LEAST = 1e-4  # of a probability that is rebuilt from a map
COLUMNS = pa.schema(
    [
        pa.field("classes", pa.binary(), nullable=False),
        pa.field("confidences", pa.binary(), nullable=False),
    ]
)


def palette(num_classes: int) -> NDArray[np.uint8]:
    """A colour for each class, (K, 3): those of PASCAL VOC, black first."""
    numbers = np.arange(num_classes)
    colours = np.zeros((num_classes, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((numbers >> (3 * bit + channel) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return colours


def painted(pixels: NDArray[np.uint8], classes: Maps, num_classes: int) -> NDArray[np.uint8]:
    """Each class (S, S) in its colour over an image (S, S, C), (S, S, 3); what is ignored stays."""
    image = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    colours = palette(num_classes)[np.where(classes == IGNORED, 0, classes)]
    blended = (image.astype(np.uint16) + colours) // 2
    return np.where((classes == IGNORED)[..., None], image, blended).astype(np.uint8)


def painted_errors(pixels: NDArray[np.uint8], classes: Maps, truth: Maps) -> NDArray[np.uint8]:
    """An image (S, S, C), faint: red where its classes (S, S) are not the true ones, dark where
    these are ignored."""
    errors = 128 + np.broadcast_to(pixels, (*pixels.shape[:2], 3)) // 2
    errors[classes != truth] = RED
    errors[truth == IGNORED] = DARK
    return errors.astype(np.uint8)


def striped(pixels: NDArray[np.uint8], some: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A picture (S, S, 3) with grey stripes, which no class has, over some of its pixels (S, S)."""
    rows, columns = np.indices(some.shape)
    stripes = np.where((rows + columns) // 2 % 2, *STRIPES).astype(np.uint8)
    return np.where(some[..., None], stripes[..., None], pixels)


def stride_of(side: int) -> int:
    """Pixels from one stored confidence to the next along a side."""
    return max(1, round(side / COARSE_SIDE))


def pack_maps(log_probs: Tensor) -> Maps:
    """Maps (n, 4, S, S) of log-probabilities (n, K, S, S)."""
    import torch

    middles, cells = (torch.from_numpy(places) for places in _cells(log_probs.shape[-1]))
    values, first = log_probs.max(dim=1, keepdim=True)

    def coarse(planes: Tensor) -> Tensor:
        return planes[..., middles[:, None], middles]

    others = coarse(log_probs).scatter(1, coarse(first), -torch.inf)
    second_values, second = others.max(dim=1, keepdim=True)
    shares = (torch.cat([coarse(values), second_values], dim=1).exp() * 255).round()
    sure = torch.cat([second, shares], dim=1).to(torch.uint8)
    maps = torch.cat([first.to(torch.uint8), sure[..., cells[:, None], cells]], dim=1)
    return np.asarray(maps.cpu().numpy(), np.uint8)


def pack_probabilities(shares: Floats) -> Maps:
    """Maps (n, 4, S, S) of probabilities (n, K, S, S)."""
    first = shares.argmax(axis=1)[:, None]
    others = shares.copy()
    np.put_along_axis(others, first, -1, axis=1)
    classes = np.concatenate([first, others.argmax(axis=1)[:, None]], axis=1)
    values = np.rint(np.take_along_axis(shares, classes, axis=1) * 255)
    return _coarse(np.concatenate([classes, values], axis=1).astype(np.uint8))


def merge_maps(members: Sequence[Maps], weights: Sequence[float], num_classes: int) -> Maps:
    """The maps (n, 4, S, S) of the weighted mean of what several say of the same images."""
    counting = [pair for pair in zip(members, weights, strict=True) if pair[1] > 0]
    if len({member.shape for member, _ in counting}) != 1:
        raise DataError("the members of an ensemble must be of the same images")
    if len(counting) == 1:
        return counting[0][0]
    total, merged = sum(weights), np.empty_like(counting[0][0])
    for row in range(len(merged)):  # all classes of one image at a time
        parts = [
            map_probabilities(member[row : row + 1], num_classes) * np.float32(weight / total)
            for member, weight in counting
        ]
        merged[row : row + 1] = pack_probabilities(np.sum(parts, axis=0))
    return merged


def _coarse(maps: Maps) -> Maps:
    """The same with all but the likeliest class at the stride, each value repeated."""
    middles, cells = _cells(maps.shape[-1])
    places = middles[cells]
    maps[:, 1:] = maps[:, 1:, places[:, None], places]
    return maps


def _cells(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The middles of the cells that one value at the stride stands for, and the cell of each pixel
    along a side."""
    step = stride_of(side)
    middles = np.minimum(np.arange(0, side, step) + step // 2, side - 1)
    return middles, np.arange(side) // step


def map_distributions(maps: Tensor, num_classes: int) -> Tensor:
    """What maps (n, 4, S, S) say of every class: (n, K, S, S), of sum 1 over K.

    What the two likeliest leave is shared equally among the others; of an ignored pixel it means
    nothing.
    """
    first = maps[:, 0].long().masked_fill(maps[:, 0] == IGNORED, 0)
    second = maps[:, 1].long().clamp(max=num_classes - 1)
    sure, less = maps[:, 2].float() / 255, maps[:, 3].float() / 255
    same = second == first
    less = less.masked_fill(same, 0)
    rest = (1 - sure - less).clamp(min=0) / (max(1, num_classes - 2) + same.float())
    shares = rest[:, None].repeat(1, num_classes, 1, 1)
    shares.scatter_(1, second[:, None], less[:, None]).scatter_(1, first[:, None], sure[:, None])
    return shares / shares.sum(dim=1, keepdim=True)


def map_probabilities(maps: Maps, num_classes: int) -> Floats:
    """The same in NumPy, none under LEAST; of an ignored pixel all classes have the same."""
    import torch

    shares = map_distributions(torch.from_numpy(maps), num_classes).numpy().clip(LEAST)
    shares[np.broadcast_to(maps[:, :1] == IGNORED, shares.shape)] = 1
    result: Floats = shares / shares.sum(axis=1, keepdims=True)
    return result


def map_losses(maps: Maps, masks: Maps, num_classes: int) -> Floats:
    """Mean -log p by maps (n, 4, S, S) of the classes of masks (n, S, S), of the known pixels:
    (n,), 0 where none is known."""
    losses = np.zeros(len(maps), np.float32)
    for rows in _slices(maps, num_classes):
        known = masks[rows] != IGNORED
        classes = np.where(known, masks[rows], 0).astype(np.int64)[:, None]
        own = np.take_along_axis(map_probabilities(maps[rows], num_classes), classes, axis=1)[:, 0]
        total = np.where(known, -np.log(own), 0).sum(axis=(1, 2))
        losses[rows] = total / np.maximum(known.sum(axis=(1, 2)), 1)
    return losses


def map_shares(maps: Maps, num_classes: int) -> tuple[Floats, Floats]:
    """Of the pixels of maps (n, 4, S, S) that are not ignored the share of each class, (n, K), and
    their mean confidence, (n,)."""
    shares = np.zeros((len(maps), num_classes), np.float32)
    confidences = np.zeros(len(maps), np.float32)
    for row, whole in enumerate(maps):
        known = whole[0] != IGNORED
        shares[row] = np.bincount(whole[0][known], minlength=num_classes) / known.sum()
        confidences[row] = whole[2][known].mean() / 255
    return shares, confidences


def _slices(maps: Maps, num_classes: int) -> Iterator[slice]:
    """Rows of maps whose probabilities fit into memory."""
    step = max(1, MOST_FLOATS // max(1, num_classes * maps[:1, 0].size))
    for start in range(0, len(maps), step):
        yield slice(start, start + step)


def grid(side: int, most: int) -> NDArray[np.int64]:
    """The middles of at most so many equal steps along a side."""
    count = min(side, most)
    return (np.arange(count) * side + side // 2) // count


def grid_places(images: Maps, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows (R, 1) and columns (R,) of an even grid over (…, S, S), at most so many a side."""
    places = grid(images.shape[-1], max(1, most))
    return places[:, None], places


def map_columns(maps: Maps) -> dict[str, Any]:
    """Maps (n, 4, S, S) as the columns of COLUMNS, each value a PNG."""
    middles, _ = _cells(maps.shape[-1])
    coarse = maps[:, 1:, middles[:, None], middles].reshape(len(maps), -1, len(middles))
    parts = (pack_masks(maps[:, 0]), [_smallest(one, len(middles)) for one in coarse])
    return {item.name: pa.array(part, item.type) for item, part in zip(COLUMNS, parts, strict=True)}


def _smallest(coarse: NDArray[np.uint8], side: int) -> bytes:
    """A PNG of second classes and both probabilities, (3 · side, side): these filtered where they
    change gradually, as they do but in the smallest areas."""
    ways = (slice(side, None), slice(0))
    return min((encode_png(coarse[:, :, None], up=up, small=True) for up in ways), key=len)


def read_maps(table: Any, num_classes: int, source: object, *, empty: bool = False) -> Maps:
    """The maps (n, 4, S, S) of a table with these columns; DataError names `source`.

    empty: whether all pixels of one may be ignored.
    """
    classes, coarse = (table.column(name).to_pylist() for name in COLUMNS.names)
    maps = [_read_map(*both, source) for both in zip(classes, coarse, strict=True)]
    if len({one.shape for one in maps}) > 1:
        raise DataError(f"{source}: maps of different sizes; run its stage again")
    whole = np.stack(maps) if maps else np.empty((0, 4, 1, 1), np.uint8)
    wrong, known = whole[:, :2] >= num_classes, whole[:, 0] != IGNORED
    wrong[:, 0] &= known
    if wrong.any():
        raise DataError(f"{source}: a class that is none of {num_classes}; run its stage again")
    if not (empty or known.any(axis=(1, 2)).all()):
        raise DataError(f"{source}: a map that says nothing; run its stage again")
    return whole


def _read_map(classes: bytes, coarse: bytes, source: object) -> Maps:
    try:
        first, others = decode_stored(classes)[:, :, 0], decode_stored(coarse)[:, :, 0]
    except BadImageError as error:
        raise DataError(
            f"{source}: a map can't be decoded ({error}); run its stage again"
        ) from None
    side, (middles, cells) = len(first), _cells(len(first))
    if first.shape != (side, side) or others.shape != (3 * len(middles), len(middles)):
        raise DataError(f"{source}: a map of another size; run its stage again")
    rows = others.reshape(3, -1, len(middles))[:, cells[:, None], cells]
    return np.concatenate([first[None], rows])


def pack_masks(masks: Iterable[NDArray[np.uint8]]) -> list[bytes]:
    """Masks (S, S) of class numbers as PNG."""
    return [encode_png(mask[:, :, None], up=slice(0), small=True) for mask in masks]


def palette_png(mask: NDArray[np.uint8], num_classes: int) -> bytes:
    """A mask (H, W) of class numbers as a PNG that shows each class in its colour."""
    image, out = Image.fromarray(mask), io.BytesIO()
    image.putpalette(palette(num_classes).tobytes())
    image.save(out, "PNG")
    return out.getvalue()


def read_masks(column: Any, side: int, source: object) -> NDArray[np.uint8]:
    """The masks (n, S, S) of a column of PNG; of a null every pixel is ignored."""
    masks = np.full((len(column), side, side), IGNORED, np.uint8)
    for place, data in zip(masks, column.to_pylist(), strict=True):
        if data is not None:
            try:
                mask = decode_stored(data)
            except BadImageError as error:
                raise DataError(f"{source}: a mask can't be decoded ({error})") from None
            if mask.shape != (side, side, 1):
                raise DataError(f"{source}: a mask of {mask.shape}, not {(side, side, 1)}")
            place[...] = mask[:, :, 0]
    return masks
