"""What is shipped says the same as its models, one image at a time, whatever stands beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.images import decode
from pipeline.errors import CheckpointError
from pipeline.evaluate.classifier import classify_encoded, load_classifier, open_classifier
from pipeline.evaluate.recipe import RECIPE, Recipe, save_classifier
from pipeline.evaluate.views import views_of
from pipeline.models.checkpoint import load_checkpoint
from pipeline.params.predict import Views
from tests.data.helpers import encoded, noise, photo
from tests.tiny import save_model


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    save_model(tmp_path / "0", seed=1, temperature=2.0)
    save_model(tmp_path / "1", seed=2, mean=[0.5], std=[0.4])
    return {key: tmp_path / key for key in ("0", "1")}


def slow(models: dict[str, Path], recipe: Recipe, image: bytes) -> np.ndarray:
    """The probabilities of one image, member by member and view by view."""
    pixels = decode(image, image_size=8, channels=1, max_pixels=10**6).transpose(2, 0, 1)
    total = np.zeros(3)
    for name, weight in recipe.weights.items():
        model = load_checkpoint(models[name])
        seen = list(
            views_of(
                torch.tensor(pixels)[None].float() / 255,
                recipe.view_params,
                seed=recipe.seed,
                alike=True,
            )
        )
        for view in seen:
            shown = (view.images - model.spec.mean[0]) / model.spec.std[0]
            logits = model.network(shown).detach().double().numpy()[0] / model.spec.temperature
            total += weight * np.exp(logits) / np.exp(logits).sum() / len(seen)
    return total


@pytest.mark.parametrize("name", ["centre", "flip", "multi_scale", "jitter"])
def test_an_ensemble_is_the_weighted_mean_over_models_and_views(
    models: dict[str, Path], name: Views
) -> None:
    recipe = Recipe({"0": 0.25, "1": 0.75}, views=name, jitter_views=3, seed=5)
    images = [encoded(photo(20 + n, 40)) for n in range(5)]
    found = classify_encoded(open_classifier(models, recipe), images, threads=2)
    want = np.array([slow(models, recipe, image) for image in images])
    np.testing.assert_allclose(np.exp(found.predictions), want, atol=1e-5)
    assert found.problems == [None] * 5


def test_the_answer_to_an_image_depends_on_no_other(models: dict[str, Path]) -> None:
    classifier = open_classifier(models, Recipe({"1": 1.0}, views="jitter", jitter_views=4))
    images = [encoded(noise(seed)) for seed in range(6)]
    together = classify_encoded(classifier, images).predictions
    for row, image in enumerate(images):
        (alone,) = classify_encoded(classifier, [b"no image", image]).predictions
        np.testing.assert_allclose(alone, together[row], atol=1e-6)
    assert np.ptp(together, axis=0).max() > 1e-4


def test_bad_images_say_why_and_the_others_are_answered(models: dict[str, Path]) -> None:
    recipe = Recipe({"0": 1.0}, max_pixels=500)
    classifier = open_classifier(models, recipe)
    images = [b"", encoded(noise(1)), b"GIF87a garbage", encoded(photo(40, 24))]
    answers = classify_encoded(classifier, images)
    assert answers.problems[0] == "empty"
    assert answers.problems[1] is None
    assert answers.problems[2] is not None
    assert answers.problems[3] == "too many pixels: 40x24"
    assert answers.rows == [None, 0, None, None]
    assert np.exp(answers.predictions).sum() == pytest.approx(1, abs=1e-5)


def test_a_saved_classifier_holds_the_models_that_count_and_loads_elsewhere(
    models: dict[str, Path], tmp_path: Path
) -> None:
    recipe = Recipe({"1": 1.0}, views="flip", seed=3)
    image = encoded(noise(2))
    want = classify_encoded(open_classifier(models, recipe), [image]).predictions
    for _ in range(2):  # a folder that a killed run left is replaced
        save_classifier(tmp_path / "out", models, recipe)
    (tmp_path / "out").rename(tmp_path / "moved")
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["1", RECIPE]
    loaded = load_classifier(tmp_path / "moved")
    assert loaded.recipe == recipe
    np.testing.assert_array_equal(classify_encoded(loaded, [image]).predictions, want)


def test_a_models_folder_is_a_classifier_that_looks_once(models: dict[str, Path]) -> None:
    loaded = load_classifier(models["0"])
    assert (loaded.recipe.weights, loaded.recipe.views) == ({"0": 1.0}, "centre")


def test_models_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    for key, classes in (("0", ["a", "b"]), ("1", ["a", "c"])):
        save_model(tmp_path / key, classes=classes)
    folders = {key: tmp_path / key for key in ("0", "1")}
    with pytest.raises(CheckpointError, match="1: of other classes"):
        open_classifier(folders, Recipe({"0": 0.5, "1": 0.5}))
    (tmp_path / RECIPE).write_text(json.dumps({"weights": {"9": 1.0}}))
    with pytest.raises(CheckpointError, match="9"):
        load_classifier(tmp_path)
    (tmp_path / RECIPE).write_text('{"weight": 1}')
    with pytest.raises(CheckpointError, match="not how models are used"):
        load_classifier(tmp_path)
