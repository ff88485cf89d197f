"""The best generation, chosen on validation images and never on test."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.evaluate.result import Evaluation


def choose_champion(validations: Mapping[str, Evaluation | None]) -> tuple[str, str]:
    """The champion's generation and the reason, as the end of "Champion: generation g, …".

    The highest accuracy on validation; of equals the lower NLL. Without validation images the
    last generation, which nothing has compared.
    """
    measured = {key: value for key, value in validations.items() if value is not None}
    if len(measured) < len(validations):
        last = list(validations)[-1]
        return last, "the last; there are no validation images to choose by"
    best = max(measured, key=lambda key: (measured[key].accuracy, -measured[key].nll))
    images = measured[best].images
    return best, f"the most accurate on {images} validation images (of equals the lowest NLL)"
