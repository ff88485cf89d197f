"""What is shipped, on disk: a folder of model folders and how they are used; read without torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter

from pipeline.errors import CheckpointError
from pipeline.files import plain_name, write_json
from pipeline.models.spec import SPEC, WEIGHTS
from pipeline.params import ViewParams
from pipeline.params.errors import read_typed
from pipeline.params.predict import JitterViews, Views
from pipeline.params.sections import MaxPixels, Seed

RECIPE = "classifier.json"
BATCH_SIZE = 64  # photographs, undecoded, of several MB each are in memory at once
BATCH_BYTES = 256 << 20  # of them, but for the last
MOST_MODELS, MOST_BYTES = 256, 1 << 17  # of a classifier.json
ROUNDING = 1e-6  # of a sum of weights
CACHED = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")  # where a link of DVC leads
Name = Annotated[str, AfterValidator(plain_name)]
Weight = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Recipe:
    """How models become one classifier.

    weights: of each model's probabilities, by the name of its folder, of sum 1; views and
    jitter_views: as in params.yaml; seed: of the jitter; max_pixels: of an image as it comes,
    larger ones are refused.
    """

    weights: Annotated[dict[Name, Weight], Field(min_length=1, max_length=MOST_MODELS)]
    views: Views = "centre"
    jitter_views: JitterViews = 8
    seed: Seed = 0
    max_pixels: MaxPixels = 64_000_000
    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid")

    @property
    def view_params(self) -> ViewParams:
        """The views."""
        return ViewParams(views=self.views, jitter_views=self.jitter_views, batch_size=BATCH_SIZE)


_FROM_JSON = TypeAdapter(Recipe)


def name_of(folder: Path) -> str:
    """What a recipe calls the model in `folder`: the folder's name where that is a plain one."""
    try:
        return plain_name(folder.name)
    except ValueError:
        return "model"


def save_classifier(folder: Path, models: Mapping[str, Path], recipe: Recipe) -> None:
    """Put copies of the models that count, and how they are used, in place of `folder`.

    Of a model's folder only its two files are copied. Raises CheckpointError for a link that leads
    out of it, but into DVC's cache.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for name in recipe.weights:
        (folder / name).mkdir(parents=True)
        for file in (models[name] / WEIGHTS, models[name] / SPEC):
            real = file.resolve()
            if real.parent != models[name].resolve() and not CACHED.fullmatch(str(real)):
                raise CheckpointError(f"{file}: leads out of its folder; copy the folder whole")
            shutil.copyfile(real, folder / name / file.name)
    write_json(folder / RECIPE, asdict(recipe))


def read_recipe(folder: Path) -> Recipe:
    """How the models in `folder` are used; raises CheckpointError where that is not readable."""
    path = folder / RECIPE
    try:
        recipe = read_typed(path, _FROM_JSON, MOST_BYTES)
        if abs((total := sum(recipe.weights.values())) - 1) > ROUNDING:
            raise ValueError(f"weights: their sum is {total:g}, not 1")
        for name in recipe.weights:
            if (folder / name).is_symlink():
                raise ValueError(f"weights: {name!r} is a link; copy the model's folder")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not how models are used ({error})") from None
    return recipe
