"""Masks over the images of a contact sheet, moved and mixed as those are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.data.class_maps import IGNORED, palette
from pipeline.params import AugmentParams
from pipeline.report.preview import Overlay, preview_rows
from pipeline.report.samples import write_samples
from tests.tasks.test_segmentation_streams import made as made_scenes
from tests.tasks.test_segmentation_training import CLASSES, TASK, scenes, soft_maps

made = made_scenes


def test_a_target_is_drawn_half_over_its_image() -> None:
    pixels = np.full((2, 2, 1), 100, np.uint8)
    mask = np.array([[0, 1], [2, IGNORED]], np.uint8)
    drawn = TASK.draw(pixels, mask, CLASSES)
    colours = palette(CLASSES).astype(int)
    assert drawn[0, 1].tolist() == ((100 + colours[1]) // 2).tolist()
    assert drawn[1, 1].tolist() == [100, 100, 100]
    assert len(np.unique(palette(256), axis=0)) == 256


@pytest.mark.parametrize("mix", ["cutmix", "classmix"])
@pytest.mark.parametrize("maps", [False, True])
def test_every_view_has_its_masks(mix: Any, maps: bool) -> None:
    """Images of one grey: what is seen is the masks, moved."""
    _, masks = scenes(4, 0)
    images = torch.full((4, 1, *masks.shape[1:]), 0.5)
    targets = torch.from_numpy(soft_maps(masks)) if maps else masks
    augment = AugmentParams(num_ops=0, flip=True, shift=0.2, mix=mix)
    rows = preview_rows(images, [""] * 4, augment, 5, Overlay(TASK, targets, CLASSES))
    assert [row.name for row in rows][-1] == mix
    for row in rows:
        colours = torch.unique(row.images.movedim(1, -1).flatten(0, 2), dim=0)
        assert len(colours) == CLASSES + 1  # and what is ignored
    assert not torch.equal(rows[0].images, rows[1].images)


def test_samples_of_a_run_are_drawn_with_masks(made: Path, tmp_path: Path) -> None:
    names = ["ground", "grey", "bright"]
    prepared = made / "prepared"
    paths = write_samples(tmp_path, prepared, None, names, AugmentParams(), 3, TASK)
    assert [path.name for path in paths] == ["samples_labeled.png"]
