"""Which models are shipped, as ensemble.json and params.yaml say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CheckpointError, DataError
from pipeline.evaluate.recipe import Recipe, save_classifier
from pipeline.files import write_json, write_text
from pipeline.params import Params, parse_params
from pipeline.workflow.layout import Layout
from pipeline.workflow.shipping import named_classifier, named_models, shipped
from tests.tiny import save_model


def params(views: str = "jitter", **ensemble: Any) -> Params:
    values = {
        "data": {"source": "digits", "image_size": 8},
        "train": {"steps": 1, "batch_size": 2},
        "evaluate": {"views": views, "jitter_views": 3},
        "ensemble": ensemble,
        "seed": 7,
    }
    return parse_params(values)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    write_json(layout.ensemble, {"champion": "1", "weights": {"0": 0.25, "1": 0.75, "2": 0.0}})
    for key in ("0", "1"):
        save_model(layout.model(key), seed=int(key))
    return layout


def test_the_champion_or_the_ensemble_is_shipped(layout: Layout) -> None:
    models, recipe = shipped(layout, params())
    assert models == {"1": layout.model("1")}
    assert recipe == Recipe({"1": 1.0}, "jitter", 3, 7)
    _, recipe = shipped(layout, params(ship="ensemble"))
    assert recipe.weights == {"0": 0.25, "1": 0.75}
    assert shipped(layout, params(ship="ensemble"), "champion")[1].weights == {"1": 1.0}
    write_json(layout.ensemble, {"champion": "1", "weights": {}})
    assert shipped(layout, params(ship="ensemble"))[1].weights == {"1": 1.0}


def test_views_that_were_chosen_are_those_of_generation_0(layout: Layout) -> None:
    assert shipped(layout, params("auto"))[1].views == "centre"  # nothing was chosen yet
    for text in ('{"views": "flip"}', '{"views": "six_crop"}', "{}", "[]", '{"views": []}'):
        write_text(layout.evaluation("0") / "result.json", text)
        if "flip" in text:
            assert shipped(layout, params("auto"))[1].views == "flip"
            assert shipped(layout, params())[1].views == "jitter"
            continue
        with pytest.raises(DataError, match="evaluations/0: not an evaluation"):
            shipped(layout, params("auto"))


def test_a_folder_is_named_in_place_of_them(layout: Layout, tmp_path: Path) -> None:
    models, recipe = named_models(str(layout.model("0")), layout, params())
    assert (list(models), recipe.weights, recipe.views) == (["0"], {"0": 1.0}, "jitter")
    both = Recipe({"0": 0.5, "1": 0.5}, views="flip")
    save_classifier(tmp_path / "saved", {key: layout.model(key) for key in ("0", "1")}, both)
    classifier = named_classifier(str(tmp_path / "saved"), layout, params(), "cpu")
    assert classifier.recipe == both
    assert sorted(classifier.models) == ["0", "1"]


def test_what_learnt_of_something_else_is_shipped_by_its_name_alone(layout: Layout) -> None:
    values = json.loads((layout.model("1") / "model.json").read_text())
    dataset = {"classes": values["classes"]}
    write_json(layout.prepared / "dataset.json", dataset)
    assert list(named_models(None, layout, params())[0]) == ["1"]
    write_json(layout.prepared / "dataset.json", {"classes": ["a", "b"]})
    with pytest.raises(
        DataError, match=r"models/1: of classes .*, and prepared/ has a, b; selftrain"
    ):
        named_models("champion", Layout(layout.root), params())
    assert list(named_models(str(layout.model("1")), layout, params())[0]) == ["1"]
    write_json(layout.prepared / "dataset.json", dataset)
    write_json(layout.model("1") / "model.json", values | {"task": "segmentation"})
    with pytest.raises(
        DataError, match=r"models/1: of task segmentation, and params\.yaml has class"
    ):
        named_models("champion", layout, params())


def test_what_is_not_there_is_said(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--model nothing: no model folder"):
        named_models("nothing", layout, params())
    with pytest.raises(DataError, match="selftrain run"):
        shipped(Layout(tmp_path / "empty"), params())
    for text in ("[]", "[" * 9999, '{"champion": 1, "weights": {}}'):
        layout.ensemble.write_text(text)
        with pytest.raises(DataError, match="not as the stage ensemble writes it"):
            shipped(layout, params())


@pytest.mark.parametrize(
    "changes",
    [
        {"champion": "../../elsewhere"},
        {"weights": {"a/../../../evil": 1.0}},
        {"weights": {"0": -1.0}},
        {"weights": {"0": "1"}},
    ],
)
def test_an_ensemble_that_names_a_path_is_refused(layout: Layout, changes: dict[str, Any]) -> None:
    write_json(layout.ensemble, {"champion": "1", "weights": {"0": 1.0}} | changes)
    with pytest.raises(DataError, match="not as the stage ensemble writes it") as caught:
        shipped(layout, params(ship="ensemble"))
    assert str(caught.value).isprintable()
