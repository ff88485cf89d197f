"""Torch files of strangers: what they hold no memory for is refused before it is taken."""

from __future__ import annotations

import resource
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.errors import CheckpointError
from pipeline.models.pretrained import read_file


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(1).expand(10**6, 10**6),
        torch.zeros(2, device="meta"),
    ],
)
def test_a_tensor_that_the_file_does_not_hold_is_refused(tmp_path: Path, value: Tensor) -> None:
    torch.save({"w": value}, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="not a plain tensor that the file holds"):
        read_file(tmp_path / "w.pth", "resnet_small")


def asks_for(name: bytes, argument: bytes) -> bytes:
    """A pickle that calls what torch's unpickler allows with a number."""
    module, _, name = name.rpartition(b".")
    return b"\x80\x02c" + module + b"\n" + name + b"\nJ" + argument + b"\x85R."


HUGE = (2**31 - 1).to_bytes(4, "little")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", [b"builtins.bytearray", b"torch.DoubleTensor"])
def test_a_torch_file_of_a_few_bytes_takes_no_memory(
    tmp_path: Path, name: bytes, packed: bool
) -> None:
    path, content = tmp_path / "w.pth", asks_for(name, HUGE)
    if packed:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("w/data.pkl", content)
            file.writestr("w/version", "3")
            file.writestr("w/byteorder", "little")
    else:
        path.write_bytes(content)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(CheckpointError, match=r"takes over 256 MiB|not enough memory|allocate"):
        read_file(path, "resnet_small")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_a_compressed_torch_file_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "w.pth")
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as whole,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in whole.infolist():
            bomb.writestr(entry.filename, whole.read(entry))
    assert (tmp_path / "bomb.pth").stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="compressed"):
        read_file(tmp_path / "bomb.pth", "resnet_small")
