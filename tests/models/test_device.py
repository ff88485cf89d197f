import pytest
import torch

from pipeline.models.device import resolve_device


def test_a_named_device_is_that_one() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cuda").type == "cuda"


@pytest.mark.parametrize(("there", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, there: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert resolve_device("auto").type == expected
