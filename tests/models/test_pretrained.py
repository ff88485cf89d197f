"""Weights from a folder, a file or a hub's cache come in whole, fitted, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.errors import CheckpointError, ParameterError, SelftrainError
from pipeline.models.build import build_network
from pipeline.models.pretrained import (
    Weights,
    load_weights,
    normalization,
    path_digest,
    published_normalization,
    read_file,
    read_folder,
    read_hub,
)
from tests.tiny import save_model, tiny_network

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NOWHERE = "http://127.0.0.1:9"  # no proxy listens there, so that no hub can be reached


def weights_of(network: nn.Module, **changes: Any) -> Weights:
    return Weights({k: v.clone() for k, v in network.state_dict().items()}, **changes)


def different(first: nn.Module, second: nn.Module) -> set[str]:
    """The names of what is not the same in both."""
    other = second.state_dict()
    return {k for k, v in first.state_dict().items() if not torch.equal(v, other[k])}


def test_all_fits_the_same_network_and_the_head_only_where_asked() -> None:
    source, target = tiny_network(1), tiny_network(2)
    fitted = load_weights(target, weights_of(source), head=False, source="x")
    assert different(source, target) == {"classifier.weight", "classifier.bias"}
    assert set(fitted.loaded) == set(source.state_dict()) - different(source, target)
    load_weights(target, weights_of(source), head=True, source="x")
    assert different(source, target) == set()


def test_another_number_of_classes_leaves_the_head_out() -> None:
    source, target = tiny_network(1, num_classes=5), tiny_network(2)
    fitted = load_weights(target, weights_of(source), head=True, source="x")
    assert set(fitted.skipped) == {"classifier.weight", "classifier.bias"}
    assert fitted.skipped["classifier.bias"] == "is (5,), not (3,)"


def test_what_data_parallel_training_wrote_is_known() -> None:
    source, target = tiny_network(1), tiny_network(2)
    wrapped = {f"module.{key}": value for key, value in source.state_dict().items()}
    load_weights(target, Weights(wrapped), head=True, source="x")
    assert different(source, target) == set()


@pytest.mark.parametrize("there", [1, 3])
def test_a_first_convolution_reads_grey_as_it_read_colour(there: int) -> None:
    source = tiny_network(1, channels=there).eval()
    target = tiny_network(2, channels=4 - there).eval()
    load_weights(target, weights_of(source), head=True, source="x")
    grey = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = {1: grey, 3: grey.repeat(1, 3, 1, 1)}
    with torch.no_grad():
        torch.testing.assert_close(target(images[4 - there]), source(images[there]))


def test_another_network_is_refused_with_what_does_not_fit() -> None:
    target = tiny_network(2)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    given = replace(weights_of(tiny_network(1, width=6)), network="model: {width: 6}")
    with pytest.raises(ParameterError) as caught:
        load_weights(target, given, head=True, source="models/x")
    message = str(caught.value)
    assert "transfer.source = 'models/x': only 0 of the body's" in message
    assert "stem.0.weight is (6, 1, 3, 3), not (4, 1, 3, 3)" in message
    assert message.endswith("set model: {width: 6}")
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


def test_half_of_the_body_is_enough_and_less_is_not() -> None:
    source = tiny_network(1)
    body = [key for key, _ in source.named_parameters() if not key.startswith("classifier")]
    sizes = {key: source.get_parameter(key).numel() for key in body}
    kept: dict[str, Tensor] = {}
    for key in body:
        enough = sum(sizes[name] for name in kept) >= 0.5 * sum(sizes.values())
        if enough:
            break
        with pytest.raises(ParameterError, match="is not there"):
            load_weights(tiny_network(2), Weights(kept), head=False, source="x")
        kept[key] = source.state_dict()[key]
    assert load_weights(tiny_network(2), Weights(kept), head=False, source="x").loaded


def test_a_model_folder_says_its_classes_and_normalisation(tmp_path: Path) -> None:
    save_model(tmp_path / "model", seed=4, mean=[0.4], std=[0.2])
    weights = read_folder(tmp_path / "model")
    assert (weights.mean, weights.std) == ((0.4,), (0.2,))
    assert weights.classes == ("left", "middle", "right")
    assert weights.network == "model: {name: resnet_small, width: 4}"
    target = tiny_network(2)
    load_weights(target, weights, head=True, source="x")
    assert different(tiny_network(4), target) == set()


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_files_of_others_are_read(tmp_path: Path, suffix: str, wrapper: str | None) -> None:
    state, path = tiny_network(1).state_dict(), tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state if wrapper is None else {wrapper: state, "epoch": 3}, path)
    weights = read_file(path, "resnet_small")
    assert weights.tensors.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in weights.tensors.items())
    assert (weights.mean, weights.std, weights.classes) == (None, None, None)


class Harmful:
    """What unpickling would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


