"""The test images that the champion gets wrong: the surest of all, and those of each error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np

from pipeline.data.shards import read_manifest
from pipeline.errors import DataError, counted
from pipeline.report.galleries import MOST_SHOWN, Gallery, images_of
from pipeline.tasks.metrics import Floats, Integers, by_rows

MOST_OF_A_CELL = 8
MOST_OF_CELLS = 240  # images of all cells together, and so cells that show any


@dataclass(frozen=True)
class Cell:
    """An error: the numbers of the true and the predicted class, how many images, some of them."""

    label: int
    predicted: int
    count: int
    gallery: Gallery

    @property
    def key(self) -> str:
        """The end of the ids of what belongs to it on the page."""
        return f"{self.label}-{self.predicted}"


@dataclass(frozen=True)
class Mistakes:
    """Of all wrong test images the surest, and of the most frequent errors the surest.

    errors: how many different ones there are; they may be more than have a cell here.
    """

    surest: Gallery
    cells: tuple[Cell, ...]
    errors: int


def find_mistakes(
    test: Path, log_probs: Floats, labels: Integers, classes: Sequence[str]
) -> Mistakes | None:
    """The mistakes among the test images in the folder `test`; None where there are none.

    log_probs: of the champion, (N, K); labels: (N,). Raises DataError where these are of others.
    """
    if read_manifest(test).rows != len(labels):
        raise DataError(f"{test}: not the images that were tested; evaluate again")
    guesses = by_rows(lambda part: np.minimum(part, 0).argmax(axis=1), log_probs)
    sure = by_rows(lambda part: np.minimum(part.max(axis=1), 0), log_probs)  # whatever a file holds
    wrong = np.flatnonzero(guesses != labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    order: list[int] = wrong[:MOST_SHOWN].tolist()
    if not order:
        return None
    errors = labels[wrong] * log_probs.shape[1] + guesses[wrong]
    keys, counts = np.unique(errors, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:MOST_OF_CELLS]
    most = _most_of_a_cell(counts[frequent].tolist())
    parts = [wrong[np.flatnonzero(errors == key)[:most]].tolist() for key in keys[frequent]]
    rows = sorted({*order, *chain(*parts)})
    images = {
        row: replace(
            image,
            caption=f"{classes[labels[row]]}, seen as {classes[guesses[row]]} "
            f"{100 * np.exp(sure[row]):.0f} %",
        )
        for row, image in images_of(test, rows, np.minimum(log_probs[rows], 0), classes).items()
    }

    def gallery(key: str, title: str, rows: Sequence[int], about: str = "") -> Gallery:
        return Gallery(key, title, about, tuple(images[row] for row in rows), answers=False)

    def cell(key: int, count: int, rows: Sequence[int]) -> Cell:
        label, predicted = divmod(key, log_probs.shape[1])
        title = error_words(count, classes[label], classes[predicted])
        shown = gallery(f"cell-{label}-{predicted}", title, rows)
        return Cell(label, predicted, count, shown)

    shown = "all" if len(wrong) <= MOST_SHOWN else f"{MOST_SHOWN} of"
    surest = gallery(
        "mistakes",
        "Surest mistakes",
        order,
        f"Test images that the champion gets wrong, surest first: {shown} {len(wrong):,}. Some may "
        "have the wrong label; what the others share says what it has not learnt.",
    )
    cells = map(cell, keys[frequent].tolist(), counts[frequent].tolist(), parts)
    return Mistakes(surest, tuple(cells), len(keys))


def error_words(count: int, label: str, predicted: str) -> str:
    """ "12 images of cat seen as dog"."""
    return f"{counted(count, 'image')} of {label} seen as {predicted}"


def _most_of_a_cell(counts: Sequence[int]) -> int:
    """How many images each cell shows at most, so that all cells show MOST_OF_CELLS at most."""
    return next(
        most
        for most in range(MOST_OF_A_CELL, 0, -1)
        if most == 1 or sum(min(most, count) for count in counts) <= MOST_OF_CELLS
    )
