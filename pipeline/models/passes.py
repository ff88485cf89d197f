"""How the forward passes of a prediction run: memory format, images a pass, precision.

What changes the bytes of a prediction is decided by what is predicted and by the machine's kind,
never by a clock: a long prediction runs channels-last, in bfloat16 where it may, in passes filled
up to one size. That size alone is measured, once for each machine, network, image size, number of
threads and precision, and only sizes that give the same bytes are chosen from. A short prediction
runs as it comes: choosing would take longer.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.files import read_json, value_digest, write_json

LONG_WORK = 1e12  # floating-point operations; seconds to a minute of one core
SIZES = (8, 16, 32, 64, 128)  # images a pass, of a CPU
USUAL_SIZE = 32
TUNING_SECONDS = 2.0
MOST_LOGITS = 1 << 22  # of a pass of networks that answer each pixel; several times are in memory
MOST_LOGITS_GPU = 1 << 26


@dataclass(frozen=True)
class Passes:
    """How forward passes run.

    images: of each, the last one filled up, None for as many as there are; channels_last: the
    memory format of images and weights, else as they are.
    """

    images: int | None = None
    channels_last: bool = False
    bfloat16: bool = False

    @property
    def precision(self) -> str:
        """The name of the number format that they compute in."""
        return "bfloat16" if self.bfloat16 else "float32"


def choose_passes(
    network: nn.Module, shape: Sequence[int], count: int, *, most: int, bfloat16: bool = False
) -> Passes:
    """How to run `count` passes of an image of `shape` (C, S, S) each.

    The network is in evaluation mode, on its device; most: images that a pass may have; bfloat16:
    whether a long prediction is to run in it, which takes more than LONG_WORK.
    """
    device = _device(network)
    if device is None or not _is_long(network, shape, count):
        return Passes()
    fast = Passes(channels_last=True, bfloat16=bfloat16)
    if device.type != "cpu":
        return fast
    sizes = [size for size in SIZES if size <= most] or [most]
    size = _measured_size(network, shape, fast, sizes)
    return Passes(size, fast.channels_last, fast.bfloat16)


def most_images(network: nn.Module, shape: Sequence[int], most: int) -> int:
    """How many images of `shape` (C, S, S), at most so many, a pass may have of a network that
    answers each pixel, so that its logits fit into memory. The network is in evaluation mode."""
    with torch.inference_mode():
        logits = network(torch.zeros(1, *shape, device=_device(network)))
    room = MOST_LOGITS if logits.device.type == "cpu" else MOST_LOGITS_GPU
    return max(1, min(most, room // int(logits.numel())))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 by instructions of its own."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def runs_in_bfloat16(network: nn.Module, shape: Sequence[int]) -> bool:
    """Whether the device has bfloat16, and each layer kernels for it, forwards and backwards.

    The network is in evaluation mode; shape: of an image, (C, S, S), or of its features, (F,).
    """
    device = _device(network)
    if device is None or not has_bfloat16(device):
        return False
    images = torch.zeros(2, *shape, device=device, requires_grad=True)
    try:
        with torch.enable_grad():
            logits = run_pass(network, images, Passes(bfloat16=True))
            torch.autograd.backward(logits.sum())
    except RuntimeError:  # what torch says of a layer that has none
        return False
    finally:
        network.zero_grad(set_to_none=True)
    return True


@contextmanager
def laid_out(network: nn.Module, passes: Passes) -> Iterator[None]:
    """In the block the weights lie as `passes` says; afterwards as they did."""
    before = [(weight, weight.data) for weight in network.parameters() if weight.ndim == 4]
    try:
        for weight, values in before if passes.channels_last else ():
            weight.data = values.contiguous(memory_format=torch.channels_last)
        yield
    finally:
        for weight, values in before:
            weight.data = values


def run_pass(network: nn.Module, images: Tensor, passes: Passes) -> Tensor:
    """The logits (n, K, …) float32 of n normalised images (n, C, S, S), at most `passes.images`."""
    count = len(images)
    if passes.images is not None and count < passes.images:
        images = torch.cat([images, images[-1:].expand(passes.images - count, -1, -1, -1)])
    if passes.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    half = torch.autocast(images.device.type, torch.bfloat16) if passes.bfloat16 else nullcontext()
    with half:
        logits: Tensor = network(images)
    return logits[:count].float()


def operations(network: nn.Module, shape: Sequence[int]) -> float:
    """Floating-point operations of one image's convolutions and linear layers; shape: (C, S, S)."""
    counts: list[int] = []

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        counts.append(2 * weight.numel() * output.numel() // weight.shape[0])

    layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            network(torch.zeros(1, *shape, device=_device(network)))
    finally:
        for hook in hooks:
            hook.remove()
    return float(sum(counts))


def _is_long(network: nn.Module, shape: Sequence[int], count: int) -> bool:
    return count * operations(network, shape) >= LONG_WORK


def _device(network: nn.Module) -> torch.device | None:
    weight = next(network.parameters(), None)
    return None if weight is None else weight.device


def _measured_size(network: nn.Module, shape: Sequence[int], fast: Passes, sizes: list[int]) -> int:
    """The best of `sizes`, measured if no earlier prediction has measured it on this machine."""
    layers = [f"{name} {tuple(weight.shape)}" for name, weight in network.named_parameters()]
    about = {
        "layers": layers,
        "shape": list(shape),
        "operations": operations(network, shape),  # other where the network resizes its images
        "sizes": sizes,
        "bfloat16": fast.bfloat16,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "processor": {key: str(value) for key, value in torch.cpu.get_capabilities().items()},
    }
    path = measured_folder() / f"{value_digest(about)[:32]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        if (size := read_json(path)["images"]) in sizes:
            return int(size)
    rates = pass_rates(network, shape, fast, sizes)
    size = max(rates, key=lambda each: rates[each])
    if not same_bytes(network, shape, fast, size):
        size = min(USUAL_SIZE, sizes[-1])  # what every machine of this kind chooses then
    with suppress(OSError):  # measured again the next time
        write_json(path, {"images": size, "images_per_second": rates})
    return size


def measured_folder() -> Path:
    """Where this user's machine keeps what was measured; XDG_CACHE_HOME moves it."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "selftrain" / "passes"


def pass_rates(
    network: nn.Module, shape: Sequence[int], fast: Passes, sizes: Sequence[int]
) -> dict[int, float]:
    """Images a second by images a pass, smallest first until TUNING_SECONDS are over."""
    rates: dict[int, float] = {}
    begun = time.perf_counter()
    with laid_out(network, fast), torch.inference_mode():
        for size in sizes:
            images = _some_images(size, shape)
            run_pass(network, images, fast)  # makes the kernels ready
            seconds = []
            for _ in range(3):
                started = time.perf_counter()
                run_pass(network, images, fast)
                seconds.append(time.perf_counter() - started)
            rates[size] = round(size / min(seconds), 1)
            if time.perf_counter() - begun > TUNING_SECONDS:
                break
    return rates


def same_bytes(network: nn.Module, shape: Sequence[int], fast: Passes, size: int) -> bool:
    """Whether passes of `size` images say bit for bit what those of the usual size do."""
    images = _some_images(max(size, USUAL_SIZE), shape)
    with laid_out(network, fast), torch.inference_mode():
        first, second = (
            torch.cat([run_pass(network, part, fast) for part in torch.split(images, each)])
            for each in (size, USUAL_SIZE)
        )
    return torch.equal(first, second)


def _some_images(count: int, shape: Sequence[int]) -> Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(0))


def resolve_device(name: str) -> torch.device:
    """The device of a `device` parameter: auto is a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def has_gpu() -> bool:
    """Whether there is a GPU that torch can use."""
    return torch.cuda.is_available()
