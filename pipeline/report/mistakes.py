"""The test images that the champion gets wrong: the surest of all, and those of each error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.data.shards import read_manifest
from pipeline.errors import DataError, counted
from pipeline.report.galleries import MOST_SHOWN, Gallery, images_of
from pipeline.tasks.metrics import Floats, Integers

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
    log_probs = np.minimum(log_probs, 0)  # whatever a file holds is shown
    guesses, sure = log_probs.argmax(axis=1), log_probs.max(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    order: list[int] = wrong[np.argsort(-sure[wrong], kind="stable")].tolist()
    if not order:
        return None
    errors: dict[tuple[int, int], list[int]] = {}
    for row in order:
        errors.setdefault((int(labels[row]), int(guesses[row])), []).append(row)
    cells = dict(sorted(errors.items(), key=lambda entry: (-len(entry[1]), entry[0])))
    cells = {key: cells[key] for key in list(cells)[:MOST_OF_CELLS]}
    most = _most_of_a_cell([len(rows) for rows in cells.values()])
    rows = sorted({*order[:MOST_SHOWN], *(row for part in cells.values() for row in part[:most])})
    images = {
        row: replace(
            image,
            caption=f"{classes[labels[row]]}, seen as {classes[guesses[row]]} "
            f"{100 * np.exp(sure[row]):.0f} %",
        )
        for row, image in images_of(test, rows, log_probs[rows], classes).items()
    }

    def gallery(key: str, title: str, rows: Sequence[int], about: str = "") -> Gallery:
        return Gallery(key, title, about, tuple(images[row] for row in rows), answers=False)

    def cell(label: int, predicted: int, rows: Sequence[int]) -> Cell:
        title = error_words(len(rows), classes[label], classes[predicted])
        shown = gallery(f"cell-{label}-{predicted}", title, rows[:most])
        return Cell(label, predicted, len(rows), shown)

    shown = "all" if len(order) <= MOST_SHOWN else f"{MOST_SHOWN} of"
    surest = gallery(
        "mistakes",
        "Surest mistakes",
        order[:MOST_SHOWN],
        f"Test images that the champion gets wrong, surest first: {shown} {len(order):,}. Some may "
        "have the wrong label; what the others share says what it has not learnt.",
    )
    return Mistakes(surest, tuple(cell(*key, rows) for key, rows in cells.items()), len(errors))


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
