"""From the files of masks to what is stored of them: PNG in the squares of their images."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from pipeline.data.class_maps import IGNORED, pack_masks
from pipeline.data.decoding import decode_masks
from pipeline.data.images import Pixels, StoredImage
from pipeline.data.masks import MaskOf
from pipeline.data.preparation.targets import Encoded
from pipeline.data.sources.rows import MaskFile

if TYPE_CHECKING:
    from pipeline.params import DataParams


def encoded_masks(
    labels: Sequence[MaskFile], images: Sequence[StoredImage], data: DataParams
) -> list[Encoded | str]:
    """Masks of images that are stored whole; what a mask says is one key, a text what is wrong.

    Neighbours whose values mean the same are decoded at once.
    """
    answers: list[Encoded | str] = []
    pairs = zip(labels, images, strict=True)
    for (values, others), group in groupby(pairs, lambda pair: (pair[0].values, pair[0].others)):
        files = [
            MaskOf(label.data, image.width, image.height, image.turn) for label, image in group
        ]
        form = {"side": data.image_size, "max_pixels": data.max_pixels, "others": others}
        masks = decode_masks(files, values=values, **form)
        answers += [mask if isinstance(mask, str) else _encoded(mask) for mask in masks]
    return answers


def _encoded(mask: Pixels) -> Encoded | str:
    """A mask (S, S) uint8; one that says nothing teaches nothing, and can't be tested by."""
    if not (present := tuple(np.setdiff1d(mask, [IGNORED]).tolist())):
        return "mask: all of it is ignored"
    key = int.from_bytes(sha256(mask.tobytes()).digest()[:8]) >> 1
    return Encoded(pack_masks([mask])[0], key, present)
