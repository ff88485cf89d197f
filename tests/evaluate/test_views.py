from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.evaluate import views as module
from pipeline.evaluate.views import iter_log_probs, num_views, predict, views_of
from pipeline.models.passes import Passes
from pipeline.params import ViewParams
from pipeline.tasks import open_task
from pipeline.tasks.classification import TASK

VIEWS = ("centre", "flip", "five_crop", "ten_crop", "multi_scale", "jitter")


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


def views(images: Tensor, name: Any, *, jitter_views: int = 8, **options: Any) -> Iterator[Tensor]:
    params = ViewParams(views=name, jitter_views=jitter_views)
    return (view.images for view in views_of(images, params, **options))


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_the_size_of_the_image(name: Any) -> None:
    seen = list(views(batch(), name, jitter_views=4))
    count = num_views(ViewParams(views=name, jitter_views=4))
    assert [tuple(view.shape) for view in seen] == [(3, 2, 16, 16)] * count


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


@pytest.mark.parametrize("side", [16, 28, 9])
def test_scales_keep_the_centre_in_its_place(side: int) -> None:
    dot = torch.zeros(1, 1, side, side)
    middle = slice(side // 2 - 1, -(-side // 2) + 1)
    dot[..., middle, middle] = 1
    plain = dot[0, 0].nonzero().float().mean(dim=0)
    for view in views(dot, "multi_scale"):
        there = view[0, 0].nonzero().float().mean(dim=0)
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


@pytest.mark.parametrize("view", VIEWS)
def test_prediction_is_the_mean_probability_of_the_views(view: Any) -> None:
    network, images = small_network(), stored(5)
    mean, std = [0.3, 0.6], [0.2, 0.5]
    params = ViewParams(views=view)
    result = predict(network, images, TASK, mean=mean, std=std, temperature=2.0, views=params)
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
def test_prediction_does_not_depend_on_batches(view: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAW_BLOCK", 4)
    network, images = small_network(), stored(11)
    whole, batches = (
        predict(
            network,
            images,
            TASK,
            mean=[0.5, 0.5],
            std=[0.5, 0.5],
            views=ViewParams(views=view, batch_size=size),
        )
        for size in (512, 3)
    )
    np.testing.assert_allclose(batches, whole, atol=1e-5)


def test_prediction_leaves_the_network_as_it_was() -> None:
    network = small_network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    done: list[int] = []

    def advance(amount: int = 1, note: str = "") -> None:
        done.append(amount)

    four = ViewParams(batch_size=4)
    predict(network, stored(11), TASK, mean=[0, 0], std=[1, 1], views=four, advance=advance)
    assert network.training
    assert done == [4, 4, 3]
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_extreme_logits_stay_finite() -> None:
    class Sure(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([500.0, 0.0]).expand(len(images), 2)

    flip = ViewParams(views="flip")
    result = predict(Sure(), stored(2), TASK, mean=[0, 0], std=[1, 1], views=flip)
    np.testing.assert_allclose(result, [[0, -500], [0, -500]], atol=1e-3)


def test_no_images_give_no_rows() -> None:
    assert len(predict(small_network(), stored(11)[:0], TASK, mean=[0, 0], std=[1, 1])) == 0


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


class Counting(nn.Module):
    """Logits of zero for each image, or each pixel of it; notes how many images it sees."""

    def __init__(self, num_classes: int, *, dense: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, 1))
        self.dense, self.counts = dense, list[int]()

    def forward(self, images: Tensor) -> Tensor:
        self.counts.append(len(images))
        pixels = images.mean(dim=1, keepdim=True) if self.dense else images.mean(dim=(1, 2, 3))
        shape = (-1, 1, 1) if self.dense else (-1,)
        return pixels.reshape(len(images), 1, *pixels.shape[2:]) * self.weight.view(shape)


@pytest.mark.parametrize("given", [None, Passes(channels_last=True)])
def test_a_batch_of_pixels_answers_fits_into_memory(given: Passes | None) -> None:
    images, few = np.zeros((64, 1, 256, 256), np.uint8), ViewParams(batch_size=512)
    how: dict[str, Any] = {"mean": [0.0], "std": [1.0], "views": few, "passes": given}
    seen = {}
    for name, count, num_classes in (("segmentation", 24, 12), ("classification", 64, 1000)):
        network = Counting(num_classes, dense=name == "segmentation").eval()
        sizes = [len(b) for b in iter_log_probs(network, images[:count], open_task(name), **how)]
        assert sum(sizes) == count
        assert set(network.counts) <= {1, *sizes}
        seen[name] = sizes
    assert max(seen["segmentation"]) * 256 * 256 * 12 * 4 < 50e6
    assert len(seen["segmentation"]) < 6
    assert seen["classification"] == [64]
    huge = Counting(254, dense=True).eval()
    large = np.zeros((2, 1, 512, 512), np.uint8)
    assert len(next(iter_log_probs(huge, large, open_task("segmentation"), **how))) == 1
