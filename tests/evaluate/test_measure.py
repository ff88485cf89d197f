"""A network is measured shard by shard, to the same bytes as with all images in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.shards import read_labels, read_manifest, write_manifest
from pipeline.data.tensors import load_images
from pipeline.errors import DataError
from pipeline.evaluate.checkpoints import checkpoint_predictions
from pipeline.evaluate.choose_views import TRIED
from pipeline.evaluate.measure import best_views, images_predicted, measure_network
from pipeline.evaluate.result import ModelResult, save_result
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.spec import ModelSpec
from pipeline.params import EvaluateParams, ModelParams
from pipeline.params.predict import Views
from pipeline.tasks import open_task
from tests.tiny import CLASSES, SIDE, prepared_stripes

TASK = open_task("classification")

SEED = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder with several shards of test images, and the folder of a model."""
    made = tmp_path_factory.mktemp("made")
    prepared_stripes(made / "prepared", 300)
    network = ModelParams(width=4).network
    spec = ModelSpec(network, list(CLASSES), SIDE, 1, [0.3], [0.25], "0")
    save_checkpoint(made / "model", network_of(spec).state_dict(), spec)
    return made


def params_of(views: Any, **changes: Any) -> EvaluateParams:
    small: dict[str, Any] = {"jitter_views": 3, "batch_size": 20, "threads": 1, "device": "cpu"}
    return EvaluateParams(**(small | {"views": views} | changes))


def measured(made: Path, views: Views, **changes: Any) -> tuple[ModelResult, int]:
    """The result, and how many images were predicted."""
    done: list[int] = []

    def advance(amount: int = 1, note: str = "") -> None:
        done.append(amount)

    params = params_of(views, **changes)
    prepared, model = made / "prepared", made / "model"
    result = measure_network(model, prepared, params, TASK, views=views, seed=SEED, advance=advance)
    return result, sum(done)


@pytest.mark.parametrize("views", ["centre", "flip", "jitter"])
def test_log_probabilities_are_those_of_the_whole_set_in_memory(made: Path, views: Views) -> None:
    result, _ = measured(made, views)
    assert len(read_manifest(made / "prepared" / "test").shards) > 2
    model = load_checkpoint(made / "model")
    for part, seen in (("test", views), ("validation", "centre")):
        images = load_images(made / "prepared" / part).images
        how = params_of(views).view_params(seen)
        expected = checkpoint_predictions(model, images, how, seed=SEED)
        np.testing.assert_array_equal(getattr(result, f"{part}_predictions"), expected)
        labels = read_labels(made / "prepared" / part)
        np.testing.assert_array_equal(getattr(result, f"{part}_targets"), labels)
    assert (result.centre == result.test) == (views == "centre")


@pytest.mark.parametrize(("views", "images"), [("centre", None), ("flip", None), ("flip", 5)])
def test_the_images_that_are_predicted_are_known_before(
    made: Path, views: Views, images: int | None
) -> None:
    params = params_of(views, robustness_images=images)
    expected = images_predicted(made / "model", made / "prepared", params, TASK, views)
    assert measured(made, views, robustness_images=images)[1] == expected


def tried(folder: Path, validation_fraction: float) -> Views:
    """The views that pay for a network."""
    prepared = prepared_stripes(
        folder / "prepared", 600, labels=200, validation_fraction=validation_fraction
    )
    return best_views(
        folder / "model", prepared, params_of("auto"), TASK, seed=SEED, title="evaluate@0"
    )


def test_views_are_chosen_on_validation_images(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "model").symlink_to(made / "model")
    monkeypatch.setattr(
        "pipeline.evaluate.measure.choose_views",
        lambda losses: max(losses, key=lambda name: losses[name].mean()),
    )
    monkeypatch.setattr("pipeline.progress.LINE_SECONDS", 0.0)
    views, losses = tried(tmp_path, 0.5), {}
    images = load_images(tmp_path / "prepared/validation")
    for name in TRIED:
        how = params_of(name).view_params(name)
        model = load_checkpoint(made / "model")
        log_probs = checkpoint_predictions(model, images.images, how, seed=SEED)
        losses[name] = -log_probs[range(len(images)), images.targets].mean()
    assert views == max(losses, key=lambda name: losses[name])
    passes = len(TRIED) * len(images)
    assert f"evaluate@0: views: {passes}/{passes} images" in capsys.readouterr().out


def test_few_validation_images_choose_no_views(made: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(made / "model")
    assert tried(tmp_path, 0.05) == "centre"


def test_robustness_is_measured_on_some_of_the_test_images(made: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        result, _ = measured(made, "centre", robustness_images=5)
        assert result.robustness is not None
        assert result.robustness.images == 5
        save_result(tmp_path / name, result, TASK)
    assert (tmp_path / "a/result.json").read_bytes() == (tmp_path / "b/result.json").read_bytes()


def test_without_validation_images_there_are_no_figures_of_them(made: Path, tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path, validation_fraction=0.0)
    result = measure_network(
        made / "model",
        prepared,
        params_of("centre"),
        TASK,
        views="centre",
        seed=0,
        advance=lambda amount=1, note="": None,
    )
    assert result.validation is None
    assert result.validation_predictions.shape == (0, len(CLASSES))


def test_without_test_images_it_says_what_to_raise(made: Path, tmp_path: Path) -> None:
    prepared = prepared_stripes(tmp_path / "prepared")
    write_manifest(prepared / "test", [], read_manifest(prepared / "test").metadata)
    (tmp_path / "model").symlink_to(made / "model")
    with pytest.raises(DataError, match=r"data\.test_fraction"):
        measured(tmp_path, "centre")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_what_the_cpu_says(made: Path) -> None:
    cpu, gpu = (measured(made, "flip", device=device)[0] for device in ("cpu", "cuda"))
    np.testing.assert_allclose(gpu.test_predictions, cpu.test_predictions, atol=1e-2)