@pytest.mark.parametrize("name", ["a.pth", "b.safetensors", "c.pth", "d.pth"])
def test_what_holds_no_weights_is_refused_and_never_run(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    if name == "a.pth":
        torch.save({"weights": Harmful()}, path)
    elif name == "c.pth":
        torch.save([1, 2], path)
    else:
        path.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="not readable as ") as caught:
        read_file(path, "resnet_small")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def nan(state: dict[str, Tensor]) -> None:
    state["stem.0.weight"][0] = torch.nan


def overflow(state: dict[str, Tensor]) -> None:
    state["stem.0.weight"] = state["stem.0.weight"].double() * 0 + 1e300


def overflow_of_the_sum(state: dict[str, Tensor]) -> None:
    state["stem.0.weight"] = torch.full((4, 3, 3, 3), 3e38)


def negative_variance(state: dict[str, Tensor]) -> None:
    state["stem.1.running_var"][1] = -1.0


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
@pytest.mark.parametrize("change", [nan, overflow, overflow_of_the_sum, negative_variance])
def test_weights_that_are_none_are_refused(
    tmp_path: Path, ending: str, change: Callable[[dict[str, Tensor]], None]
) -> None:
    state, path = tiny_network(seed=4).state_dict(), tmp_path / f"weights.{ending}"
    change(state)
    save_file(state, path) if ending == "safetensors" else torch.save(state, path)
    with pytest.raises(CheckpointError, match=r"not finite|negative variance") as caught:
        load_weights(tiny_network(), read_file(path, "resnet_small"), head=True, source=str(path))
    assert str(path) in str(caught.value)


def test_a_digest_names_a_folder_or_a_file_by_all_that_counts(tmp_path: Path) -> None:
    save_model(tmp_path / "a", seed=1)
    digests = [path_digest(tmp_path / "a"), path_digest(tmp_path / "a" / "model.safetensors")]
    save_model(tmp_path / "a", seed=1, mean=[0.7])
    digests.append(path_digest(tmp_path / "a"))
    save_model(tmp_path / "a", seed=2, mean=[0.7])
    digests.append(path_digest(tmp_path / "a"))
    assert len(set(digests)) == 4
    for missing in (tmp_path / "b", tmp_path):
        with pytest.raises(CheckpointError, match="neither a model folder"):
            path_digest(missing)


def test_published_weights_say_their_normalisation() -> None:
    half = (0.5, 0.5, 0.5)
    assert published_normalization("resnet18") == IMAGENET
    assert published_normalization("torchvision/resnet18") == IMAGENET
    assert published_normalization("timm/vit_tiny_patch16_224") == (half, half)
    assert published_normalization("resnet_small") == (None, None)


def test_normalisation_follows_the_number_of_channels() -> None:
    colour = Weights({}, mean=(0.1, 0.2, 0.6), std=(0.2, 0.2, 0.5))
    assert normalization(colour, 3) == ([0.1, 0.2, 0.6], [0.2, 0.2, 0.5])
    grey = normalization(colour, 1)
    assert grey is not None
    assert [*grey[0], *grey[1]] == [pytest.approx(0.3), pytest.approx(0.3)]
    assert normalization(Weights({}, mean=(0.1,), std=(0.2,)), 3) == ([0.1] * 3, [0.2] * 3)
    assert normalization(Weights({}), 3) is None


def test_torchvisions_weights_come_from_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    source = squeezenet1_1()
    torch.save(source.state_dict(), cache / SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2])
    weights = read_hub("torchvision", "squeezenet1_1")
    assert (weights.mean, weights.std) == IMAGENET
    target = build_network("squeezenet1_1", num_classes=4, channels=1, image_size=32, seed=0)
    fitted = load_weights(target, weights, head=True, source="torchvision")
    assert set(fitted.skipped) == {"classifier.1.weight", "classifier.1.bias"}
    first = source.state_dict()["features.0.weight"].sum(dim=1, keepdim=True)
    torch.testing.assert_close(target.state_dict()["features.0.weight"], first)


@pytest.mark.parametrize(
    ("hub", "name"),
    [("torchvision", "squeezenet1_1"), ("timm", "resnet18"), ("timm", "resnet_small")],
)
def test_a_hub_that_has_nothing_or_is_out_of_reach_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub: str, name: str
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, NOWHERE)
    with pytest.raises(SelftrainError) as caught:
        read_hub(hub, name)
    message = str(caught.value)
    assert message.startswith(f"transfer.source = '{hub}': no weights of '{name}' to be had (")
    assert "or give a file as transfer.source" in message
    assert ("transfer.source: packaged with model.name" in message) == (hub == "timm")
    assert "\n" not in message
