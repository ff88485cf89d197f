"""Which models the run ships, and how they look at an image."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter

from pipeline.data.sources.rows import listed
from pipeline.errors import CheckpointError, DataError
from pipeline.evaluate.champion import rows_by_content
from pipeline.evaluate.ensemble import merged
from pipeline.evaluate.recipe import RECIPE, Name, Recipe, name_of, read_recipe
from pipeline.evaluate.result import ModelResult, views_used
from pipeline.files import write_json
from pipeline.models.spec import SPEC, read_spec
from pipeline.params import Params
from pipeline.params.errors import read_typed
from pipeline.params.predict import Views
from pipeline.tasks import Task
from pipeline.workflow.layout import DATASET, Layout

if TYPE_CHECKING:
    from pipeline.evaluate.classifier import Classifier

CHOICES = ("champion", "ensemble")


@dataclass(frozen=True)
class _Ensemble:
    """What of ensemble.json says what is shipped; weights: empty where there is no ensemble."""

    champion: Name
    weights: dict[Name, Annotated[float, Field(ge=0, le=1)]]
    __pydantic_config__: ClassVar = ConfigDict(strict=True)


_FROM_JSON = TypeAdapter(_Ensemble)


def shipped(
    layout: Layout, params: Params, which: str | None = None
) -> tuple[dict[str, Path], Recipe]:
    """The model folders by generation, and the recipe, of what ensemble.json says.

    which: "champion" or "ensemble", None for `ensemble.ship`. Raises DataError without an
    ensemble.json.
    """
    try:
        found = read_typed(layout.ensemble, _FROM_JSON)
    except FileNotFoundError:
        raise DataError(
            f"{layout.ensemble}: missing, so no champion is chosen yet; selftrain run, or name a "
            "model's folder"
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{layout.ensemble}: not as the stage ensemble writes it ({error})"
        ) from None
    weights = {key: weight for key, weight in found.weights.items() if weight > 0}
    alone = (which or params.ensemble.ship) == "champion" or not weights
    recipe = _recipe(layout, params, {found.champion: 1.0} if alone else weights)
    return {key: layout.model(key) for key in recipe.weights}, recipe


def named_models(
    name: str | None, layout: Layout, params: Params
) -> tuple[dict[str, Path], Recipe]:
    """What `--model` means: champion, ensemble, or the folder of a model or of a classifier.

    A model's folder is seen as `evaluate` says. Raises CheckpointError, and DataError where what is
    shipped learnt of another task or other classes than those of now.
    """
    if name is None or name in CHOICES:
        models, recipe = shipped(layout, params, name)
        _check_current(next(iter(models.values())), layout, params)
        return models, recipe
    folder = Path(name).resolve()
    if (folder / RECIPE).exists():
        recipe = read_recipe(folder)
        return {key: folder / key for key in recipe.weights}, recipe
    if not (folder / SPEC).exists():
        raise CheckpointError(
            f"--model {name}: no model folder (with {SPEC} in it); name one, or one of "
            f"{', '.join(CHOICES)}"
        )
    return {name_of(folder): folder}, _recipe(layout, params, {name_of(folder): 1.0})


def _check_current(model: Path, layout: Layout, params: Params) -> None:
    """Raise DataError where params.yaml or what is prepared has changed what the model says."""
    spec, now = read_spec(model), params.task
    if spec.task != now:
        changed = f"task {spec.task}, and params.yaml has {now}"
    elif (layout.prepared / DATASET).is_file() and spec.classes != layout.classes:
        changed = f"classes {listed(spec.classes)}, and prepared/ has {listed(layout.classes)}"
    else:
        return
    raise DataError(
        f"{model}: of {changed}; selftrain run trains anew, --model {model} takes it all the same"
    )


def named_classifier(name: str | None, layout: Layout, params: Params, device: str) -> Classifier:
    """What `--model` means, loaded; raises as named_models."""
    from pipeline.evaluate.classifier import open_classifier  # torch takes a while to import

    models, recipe = named_models(name, layout, params)
    return open_classifier(models, recipe, device=device)


def write_evidence(
    path: Path, validation: Path, results: Mapping[str, ModelResult], recipe: Recipe, task: Task
) -> None:
    """Write how the images of the folder `validation` speak for the shipped model, as JSON.

    results: by model, with predictions of those images in the order of the shards.
    """
    from pipeline.data.shards import iter_shards, read_manifest

    images = (image.as_py() for t in iter_shards(validation, ["image"]) for image in t["image"])
    rows, values = rows_by_content(images), list[Any]()
    if read_manifest(validation).rows:  # out of fold the labelled images take their place
        first, places = next(iter(results.values())), list(rows.values())
        members = {key: results[key].validation_predictions[places] for key in recipe.weights}
        predictions = merged(task, members, recipe.weights, first.num_classes)
        targets = first.validation_targets[places]
        values = task.evidence_values(task.evidence(predictions, targets, first.num_classes))
    write_json(path, dict(zip(rows, values, strict=True)))


def shipped_views(layout: Layout, params: Params) -> Views:
    """The test-time views that `evaluate` asks for: of auto those that generation 0's evaluation
    chose, the centre view where there is none. Raises DataError where that is altered."""
    first = layout.evaluation("0")
    chosen = params.evaluate.views == "auto" and first.exists()
    return views_used(first) if chosen else params.evaluate.views_or_centre


def registered_name(params: Params) -> str:
    """The registered model of a run: by the data's name, in letters that MLflow takes, and before
    it the experiment's where that has one of its own."""
    names = [(params.tracking.experiment or "")[:100], params.data.title]
    return re.sub(r"[^\w -]", "_", "-".join(name for name in names if name))


def _recipe(layout: Layout, params: Params, weights: dict[str, float]) -> Recipe:
    return Recipe(
        weights=weights,
        views=shipped_views(layout, params),
        jitter_views=params.evaluate.jitter_views,
        seed=params.seed,
        max_pixels=params.data.max_pixels,
    )
