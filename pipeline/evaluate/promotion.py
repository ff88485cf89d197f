"""Whether a model takes the place of the one in use: only if validation says so beyond chance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.evaluate.significance import compare

NAME_CHARACTERS = 16


@dataclass(frozen=True)
class Promotion:
    """Whether the challenger becomes champion, and why, as the end of a sentence."""

    moves: bool
    reason: str


def content_name(image: bytes) -> str:
    """A name of an image that its content alone decides."""
    return hashlib.sha256(image).hexdigest()[:NAME_CHARACTERS]


def rights_by_content(images: Iterable[bytes], rights: Iterable[bool]) -> dict[str, bool]:
    """Whether a model has each validation image right, by the image's content."""
    return {content_name(image): bool(r) for image, r in zip(images, rights, strict=True)}


def promote(
    champion: Mapping[str, bool] | None,
    challenger: Mapping[str, bool],
    *,
    samples: int = 1000,
    interval: float = 0.95,
    seed: int = 0,
) -> Promotion:
    """Compare two models on the validation images that both were measured on (significance).

    champion: None where there is none yet. Neither model has trained on its own validation
    images, so on those they share the comparison is fair though their training data differ.
    """
    if champion is None:
        return Promotion(True, "the first")
    shared = sorted(champion.keys() & challenger.keys())
    if not shared:
        return Promotion(False, "no validation image in common with the champion")
    before, after = (np.array([each[k] for k in shared], bool) for each in (champion, challenger))
    test = compare(before, after, samples=samples, interval=interval, seed=seed)
    figures = (
        f"{100 * test.difference:+.1f} points ({100 * test.low:.1f} to {100 * test.high:.1f}) "
        f"against the champion on {len(shared)} validation images"
    )
    return Promotion(test.verdict == "better", f"{figures}: {test.verdict}")
