"""What is shipped, on disk: a folder of model folders and how they are used; read without torch."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.errors import CheckpointError
from pipeline.files import read_json, write_json
from pipeline.params import ViewParams
from pipeline.params.errors import validated

RECIPE = "classifier.json"
BATCH_SIZE = 64  # photographs, undecoded, of several MB each are in memory at once


@dataclass(frozen=True)
class Recipe:
    """How models become one classifier.

    weights: of each model's probabilities, by the name of its folder, of sum 1; views and
    jitter_views: as in params.yaml; seed: of the jitter; max_pixels: of an image as it comes,
    larger ones are refused.
    """

    weights: dict[str, float]
    views: str = "centre"
    jitter_views: int = 8
    seed: int = 0
    max_pixels: int = 64_000_000

    @property
    def view_params(self) -> ViewParams:
        """The views; raises ParameterError for what there is none of."""
        values = {"views": self.views, "jitter_views": self.jitter_views, "batch_size": BATCH_SIZE}
        return validated(ViewParams, values, RECIPE)


def save_classifier(folder: Path, models: Mapping[str, Path], recipe: Recipe) -> None:
    """Put copies of the model folders that count, and how they are used, in place of `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in recipe.weights:
        shutil.copytree(models[name], folder / name)
    write_json(folder / RECIPE, asdict(recipe))


def read_recipe(folder: Path) -> Recipe:
    """How the models in `folder` are used; raises CheckpointError where that is not readable."""
    path = folder / RECIPE
    try:
        return Recipe(**read_json(path))
    except (OSError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: not how models are used ({error})") from None
