from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ModelError, ParameterError
from pipeline.evaluate.views import VIEWS, num_views, predict_log_probs, views


def batch(images: int = 3, side: int = 16, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((images, channels, side, side), generator=generator)


def small_network(classes: int = 4, channels: int = 2) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(channels, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Dropout(0.5),
        nn.LazyLinear(classes),
    )  # fmt: skip
    network(torch.zeros(2, channels, 16, 16))
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return network


def stored(images: int = 11) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    array = (batch(images).numpy() * 255).astype(np.uint8)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_the_network_s_size(name: str) -> None:
    for crop_size in (None, 12):
        seen = list(views(batch(), name, crop_size=crop_size, jitter_views=4))
        side = crop_size or 16
        assert [tuple(view.shape) for view in seen] == [(3, 2, side, side)] * num_views(name, 4)


@pytest.mark.parametrize("name", VIEWS)
def test_views_show_the_image_s_own_pixels(name: str) -> None:
    seen = torch.stack(list(views(batch(), name)))
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert (seen - seen[:1]).abs().amax(dim=(1, 2, 3, 4))[1:].gt(0.1).all()


def test_flip_is_the_image_and_its_mirror() -> None:
    images = batch()
    first, second = views(images, "flip")
    torch.testing.assert_close(first, images)
    torch.testing.assert_close(second, images[..., list(range(15, -1, -1))])


def test_five_crop_moves_the_image_and_repeats_its_border() -> None:
    images = batch()
    margin = 2  # 16 / 8
    centre, top_left, _, _, bottom_right = views(images, "five_crop")
    torch.testing.assert_close(centre, images)
    for row in range(16):
        for column in range(16):
            from_row, from_column = max(row - margin, 0), max(column - margin, 0)
            torch.testing.assert_close(
                top_left[..., row, column], images[..., from_row, from_column]
            )
    torch.testing.assert_close(bottom_right[..., :14, :14], images[..., 2:, 2:])


def test_smaller_crops_are_the_corners_of_the_stored_image() -> None:
    images = batch()
    centre, *corners = views(images, "five_crop", crop_size=12)
    torch.testing.assert_close(centre, images[..., 2:14, 2:14])
    expected = [images[..., a : a + 12, b : b + 12] for a in (0, 4) for b in (0, 4)]
    for corner, window in zip(corners, expected, strict=True):
        torch.testing.assert_close(corner, window)


def test_ten_crop_is_five_crop_and_its_mirrors() -> None:
    five, ten = list(views(batch(), "five_crop")), list(views(batch(), "ten_crop"))
    for plain, first, second in zip(five, ten[::2], ten[1::2], strict=True):
        torch.testing.assert_close(first, plain)
        torch.testing.assert_close(second, plain.flip(-1))


def test_multi_scale_shrinks_and_enlarges_about_the_centre() -> None:
    images = batch()
    centre, smaller, larger = views(images, "multi_scale")
    torch.testing.assert_close(centre, images)
    shrunk = F.interpolate(images, (14, 14), mode="bilinear", antialias=True)  # 16 - 2 · 16/16
    grown = F.interpolate(images, (18, 18), mode="bilinear", antialias=True)
    for row in range(16):
        for column in range(16):
            inside = (min(max(row - 1, 0), 13), min(max(column - 1, 0), 13))
            torch.testing.assert_close(smaller[..., row, column], shrunk[..., *inside])
            torch.testing.assert_close(larger[..., row, column], grown[..., row + 1, column + 1])


@pytest.mark.parametrize(("side", "crop_size"), [(16, None), (16, 12), (16, 15), (28, 28), (9, 8)])
def test_scales_keep_the_centre_in_its_place(side: int, crop_size: int | None) -> None:
    dot = torch.zeros(1, 1, side, side)
    middle = slice(side // 2 - 1, -(-side // 2) + 1)
    dot[..., middle, middle] = 1
    for view in views(dot, "multi_scale", crop_size=crop_size):
        there = view[0, 0].nonzero().float().mean(dim=0)
        plain = next(views(dot, "centre", crop_size=crop_size))[0, 0].nonzero().float().mean(dim=0)
        torch.testing.assert_close(there, plain)


def test_jitter_repeats_and_depends_on_seed_and_view() -> None:
    def seen(seed: int) -> Iterator[Tensor]:
        return views(batch(), "jitter", jitter_views=2, seed=seed)

    for one, same in zip(seen(1), seen(1), strict=True):
        torch.testing.assert_close(one, same)
    first, second = seen(1)
    other, _ = seen(2)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    assert (first - batch()).abs().mean() < 0.3  # a little, not another image


def test_unknown_views_and_too_large_crops_are_refused() -> None:
    with pytest.raises(ParameterError, match="'six_crop': there are centre"):
        next(views(batch(), "six_crop"))
    with pytest.raises(ModelError, match="takes images of 32 pixels"):
        next(views(batch(), "centre", crop_size=32))


@pytest.mark.parametrize("view", VIEWS)
def test_prediction_is_the_mean_probability_of_the_views(view: str) -> None:
    network, images = small_network(), stored(5)
    mean, std = [0.3, 0.6], [0.2, 0.5]
    result = predict_log_probs(network, images, mean=mean, std=std, temperature=2.0, view=view)
    network.eval()
    floats = torch.from_numpy(images.copy()).float() / 255
    with torch.no_grad():
        total = torch.zeros(5, 4)
        seen = [crop.clone() for crop in views(floats, view)]
        for crop in seen:
            for channel in range(2):
                crop[:, channel] = (crop[:, channel] - mean[channel]) / std[channel]
            total += torch.softmax(network(crop) / 2.0, dim=1)
    np.testing.assert_allclose(np.exp(result), (total / len(seen)).numpy(), atol=1e-5)
    assert result.dtype == np.float32


@pytest.mark.parametrize("view", ["five_crop", "jitter"])
def test_prediction_does_not_depend_on_batches_or_shards(view: str) -> None:
    network, images = small_network(), stored(11)
    predict = partial(predict_log_probs, network, mean=[0.5, 0.5], std=[0.5, 0.5], view=view)
    whole = predict(images, start=1020)
    batches = predict(images, start=1020, batch_size=3)
    later = predict(images[4:], start=1024)
    np.testing.assert_allclose(batches, whole, atol=1e-5)
    np.testing.assert_allclose(later, whole[4:], atol=1e-5)


def test_prediction_leaves_the_network_as_it_was() -> None:
    network = small_network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    done: list[int] = []

    def advance(amount: int = 1, note: str = "") -> None:
        done.append(amount)

    predict_log_probs(network, stored(11), mean=[0, 0], std=[1, 1], batch_size=4, advance=advance)
    assert network.training
    assert done == [4, 4, 3]
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_extreme_logits_stay_finite() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([500.0, 0.0]).expand(len(images), 2)

    result = predict_log_probs(Sure(), stored(2), mean=[0, 0], std=[1, 1], view="flip")
    np.testing.assert_allclose(result, [[0, -500], [0, -500]], atol=1e-3)


def test_no_images_give_no_rows() -> None:
    assert len(predict_log_probs(small_network(), stored(11)[:0], mean=[0, 0], std=[1, 1])) == 0


def test_images_jittered_alike_do_not_depend_on_each_other() -> None:
    images = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"jitter_views": 3, "seed": 2, "alike": True}
    together = list(views(images, "jitter", **options))
    assert len(together) == 3
    for row in range(5):
        alone = list(views(images[row : row + 1], "jitter", **options))
        for view, one in zip(together, alone, strict=True):
            torch.testing.assert_close(view[row : row + 1], one)
            assert (one - images[row]).abs().max() > 0.05
    assert not torch.allclose(together[0], together[1])
