"""What is shipped, at work: one model or a weighted ensemble, from image files to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.decoding import decode_images
from pipeline.data.images import StoredImage
from pipeline.errors import CheckpointError
from pipeline.evaluate.checkpoints import checkpoint_predictions
from pipeline.evaluate.recipe import RECIPE, Recipe, name_of, read_recipe
from pipeline.models.checkpoint import Checkpoint, load_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.tasks import Task, open_task
from pipeline.tasks.task import Array

BATCH = 16  # images that a thread has decoded at once


@dataclass(frozen=True)
class Classifier:
    """Models of the same classes and image size, by name, and how they are used."""

    models: dict[str, Checkpoint]
    recipe: Recipe

    @property
    def spec(self) -> ModelSpec:
        """Of the first model: its classes, image size and channels are those of all."""
        return next(iter(self.models.values())).spec

    @property
    def task(self) -> Task:
        """What the models say of images."""
        return open_task(self.spec.task)

    def predictions(self, images: Tensor) -> Array:
        """Calibrated predictions (N, …), as the task has them, of images (N, C, S, S) uint8.

        Each model has its own normalisation and temperature; views and models are averaged as
        probabilities. What is said of an image does not depend on the others.
        """
        recipe = self.recipe
        members = [
            checkpoint_predictions(model, images, recipe.view_params, seed=recipe.seed, alike=True)
            for model in self.models.values()
        ]
        weights = [recipe.weights[name] for name in self.models]
        return self.task.merge(members, weights, len(self.spec.classes))


@dataclass(frozen=True)
class Answers:
    """Of N encoded images: predictions (n, …) of those without a problem, as the task has them, and
    their upright width and height, (n, 2).

    problems: (N,), why an image can't be read, None where it can.
    """

    predictions: Array
    sizes: NDArray[np.int64]
    problems: list[str | None]

    @property
    def rows(self) -> list[int | None]:
        """Of each image the row of its prediction, None where it has none."""
        numbers = count()
        return [next(numbers) if problem is None else None for problem in self.problems]


NOTHING = Answers(np.empty((0, 0), np.float32), np.empty((0, 2), np.int64), [])


def classify_encoded(
    classifier: Classifier, images: Sequence[bytes], *, threads: int = 1
) -> Answers:
    """Classify the bytes of image files of any size and format; the bad ones say why."""
    spec, recipe = classifier.spec, classifier.recipe

    def decoded(batch: Sequence[bytes]) -> list[StoredImage | str]:
        return decode_images(
            batch,
            image_size=spec.image_size,
            channels=spec.channels,
            max_pixels=recipe.max_pixels,
            bits=spec.bits,
            whole=classifier.task.keeps_whole,
        )

    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(chain.from_iterable(pool.map(decoded, batches)))
    good = [found for found in outcomes if not isinstance(found, str)]
    predictions = NOTHING.predictions
    sizes = np.array([(found.width, found.height) for found in good], np.int64).reshape(-1, 2)
    if good:
        pixels = np.stack([found.pixels for found in good]).transpose(0, 3, 1, 2)
        batch = torch.from_numpy(np.ascontiguousarray(pixels))
        predictions = classifier.task.outside(classifier.predictions(batch), sizes)
    problems = [value if isinstance(value, str) else None for value in outcomes]
    return Answers(predictions, sizes, problems)


def load_classifier(folder: Path) -> Classifier:
    """The classifier in `folder`, which save_classifier or save_checkpoint wrote.

    A single model's folder is a classifier too, which looks once, at the centre.

    Raises CheckpointError where a file is missing or wrong, or the models do not fit together.
    """
    if not (folder / RECIPE).exists():
        return open_classifier({name_of(folder): folder}, Recipe({name_of(folder): 1.0}))
    recipe = read_recipe(folder)
    return open_classifier({name: folder / name for name in recipe.weights}, recipe)


def open_classifier(
    models: Mapping[str, Path], recipe: Recipe, *, device: str = "cpu"
) -> Classifier:
    """The models of the recipe as one, from their folders by name; raises as load_classifier."""
    loaded = {name: load_checkpoint(models[name]) for name in recipe.weights}
    first = next(iter(loaded))
    for name, model in loaded.items():
        if _inputs_and_classes(model.spec) != _inputs_and_classes(loaded[first].spec):
            raise CheckpointError(
                f"{models[name]}: of other classes, or for other images, than {models[first]}"
            )
        model.network.to(device)
    return Classifier(loaded, recipe)


def _inputs_and_classes(spec: ModelSpec) -> tuple[Any, ...]:
    return spec.task, spec.classes, spec.image_size, spec.channels
