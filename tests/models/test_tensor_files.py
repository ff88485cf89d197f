"""What a file of tensors claims is checked before memory is taken, then what it holds."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pipeline.errors import CheckpointError
from pipeline.models.tensor_files import MOST_HEADER, read_safetensors

FRAMEWORKS: tuple[Literal["pt", "numpy"], ...] = ("pt", "numpy")
GOOD = {
    "weight": np.ones((2, 3), np.float32),
    "norm.running_var": np.zeros(3, np.float32),
    "steps": np.array(-4),
    "none": np.empty((0, 3), np.float32),
}
FORMS = {
    "weight": ("F32", (2, 3)),
    "norm.running_var": ("F32", (3,)),
    "steps": ("I64", ()),
    "none": ("F32", (0, 3)),
}


def refused(path: Path, match: str, **how: Any) -> None:
    for framework in FRAMEWORKS:
        with pytest.raises(CheckpointError, match=match) as caught:
            read_safetensors(path, framework, **how)
        assert str(caught.value).isprintable()


def with_header(path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", length or len(text)) + text + data)
    return path


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_tensors_come_back_by_name(tmp_path: Path, framework: Literal["pt", "numpy"]) -> None:
    save_file(GOOD, tmp_path / "t")
    found = read_safetensors(tmp_path / "t", framework, forms=FORMS)
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in GOOD.items()
    }
    names = ("steps", "weight")
    assert tuple(read_safetensors(tmp_path / "t", framework, names=names)) == names


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}},
        {"a": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 0]}},
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"},
        b'{"a":' * 100_000,
        b"[]",
        b"",
    ],
)
def test_a_header_that_claims_what_is_not_there_is_refused(tmp_path: Path, header: object) -> None:
    refused(with_header(tmp_path / "t", header, bytes(8)), "not readable as safetensors")


def test_a_long_header_is_not_read(tmp_path: Path) -> None:
    refused(with_header(tmp_path / "t", {}, length=MOST_HEADER + 1), "a header of 4,194,305 bytes")
    refused(with_header(tmp_path / "t", {}, length=2**63), "a header of")


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("weight", None, r"weight: none, where the network has F32 of \(2, 3\)"),
        ("weight", np.ones((3, 2), np.float32), r"weight: F32 of \(3, 2\), where"),
        ("weight", np.ones((2, 3), np.float64), "weight: F64 of"),
        ("more\x1b[2J", np.ones(2), r"more\\x1b\[2J: F64 of \(2,\), where the network has none"),
    ],
)
def test_other_tensors_than_the_networks_are_refused(
    tmp_path: Path, name: str, value: Any, match: str
) -> None:
    tensors = {key: tensor for key, tensor in (GOOD | {name: value}).items() if tensor is not None}
    save_file(tensors, tmp_path / "t")
    refused(tmp_path / "t", match, forms=FORMS)


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("weight", lambda value: value * np.nan, "weight is not finite"),
        ("weight", lambda value: value * np.inf, "weight is not finite"),
        ("norm.running_var", lambda value: value - 0.5, "has a negative variance, -0.5"),
    ],
)
def test_what_is_no_weight_is_refused(
    tmp_path: Path, name: str, change: Callable[[Any], Any], match: str
) -> None:
    save_file(GOOD | {name: change(GOOD[name])}, tmp_path / "t")
    refused(tmp_path / "t", match)
    assert read_safetensors(tmp_path / "t", "pt", names=["steps"])["steps"] == torch.tensor(-4)
