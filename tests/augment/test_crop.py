"""Resized crops against torchvision's, and where random boxes fall."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from pipeline.augment.crop import crop_boxes, random_resized_crop, resized_crop
from pipeline.augment.draws import Draws
from tests.augment.images import draws, levels, most_apart, shares


@pytest.mark.parametrize("size", [(20, 24), (9, 9), (40, 31)])
def test_resized_crop_equals_torchvision(size: tuple[int, int]) -> None:
    boxes = torch.tensor([[0, 0, 20, 24], [3, 5, 14, 22], [19, 0, 20, 24], [6, 6, 7, 7]])
    for images, allowed in ((levels(4), 1), (shares(4), 1e-3)):
        expected = [
            reference.resized_crop(
                image, top, left, bottom - top, right - left, list(size), antialias=False
            )
            for image, (top, left, bottom, right) in zip(images, boxes.tolist(), strict=True)
        ]
        assert most_apart(resized_crop(images, boxes, *size), torch.stack(expected)) <= allowed


def test_boxes_have_the_asked_area_and_shape() -> None:
    boxes = crop_boxes(Draws(0, 4000), 100, 100, (0.2, 0.6), (0.5, 2.0))
    top, left, bottom, right = boxes.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= 100).all()
    assert (right <= 100).all()
    rows, columns = bottom - top, right - left
    area, ratio = rows * columns / 1e4, columns / rows
    uncut = (rows < 100) & (columns < 100)
    assert 0.19 < float(area[uncut].min()) < 0.22
    assert 0.58 < float(area.max()) < 0.61
    assert 0.48 < float(ratio.min()) < 0.55
    assert 1.8 < float(ratio.max()) < 2.1
    assert abs(float(ratio.log().mean())) < 0.03
    assert int(top.max()) > 50
    assert int(left.min()) == 0


def test_random_crops_differ_between_images_and_repeat() -> None:
    same = levels(1).repeat(6, 1, 1, 1)
    crops = random_resized_crop(same, draws(6), size=16)
    assert crops.shape == (6, 3, 16, 16)
    assert len({crop.numpy().tobytes() for crop in crops}) == 6
    assert torch.equal(crops, random_resized_crop(same, draws(6), size=16))
    assert torch.equal(
        crops[1::2], random_resized_crop(same[1::2], draws(6, rows=slice(1, None, 2)), size=16)
    )


def test_the_whole_image_at_its_size_is_itself() -> None:
    images = levels(3, 3, 16, 16)
    crops = random_resized_crop(images, draws(3), size=16, area=(1.0, 1.0), aspect=(1.0, 1.0))
    assert torch.equal(crops, images)
