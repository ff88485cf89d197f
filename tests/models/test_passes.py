"""Passes change nothing but speed, rounding and, where it is asked for, the number format."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.files import read_json
from pipeline.models import passes as module
from pipeline.models.build import build_network
from pipeline.models.passes import (
    SIZES,
    Passes,
    choose_passes,
    has_bfloat16,
    laid_out,
    measured_folder,
    operations,
    resolve_device,
    run_pass,
    runs_in_bfloat16,
    same_bytes,
)

SHAPE = (3, 16, 16)
MANY = 10**9


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    made = build_network("resnet_small", num_classes=4, channels=3, image_size=16, seed=0, width=8)
    return made.eval()


def images(count: int) -> Tensor:
    return torch.randn((count, *SHAPE), generator=torch.Generator().manual_seed(1))


def test_operations_are_those_of_convolutions_and_linear_layers() -> None:
    small = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 8 × 8 places of 3 · 9 products for 8 channels
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Flatten(),
        nn.Linear(8 * 8 * 8, 5),
    )
    assert operations(small.eval(), SHAPE) == 2 * (64 * 27 * 8 + 64 * 9 * 8 + 512 * 5)


def test_a_short_prediction_runs_as_it_comes_and_measures_nothing(network: nn.Module) -> None:
    assert choose_passes(network, SHAPE, 1000, most=512, bfloat16=True) == Passes()
    assert not measured_folder().exists()


def test_a_long_one_is_measured_once_for_each_precision(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = choose_passes(network, SHAPE, MANY, most=512)
    assert chosen.channels_last
    assert not chosen.bfloat16
    assert chosen.images in SIZES
    (kept,) = measured_folder().glob("*.json")
    assert read_json(kept)["images"] == chosen.images
    monkeypatch.setattr(module, "pass_rates", lambda *_: pytest.fail("measured again"))
    assert choose_passes(network, SHAPE, MANY, most=512) == chosen
    with pytest.raises(pytest.fail.Exception):
        choose_passes(network, SHAPE, MANY, most=512, bfloat16=True)


@pytest.mark.parametrize(("most", "size"), [(4, 4), (16, 16)])
def test_no_pass_has_more_images_than_it_may(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch, most: int, size: int
) -> None:
    monkeypatch.setattr(module, "pass_rates", lambda *_: {min(most, 8): 1.0, most: 2.0})
    assert choose_passes(network, SHAPE, MANY, most=most).images == size


def test_a_size_of_other_bytes_is_not_chosen(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "pass_rates", lambda *_: {128: 9.0})
    monkeypatch.setattr(module, "same_bytes", lambda *_: False)
    assert choose_passes(network, SHAPE, MANY, most=512).images == module.USUAL_SIZE


def test_what_was_kept_and_is_damaged_is_measured_again(network: nn.Module) -> None:
    chosen = choose_passes(network, SHAPE, MANY, most=512)
    (kept,) = measured_folder().glob("*.json")
    for text in ("", '{"images": 7}', "[]"):
        kept.write_text(text)
        assert choose_passes(network, SHAPE, MANY, most=512).images in SIZES
        assert read_json(kept)["images"] in SIZES
    assert chosen.channels_last


def test_a_network_of_which_a_row_depends_on_the_others_is_found_out() -> None:
    class Apart(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images - images.mean(dim=0)).flatten(1)

    class Alone(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)

    assert same_bytes(Alone(), SHAPE, Passes(channels_last=True), 8)
    assert not same_bytes(Apart(), SHAPE, Passes(channels_last=True), 8)
    assert not same_bytes(Apart(), SHAPE, Passes(channels_last=True), 128)


def test_a_pass_that_is_filled_up_says_the_same_of_its_images(network: nn.Module) -> None:
    with torch.inference_mode():
        expected = run_pass(network, images(5), Passes())
        filled = run_pass(network, images(5), Passes(images=8, channels_last=True))
    assert filled.shape == (5, 4)
    torch.testing.assert_close(filled, expected, rtol=1e-4, atol=1e-5)


def test_bfloat16_rounds_and_answers_in_float32(network: nn.Module) -> None:
    with torch.inference_mode():
        full = run_pass(network, images(5), Passes())
        half = run_pass(network, images(5), Passes(bfloat16=True))
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.05 * float(full.abs().max()))


def test_weights_lie_as_they_did_afterwards(network: nn.Module) -> None:
    weight = next(weight for weight in network.parameters() if weight.ndim == 4)
    before = weight.data
    with laid_out(network, Passes(channels_last=True)):
        assert weight.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(weight, before)
    assert weight.data_ptr() == before.data_ptr()
    assert weight.is_contiguous()


def test_a_cpu_says_whether_it_has_bfloat16() -> None:
    assert has_bfloat16(torch.device("cpu")) in (True, False)


class NoKernel(nn.Module):
    """A layer that torch has in float32 alone, forwards or backwards."""

    def __init__(self, backwards: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.backwards = backwards

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layer(features)
        if self.backwards:
            logits.register_hook(self.refuse)  # type: ignore[no-untyped-call]
        else:
            self.refuse(logits)
        return logits

    @staticmethod
    def refuse(values: Tensor) -> None:
        if values.dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")


@pytest.mark.parametrize("backwards", [False, True])
def test_bfloat16_needs_kernels_of_every_layer(
    monkeypatch: pytest.MonkeyPatch, backwards: bool
) -> None:
    monkeypatch.setattr(module, "has_bfloat16", lambda device: True)
    network = NoKernel(backwards)
    assert runs_in_bfloat16(network.layer, (4,))
    assert not runs_in_bfloat16(network, (4,))
    assert all(weight.grad is None for weight in network.parameters())
    monkeypatch.setattr(module, "has_bfloat16", lambda device: False)
    assert not runs_in_bfloat16(network.layer, (4,))


def test_a_named_device_is_that_one() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cuda").type == "cuda"


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device("auto").type == expected
