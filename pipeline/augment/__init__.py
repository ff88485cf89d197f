"""Batched augmentation: each image of a batch with its own draw, on its device."""

from pipeline.augment.draws import Draws
from pipeline.augment.mix import mix
from pipeline.augment.strong import strong
from pipeline.augment.weak import jitter, weak

__all__ = ["Draws", "jitter", "mix", "strong", "weak"]
