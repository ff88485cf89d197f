"""What is shipped, at work: one model or a weighted ensemble, from image files to probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.data.decoding import decode_images
from pipeline.data.images import StoredImage
from pipeline.errors import CheckpointError
from pipeline.evaluate.checkpoints import checkpoint_log_probs
from pipeline.evaluate.recipe import RECIPE, Recipe, name_of, read_recipe
from pipeline.models.checkpoint import Checkpoint, load_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.tasks.mixtures import weighted_log_probs

Floats = NDArray[np.float32]
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

    def log_probs(self, images: Tensor) -> Floats:
        """Calibrated log-probabilities (N, K) of images (N, C, S, S) uint8.

        Each model has its own normalisation and temperature; views and models are averaged as
        probabilities. What is said of an image does not depend on the others.
        """
        recipe = self.recipe
        members = {
            name: checkpoint_log_probs(
                model, images, recipe.view_params, seed=recipe.seed, alike=True
            )
            for name, model in self.models.items()
        }
        return weighted_log_probs(members, self.recipe.weights)


@dataclass(frozen=True)
class Answers:
    """Of N encoded images: probabilities (N, K) float32, NaN where an image has a problem.

    problems: (N,), why an image can't be classified, None where it can.
    """

    probabilities: Floats
    problems: list[str | None]


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
        )

    batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(threads) as pool:
        outcomes = list(chain.from_iterable(pool.map(decoded, batches)))
    good = {row: found for row, found in enumerate(outcomes) if not isinstance(found, str)}
    table = np.full((len(images), len(spec.classes)), np.nan, np.float32)
    if good:
        pixels = np.stack([found.pixels for found in good.values()]).transpose(0, 3, 1, 2)
        batch = torch.from_numpy(np.ascontiguousarray(pixels))
        table[list(good)] = np.exp(classifier.log_probs(batch))
    return Answers(table, [value if isinstance(value, str) else None for value in outcomes])


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
    return spec.classes, spec.image_size, spec.channels
