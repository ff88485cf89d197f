"""Batched augmentation: each image of a batch with its own random numbers, on its device.

Images are (N, C, H, W) float in [0, 1], C 1 or 3; every function makes a new tensor of them.
"""

from pipeline.augment.draws import Draws
from pipeline.augment.mix import mix
from pipeline.augment.views import jitter, strong, weak
from pipeline.augment.warp import Warp

__all__ = ["Draws", "Warp", "jitter", "mix", "strong", "weak"]
