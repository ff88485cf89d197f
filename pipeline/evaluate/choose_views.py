"""Which test-time views pay: chosen on validation images, the cheapest that none clearly beats."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.params.predict import Views
from pipeline.tasks.metrics import Floats

TRIED: tuple[Views, ...] = ("centre", "flip", "multi_scale", "five_crop", "jitter")
MOST_IMAGES = 256  # validation images that they are tried on


def choose_views(losses: Mapping[Views, Floats]) -> Views:
    """The first views whose mean loss is within one standard error of the least.

    losses: of the same N ≥ 2 images, (N,) by views, cheapest first. The error is that of the paired
    difference (the rule of Breiman et al. 1984, sec. 3.4.3): views that cost more passes must show
    that they help.
    """
    best = min(losses, key=lambda name: float(losses[name].mean()))
    for name, each in losses.items():
        worse = each - losses[best]
        if worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)):
            return name
    return best
