"""A folder of coloured pictures of three kinds, and small parameters for presets/photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

from tests.integration.project import ROOT

KINDS = ("across", "along", "spots")
SIDE = 32


def picture(kind: str, generator: np.random.Generator) -> Image.Image:
    """Stripes across or along, or a grid of spots, in two random colours with noise."""
    step, shift = int(generator.integers(5, 9)), int(generator.integers(0, 8))
    rows, columns = np.mgrid[:SIDE, :SIDE] + shift
    marks = {
        "across": rows // step % 2,
        "along": columns // step % 2,
        "spots": (rows // step % 2) * (columns // step % 2),
    }[kind]
    colours = generator.integers(0, 256, (2, 3))
    colours[1] = (colours[0] + 128) % 256
    noise = generator.normal(0, 20, (SIDE, SIDE, 3))
    return Image.fromarray((colours[marks] + noise).clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, labeled: int, unlabeled: int, test: int, seed: int = 0) -> None:
    """So many of each kind: labeled/<kind>/, test/<kind>/, and all of unlabeled/ together."""
    generator = np.random.default_rng(seed)
    for kind in KINDS:
        for part, count in (("labeled", labeled), ("unlabeled", unlabeled), ("test", test)):
            place = folder / part if part == "unlabeled" else folder / part / kind
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                picture(kind, generator).save(place / f"{kind}_{number}.png")


def small_parameters(**changes: Any) -> Any:
    """presets/photographs.yaml for these pictures, with a few steps; changes: whole sections."""
    values = YAML().load((ROOT / "presets" / "photographs.yaml").read_text(encoding="utf-8"))
    values["data"] |= {"path": "my_images", "image_size": SIDE, "images_per_shard": 40}
    values["embed"]["input_size"] = SIDE
    values["model"]["input_size"] = SIDE
    values["train"] |= {"steps": 4, "threads": 1, "batch_size": 4}
    values["transfer"]["mode"] = "layerwise"
    values["run"]["actors"] = 0
    values["evaluate"]["threads"] = 1
    values["controls"]["longer"]["steps"] = 4
    return values | changes
