"""Erasing against torchvision's, and cutout's squares against their definition."""

from __future__ import annotations

import torch
from torchvision.transforms.v2 import functional as reference

from pipeline.augment.erase import cutout, erase, random_erasing
from tests.augment.images import draws, levels, most_apart, shares


def test_erase_equals_torchvision() -> None:
    boxes = torch.tensor([[0, 0, 5, 4], [3, 2, 20, 24], [7, 7, 7, 12]])
    values = torch.tensor([[1.0, 0.0, 0.5], [0.0, 0.2, 0.9], [1.0, 1.0, 1.0]])
    for images, white in ((shares(3), 1), (levels(3), 255)):
        fill = (values * white).to(images.dtype)
        result = erase(images, boxes, fill)
        for image, erased, (top, left, bottom, right), value in zip(
            images, result, boxes.tolist(), fill, strict=True
        ):
            slow = reference.erase(
                image, top, left, bottom - top, right - left, value[:, None, None]
            )
            assert torch.equal(erased, slow)


def test_boxes_over_the_edge_are_cut_and_the_default_is_the_mean() -> None:
    images = shares(2)
    result = erase(images, torch.tensor([[-3, -4, 2, 3], [18, 20, 30, 40]]))
    means = images.mean(dim=(2, 3))
    assert most_apart(result[0, :, :2, :3], means[0][:, None, None].expand(3, 2, 3)) < 1e-6
    assert most_apart(result[1, :, 18:, 20:], means[1][:, None, None].expand(3, 2, 4)) < 1e-6
    assert (result != images).sum() <= 3 * (2 * 3 + 2 * 4)


def test_cutout_erases_a_square_of_its_size_anywhere() -> None:
    count, side = 4000, 16
    images = (torch.arange(side * side).view(1, 1, side, side).float() / 256).repeat(count, 1, 1, 1)
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
    images = (torch.arange(side * side).view(1, 1, side, side).float() / 1024).repeat(
        count, 1, 1, 1
    )
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
    images = levels(20)
    assert torch.equal(random_erasing(images, draws(20), chance=0.0), images)
    changed = (random_erasing(images, draws(20), chance=1.0) != images).flatten(1).any(1)
    assert changed.all()
