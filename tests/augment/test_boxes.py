"""Where random boxes fall, and what is erased."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from pipeline.augment.boxes import crop_boxes, cutout, erase, random_erasing, resized_crop
from pipeline.augment.draws import Draws
from tests.augment.images import draws, most_apart, shares


def different_pixels(count: int, side: int) -> Tensor:
    """The same image `count` times, no two pixels of which are equal."""
    pixels = torch.arange(side * side).view(1, 1, side, side).float() / side**2
    return pixels.repeat(count, 1, 1, 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_of_any_size_are_cut_out_as_by_torchvision(channels: int) -> None:
    boxes = torch.tensor([[0, 0, 20, 24], [3, 5, 14, 22], [19, 0, 20, 24], [6, 6, 7, 7]])
    images = shares(4, channels)
    expected = [
        reference.resized_crop(
            image, top, left, bottom - top, right - left, [20, 24], antialias=False
        )
        for image, (top, left, bottom, right) in zip(images, boxes.tolist(), strict=True)
    ]
    assert most_apart(resized_crop(images, boxes), torch.stack(expected)) <= 1e-3


def test_boxes_have_the_area_and_shape_of_the_parameters() -> None:
    boxes = crop_boxes(Draws(0, 4000), 100, 100, (0.2, 0.6), (0.5, 2.0))
    top, left, bottom, right = boxes.unbind(1)
    assert 0 <= int(boxes.min()) <= int(boxes.max()) <= 100
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


def test_boxes_over_the_edge_are_cut_and_filled_with_the_mean() -> None:
    images = shares(2)
    result = erase(images, torch.tensor([[-3, -4, 2, 3], [18, 20, 30, 40]]))
    means = images.mean(dim=(2, 3))
    assert most_apart(result[0, :, :2, :3], means[0][:, None, None].expand(3, 2, 3)) < 1e-6
    assert most_apart(result[1, :, 18:, 20:], means[1][:, None, None].expand(3, 2, 4)) < 1e-6
    assert (result != images).sum() <= 3 * (2 * 3 + 2 * 4)


def test_cutout_erases_a_square_of_its_size_anywhere() -> None:
    count, side = 4000, 16
    images = different_pixels(count, side)
    gone = (cutout(images, draws(count), side=0.25) != images)[:, 0]
    areas = gone.sum(dim=(1, 2))
    assert int(areas.max()) == 16
    assert int(areas.min()) == 4
    assert (areas == 16).float().mean() > 0.6
    hit = gone.float().mean(dim=0)
    assert float(hit[0, 0]) > 0.01  # corners too
    assert torch.allclose(hit[4:12, 4:12], torch.tensor(1 / 16), atol=0.02)


def test_erasing_hits_its_share_of_the_images_with_rectangles_inside() -> None:
    count, side = 3000, 32
    images = different_pixels(count, side)
    gone = (random_erasing(images, draws(count), chance=0.3, area=(0.1, 0.2)) != images)[:, 0]
    areas = gone.sum(dim=(1, 2)).float() / side**2
    hit = areas > 0
    assert 0.27 < float(hit.float().mean()) < 0.33
    assert float(areas[hit].min()) > 0.09
    assert float(areas.max()) < 0.22
    rows, columns = gone.any(dim=2).sum(1), gone.any(dim=1).sum(1)
    filled = gone.sum(dim=(1, 2)) / (rows * columns).clamp(min=1)
    assert float(filled[hit].min()) > 0.95  # rectangles; a pixel may equal the mean
    ratio = columns[hit] / rows[hit]
    assert float(ratio.min()) < 0.45
    assert float(ratio.max()) > 2.5


def test_no_chance_erases_nothing_and_certainty_every_image() -> None:
    images = shares(20)
    assert torch.equal(random_erasing(images, draws(20), chance=0.0), images)
    assert (random_erasing(images, draws(20), chance=1.0) != images).flatten(1).any(1).all()
