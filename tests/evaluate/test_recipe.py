"""classifier.json is checked as model.json is, and a copy of models holds their two files alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import CheckpointError
from pipeline.evaluate.recipe import RECIPE, Recipe, name_of, read_recipe, save_classifier
from pipeline.models.spec import SPEC, WEIGHTS
from tests.tiny import save_model

BOTH = {"a": 0.5, "b": 0.5}
WRONG: dict[str, Any] = {
    **{
        f"weights {name!r}": {"weights": {name: 1.0}} for name in ("a/../../../evil", "..", "", "/")
    },
    **{
        f"weights {w}": {"weights": {"a": w, "b": 0.5}}
        for w in (-0.5, 0, 1.5, "0.5", None, 10**400)
    },
    "weights of sum 2": {"weights": {"a": 1.0, "b": 1.0}},
    "no weights": {"weights": {}},
    "a list of weights": {"weights": [1.0]},
    "thousands of weights": {"weights": {str(number): 0.001 for number in range(1000)}},
    **{f"views {views}": {"views": views} for views in ("six_crop", 3, None, ["flip"])},
    **{f"jitter {n}": {"jitter_views": n} for n in (10**8, 0, -1, 2.5, "8", None, True)},
    **{f"seed {n}": {"seed": n} for n in (-1, 2**31, 0.5, "0")},
    **{f"pixels {n}": {"max_pixels": n} for n in (0, 63, -5, "64", 1e9)},
    "an unknown field": {"colour": "red"},
    "a long one": {"k" * 100_000: 1},
}


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    for seed, key in enumerate(BOTH):
        save_model(tmp_path / key, seed=seed)
    return {key: tmp_path / key for key in BOTH}


def refused(folder: Path, text: str | bytes) -> str:
    (folder / RECIPE).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CheckpointError, match="not how models are used") as caught:
        read_recipe(folder)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    return message


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    refused(tmp_path, json.dumps({"weights": BOTH} | WRONG[name]))


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "3", "{} {}", "[" * 100_000, b"\xff\xfe{", "\ufeff{}"),
        *(
            f'{{"weights": {{"a": {weight}, "b": 0.5}}}}'
            for weight in ("NaN", "Infinity", "1e999", "9" * 5000)
        ),
        '{"weights": {"a": 1.0}, "weights": {"b": 1.0}}',
        '{"weights": {"\\ud800": 1.0}}',
    ],
)
def test_what_is_no_json_is_refused_in_one_line(tmp_path: Path, text: str | bytes) -> None:
    refused(tmp_path, text)


def test_a_model_that_is_a_link_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    save_classifier(tmp_path / "out", models, Recipe(BOTH))
    assert read_recipe(tmp_path / "out") == Recipe(BOTH)
    models["a"].rename(tmp_path / "elsewhere")
    (tmp_path / "a").symlink_to("elsewhere")
    assert "'a' is a link" in refused(tmp_path, json.dumps({"weights": BOTH}))


def test_only_a_models_own_two_files_are_copied(models: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    (models["a"] / "notes").symlink_to("/etc/passwd")
    (models["a"] / "etc").symlink_to("/etc")
    os.mkfifo(models["a"] / "pipe")
    save_classifier(out, models, Recipe(BOTH))
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert files == sorted([RECIPE, *(f"{key}/{name}" for key in BOTH for name in (WEIGHTS, SPEC))])


def test_a_link_is_followed_to_the_cache_of_dvc_alone(
    models: dict[str, Path], tmp_path: Path
) -> None:
    weights = models["a"] / WEIGHTS
    cached = tmp_path / "cache" / "files" / "md5" / "ab" / ("c" * 30)
    cached.parent.mkdir(parents=True)
    weights.rename(cached)
    weights.symlink_to(cached)
    save_classifier(tmp_path / "out", models, Recipe(BOTH))
    copy = tmp_path / "out" / "a" / WEIGHTS
    assert not copy.is_symlink()
    assert copy.read_bytes() == cached.read_bytes()
    cached.rename(tmp_path / "secret")
    weights.unlink()
    weights.symlink_to(tmp_path / "secret")
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        save_classifier(tmp_path / "out", models, Recipe(BOTH))


@pytest.mark.parametrize(
    ("folder", "name"), [("x/my model", "my model"), ("x/.a", "model"), ("/", "model")]
)
def test_a_folder_gives_its_model_a_plain_name(folder: str, name: str) -> None:
    assert name_of(Path(folder)) == name
