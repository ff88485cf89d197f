"""A person's own folder, with the kinds of files that people have, from end to end."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.integration.project import SMALL, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLASSES = {"bar": 0, "ring": 1}


def _drawing(kind: str, generator: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """A bright bar or ring somewhere on noise, so that the two can be told apart."""
    width, height = size
    rows, columns = np.mgrid[:height, :width] / max(size)
    x, y = generator.uniform(0.35, 0.65, 2) * (width, height) / max(size)
    if kind == "bar":
        shape = np.abs(columns - x) < 0.08
    else:
        shape = np.abs(np.hypot(columns - x, rows - y) - 0.25) < 0.08
    pixels = generator.integers(0, 60, (height, width)) + 180 * shape
    return Image.fromarray(pixels.astype(np.uint8))


def _save(image: Image.Image, folder: Path, number: int) -> None:
    """Save as one of the forms that images come in, by turns."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = {"jpg": "RGB", "grey.png": "L", "palette.png": "P", "alpha.png": "RGBA"}
    ending, mode = list(forms.items())[number % len(forms)]
    image.convert(mode).save(folder / f"image {number}.{ending}")


def test_a_folder_of_mixed_images_goes_from_end_to_end(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = tmp_path / "my images"
    for kind in CLASSES:
        for part, count in ((f"labeled/{kind}", 24), ("unlabeled/more", 40), (f"test/{kind}", 20)):
            for number in range(count):
                size = (int(generator.integers(20, 90)), int(generator.integers(20, 90)))
                drawn = _drawing(kind, generator, size)
                _save(drawn, images / part, number + 1000 * CLASSES[kind])
    (images / "unlabeled" / "broken.jpg").write_bytes(b"not an image")
    (images / "unlabeled" / ".hidden.png").write_bytes(b"")
    values = copy.deepcopy(SMALL)
    values["data"] = {
        "source": "folder",
        "path": str(images),
        "image_size": 16,
        "channels": 3,
        "validation": "held_out",
        "folds": 5,
        "validation_fraction": 0.25,
    }
    values["generations"] = {"1": values["generations"]["1"]}
    project = copy_project(tmp_path / "project", values)
    project.repro()
    counts = project.json("metrics/prepare.json")
    assert counts["labeled"] + counts["validation"] == 48
    assert (counts["unlabeled"], counts["test"], counts["quarantined"]) == (80, 40, 1)
    assert project.json("metrics/evaluate/1.json")["test/accuracy"] > 0.8
    assert "pseudo_label_accuracy" not in project.json("metrics/select/1.json")
    assert "ring" in (project.folder / "report/index.html").read_text()
