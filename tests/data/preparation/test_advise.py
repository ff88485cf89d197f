"""The rules from what was found to parameters, and that they always make a valid file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.data.preparation import advise as rules
from pipeline.data.preparation.advise import (
    Advice,
    choose_preset,
    describe,
    filled,
    image_side,
    warnings,
)
from pipeline.data.preparation.inspection import Inspection
from pipeline.params import Params, parse_params
from pipeline.params.load import parse_text
from pipeline.tasks import open_task

ROOT = Path(__file__).parents[3]


COUNTED = {"answered": "labeled", "tested": "test"}


def found(**changes: Any) -> Inspection:
    values: dict[str, Any] = {
        "classes": ["a", "b"],
        "labeled": Counter(a=60, b=50),
        "unlabeled": 500,
        "decoded": 100,
        "sides": [100] * 100,
        "modes": Counter(RGB=100),
        "coloured": 90,
    }
    values |= changes
    counts = {use: values.get(name, Counter()).total() for use, name in COUNTED.items()}
    return Inspection(**(counts | values))


def advise(
    inspection: Inspection, source: str, path: str, *, gpu: bool, task: str = "classification"
) -> Advice:
    return rules.advise(inspection, source, path, gpu=gpu, task=open_task(task))


def values(advice: Advice) -> dict[str, Any]:
    return {entry.key: entry.value for entry in advice.settings}


def parameters(advice: Advice) -> Params:
    return parse_text(filled(advice, {}))


@pytest.mark.parametrize(
    ("median", "small", "photograph"),
    [(5, 16, 16), (28, 28, 28), (63, 60, 60), (64, 64, 64), (99, 64, 96), (900, 64, 128)],
)
def test_the_image_size_is_what_half_the_images_have(
    median: int, small: int, photograph: int
) -> None:
    assert image_side(median, "folder_small") == small
    assert image_side(median, "photographs") == photograph
    assert image_side(median, "folder_large") == 224


@pytest.mark.parametrize(
    ("gpu", "side", "unlabeled", "preset"),
    [
        (False, 47, 50_000, "folder_small"),
        (True, 47, 50_000, "folder_small"),
        (False, 48, 500, "photographs"),
        (True, 48, 50_000, "photographs"),
        (False, 160, 50_000, "photographs"),
        (True, 160, 19_889, "photographs"),
        (True, 160, 19_890, "folder_large"),
    ],
)
def test_the_preset_goes_by_gpu_size_and_number(
    gpu: bool, side: int, unlabeled: int, preset: str
) -> None:
    seen = found(sides=[side] * 100, unlabeled=unlabeled)
    advice = advise(seen, "folder", "my images", gpu=gpu)
    assert advice.preset == preset
    params = parameters(advice)
    assert (params.data.source, params.data.path) == ("folder", "my images")
    assert params.data.image_size == image_side(side, preset)
    if preset == "photographs":
        assert params.data.validation == "folds"
        assert params.controls["longer"].steps == params.all_steps


def test_grey_photographs_are_told_from_drawings_by_their_shades() -> None:
    photographs = advise(found(coloured=0, photographic=60), "folder", "x", gpu=False)
    assert photographs.preset == "photographs"
    assert (parameters(photographs).data.channels, values(photographs)["augment.flip"]) == (3, True)
    assert choose_preset(found(coloured=0, photographic=40), gpu=True)[0] == "folder_small"


def test_a_gpu_is_told_of_a_larger_body() -> None:
    comments = {e.key: e.comment for e in advise(found(), "folder", "x", gpu=True).settings}
    assert "timm/vit_small_patch14_dinov2.lvd142m" in comments["embed.source"]
    assert "embed.source" not in values(advise(found(), "folder", "x", gpu=False))


def test_grey_images_are_stored_grey_and_not_mirrored() -> None:
    grey = values(advise(found(coloured=0), "folder", "x", gpu=False))
    assert (grey["data.channels"], grey["augment.flip"]) == (1, False)
    photos = values(advise(found(), "folder", "x", gpu=False))
    assert (photos["data.channels"], photos["augment.flip"]) == (3, True)


def test_few_labels_are_all_trained_on() -> None:
    small: dict[str, Any] = {"sides": [40] * 100}
    for labeled in (Counter(a=30, b=30), Counter(a=100, b=6)):
        advice = advise(found(labeled=labeled, **small), "folder", "x", gpu=False)
        assert values(advice)["data.validation_fraction"] == 0.0
    many = advise(found(**small), "folder", "x", gpu=False)
    assert "data.validation_fraction" not in values(many)
    few = found(labeled=Counter(a=3, b=30), sides=[200] * 100, unlabeled=90_000)
    params = parameters(advise(few, "folder", "x", gpu=True))
    assert (params.data.validation_fraction, params.ensemble.method) == (0.0, "equal")


def test_named_validation_images_are_used() -> None:
    labeled: Counter[str] = Counter(a=30, b=30)
    for side in (40, 100):
        seen = found(labeled=labeled, validation=20, sides=[side] * 100)
        data = parameters(advise(seen, "folder", "x", gpu=False)).data
        assert (data.validation, data.validation_fraction) == ("held_out", 0.2)


def test_small_images_keep_their_detail() -> None:
    assert (
        parameters(advise(found(sides=[28] * 9), "folder", "x", gpu=False)).model.stem_stride == 1
    )
    larger = found(sides=[40] * 9)
    assert parameters(advise(larger, "folder", "x", gpu=False)).model.stem_stride == 2


def test_many_bad_files_are_allowed_for() -> None:
    bad = found(bad=[(str(n), "empty") for n in range(20)])
    share = parameters(advise(bad, "folder", "x", gpu=False)).data.max_bad_fraction
    assert 0.2 < share < 0.3
    few = found(bad=[("x", "empty")])
    assert "data.max_bad_fraction" not in values(advise(few, "folder", "x", gpu=False))


def test_what_there_is_to_mend_is_said() -> None:
    seen = found(
        labeled=Counter(a=60, b=4),
        unlabeled=0,
        bad=[("x.png", "empty")],
        duplicates=3,
        conflicts=1,
    )
    said = "\n".join(warnings(seen))
    for words in (
        "x.png: empty",
        "3 are exact",
        "1 are the same as one of another class",
        "15.0 times",
    ):
        assert words in said
    assert warnings(found()) == []
    assert "rarest class has 4" in warnings(found(labeled=Counter(a=8, b=4)))[0]
    single = warnings(found(labeled=Counter(a=2, b=1)))
    assert single[0].startswith("fewer than 2 labelled images of 'b': none can be held out")


def test_what_was_found_is_described() -> None:
    said = "\n".join(describe(found(test=Counter(a=7))))
    for words in ("110 labelled", "a 60, b 50", "500 unlabelled", "7 for test", "RGB 100"):
        assert words in said


def test_every_choice_has_its_reason_in_the_file() -> None:
    advice = advise(found(labeled=Counter(a=9, b=9)), "folder", "my: #1", gpu=False)
    text = filled(advice, {"group_column": "who"})
    assert text.startswith(f"# Written by selftrain init from presets/{advice.preset}.yaml")
    assert parse_text(text).data.group_column == "who"
    for _, _, comment in advice.settings:
        assert f"# {comment}\n" in text
    assert parse_text(text).data.path == "my: #1"
    assert "label_kind: soft" in text
    assert parse_params({**parse_text(text).model_dump(mode="json")})


@pytest.mark.parametrize(
    ("median", "coloured", "preset", "side", "views"),
    [
        (180, 90, "masks_photographs", 176, [0.16, 0.83]),
        (100, 90, "masks_photographs", 96, [0.55, 1.0]),
        (900, 1, "masks_photographs", 240, [0.09, 0.45]),
        (900, 0, "digit_scenes_segmentation", 128, None),
        (64, 90, "digit_scenes_segmentation", 64, None),
        (9, 90, "digit_scenes_segmentation", 32, None),
    ],
)
def test_images_with_masks_have_settings_of_their_own(
    median: int, coloured: int, preset: str, side: int, views: list[float] | None
) -> None:
    seen = found(sides=[median] * 100, coloured=coloured)
    advice = advise(seen, "masks", "scenes", gpu=False, task="segmentation")
    settings = values(advice)
    assert advice.preset == preset
    assert settings["task"] == parameters(advice).task == "segmentation"
    assert (settings["data.source"], settings["data.path"]) == ("masks", "scenes")
    assert settings["data.image_size"] == side
    assert settings.get("augment.crop_area") == views
    assert settings["data.channels"] == (3 if coloured else 1)
    assert settings["data.validation_fraction"] == 0.2
    few = found(labeled=Counter(a=9, b=2), answered=11)
    fewer = advise(few, "parquet", "scenes", gpu=False, task="segmentation")
    assert values(fewer)["data.validation_fraction"] == 0.0
    assert "columns image and mask" in [entry.comment for entry in fewer.settings]
