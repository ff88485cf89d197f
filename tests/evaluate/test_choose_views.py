"""Views are chosen that validation images show to help, else the one that costs least."""

import numpy as np

from pipeline.evaluate.choose_views import TRIED, choose_views
from pipeline.evaluate.views import num_views
from pipeline.params import ViewParams
from pipeline.params.predict import Views
from pipeline.tasks.metrics import Floats

GENERATOR = np.random.default_rng(0)
HARD = GENERATOR.exponential(size=200).astype(np.float32)  # losses with the centre view


def noise(scale: float) -> Floats:
    return GENERATOR.normal(scale=scale, size=len(HARD)).astype(np.float32)


def test_views_that_clearly_help_are_used() -> None:
    losses: dict[Views, Floats] = {
        "centre": HARD,
        "flip": HARD - 0.2 + noise(0.1),
        "jitter": HARD - 0.05,
    }
    assert choose_views(losses) == "flip"


def test_of_views_that_none_clearly_beats_the_cheapest_is_used() -> None:
    losses: dict[Views, Floats] = {
        "centre": HARD,
        "flip": HARD + noise(0.5),
        "jitter": HARD - 0.01 + noise(0.5),
    }
    assert choose_views(losses) == "centre"
    assert choose_views({"centre": HARD + 0.5, "flip": HARD, "jitter": HARD}) == "flip"


def test_views_that_hurt_are_off() -> None:
    assert choose_views({"centre": HARD, "jitter": HARD + 0.3}) == "centre"


def test_views_are_tried_from_the_cheapest_on() -> None:
    passes = [num_views(ViewParams(views=views)) for views in TRIED]
    assert passes == sorted(passes)
