import json
import resource
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from pipeline.errors import CheckpointError, ModelError, SelftrainError
from pipeline.evaluate.classifier import load_classifier
from pipeline.files import file_digest
from pipeline.models.checkpoint import load_checkpoint, network_of, save_checkpoint
from pipeline.models.head import read_head, save_head
from pipeline.models.pretrained import read_folder
from pipeline.models.spec import SPEC, WEIGHTS, model_digest, read_spec, teacher_chain
from tests.tiny import CLASSES, same_tensors, save_model, tiny_network, tiny_spec


def refused(folder: Path, kind: type[SelftrainError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_model_comes_back_as_it_was(tmp_path: Path) -> None:
    spec = tiny_spec(temperature=1.7, teacher="ab" * 32, notes={"steps": 5}, generation="2")
    network = network_of(spec, seed=3).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "model", network.state_dict(), spec)
    loaded = load_checkpoint(tmp_path / "model")
    assert loaded.spec == spec
    assert not loaded.network.training
    assert same_tensors(loaded.network.state_dict(), network.state_dict())
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(images), network.eval()(images))


def test_the_spec_is_plain_json(tmp_path: Path) -> None:
    spec = save_model(tmp_path / "model", generation="1")
    written = json.loads((tmp_path / "model" / SPEC).read_text())
    assert written.pop("weights") == file_digest(tmp_path / "model" / WEIGHTS)
    assert written | {"weights": None, "task": "classification"} == asdict(spec)
    assert read_spec(tmp_path / "model") == spec


def test_the_same_model_gives_the_same_bytes_and_digest(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        save_model(tmp_path / name, seed=seed)
    for file in (WEIGHTS, SPEC):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert model_digest(tmp_path / "a") == model_digest(tmp_path / "b")
    assert model_digest(tmp_path / "a") != model_digest(tmp_path / "c")


def test_saving_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    save_model(tmp_path / "model", seed=1)
    (tmp_path / "model" / "left_over").write_text("old")
    save_model(tmp_path / "model", seed=2)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model", SPEC, WEIGHTS]
    expected = tiny_network(seed=2).state_dict()
    assert same_tensors(load_checkpoint(tmp_path / "model").network.state_dict(), expected)


def test_a_failed_save_keeps_the_old_model(tmp_path: Path) -> None:
    save_model(tmp_path / "model", seed=1)
    before = model_digest(tmp_path / "model")
    with pytest.raises((TypeError, ValueError)):
        save_checkpoint(
            tmp_path / "model", tiny_network(2).state_dict(), tiny_spec(notes={"bad": object()})
        )
    assert model_digest(tmp_path / "model") == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: float) -> None:
    save_model(tmp_path / "model")
    path = tmp_path / "model" / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if keep == 0.5 else int(keep)])
    assert str(path) in refused(tmp_path / "model")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("read", [load_checkpoint, read_folder, read_head, load_classifier])
def test_weights_with_a_flipped_bit_are_refused(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    folder = tmp_path / "model"
    save_model(folder, notes={"classifier": "classifier"})
    read(folder)
    flip_a_bit(folder / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"not the bytes that model\.json names") as caught:
        read(folder)
    assert str(caught.value).startswith(f"{folder / WEIGHTS}: ")
    assert "dvc checkout" in str(caught.value)


def test_a_head_is_not_written_over_a_damaged_body(tmp_path: Path) -> None:
    save_model(tmp_path / "body", notes={"classifier": "classifier"})
    head = read_head(tmp_path / "body")
    flip_a_bit(tmp_path / "body" / WEIGHTS)
    with pytest.raises(CheckpointError, match="not the bytes"):
        save_head(tmp_path / "0", head, tmp_path / "body", generation="0", classes=CLASSES)
    assert not (tmp_path / "0").exists()


def test_a_model_of_an_earlier_version_without_the_digest_is_read(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    spec = json.loads((tmp_path / "model" / SPEC).read_text())
    del spec["weights"]
    (tmp_path / "model" / SPEC).write_text(json.dumps(spec))
    load_checkpoint(tmp_path / "model")


def test_a_missing_file_or_folder_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nowhere")
    save_model(tmp_path / "model")
    (tmp_path / "model" / WEIGHTS).unlink()
    assert WEIGHTS in refused(tmp_path / "model")
    assert "as models/0 after selftrain run" in refused(tmp_path / "nowhere")


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    torch.save(tiny_network().state_dict(), tmp_path / "model" / WEIGHTS)
    assert "safetensors" in refused(tmp_path / "model")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    save_model(tmp_path / "wide", network={"name": "resnet_small", "width": 6})
    (tmp_path / "wide" / WEIGHTS).replace(tmp_path / "model" / WEIGHTS)
    assert "does not fit" in refused(tmp_path / "model")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"network": {}}'])
def test_a_wrong_spec_is_refused(tmp_path: Path, text: str) -> None:
    save_model(tmp_path / "model")
    (tmp_path / "model" / SPEC).write_text(text)
    assert str(tmp_path / "model" / SPEC) in refused(tmp_path / "model")


def test_a_spec_with_unknown_names_is_refused(tmp_path: Path) -> None:
    spec = save_model(tmp_path / "model")
    path = tmp_path / "model" / SPEC
    path.write_text(json.dumps(asdict(spec) | {"colour": "red"}))
    assert "colour" in refused(tmp_path / "model")
    path.write_text(json.dumps(asdict(spec) | {"network": {"name": "resnet_small", "hue": 1}}))
    assert "hue" in refused(tmp_path / "model")
    path.write_text(json.dumps(asdict(spec) | {"network": {"name": "resnet_smal"}}))
    assert "resnet_small" in refused(tmp_path / "model", ModelError)


@pytest.mark.parametrize(
    "temperature", ["1e-320", "0", "-1", "1e300", "NaN", "1e999", "null", '"1"']
)
def test_a_temperature_that_is_none_is_refused(tmp_path: Path, temperature: str) -> None:
    save_model(tmp_path / "model")
    path = tmp_path / "model" / SPEC
    text = path.read_text()
    path.write_text(text.replace('"temperature": 1.0', f'"temperature": {temperature}'))
    assert path.read_text() != text
    refused(tmp_path / "model")


@pytest.mark.parametrize(
    "name", ["wrn_994_999", "torchvision/vit_h_14", "timm/vit_giant_patch14_224", "regnet_y_128gf"]
)
def test_a_huge_network_takes_no_memory(tmp_path: Path, name: str) -> None:
    save_model(tmp_path / "model")
    path = tmp_path / "model" / SPEC
    path.write_text(json.dumps(json.loads(path.read_text()) | {"network": {"name": name}}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "does not fit" in refused(tmp_path / "model")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB


def test_a_network_whose_widths_torch_computes_comes_back(tmp_path: Path) -> None:
    spec = save_model(tmp_path / "model", network={"name": "regnet_x_400mf"}, image_size=32)
    assert load_checkpoint(tmp_path / "model").spec == spec


def chain(folder: Path, first_seed: int = 0, first_temperature: float = 1.0) -> list[Path]:
    """Three generations of equal weights but the first, each naming its teacher."""
    teacher = None
    for generation in range(3):
        save_model(
            folder / str(generation),
            seed=first_seed if generation == 0 else 9,
            temperature=first_temperature if generation == 0 else 1.0,
            generation=str(generation),
            teacher=teacher,
        )
        teacher = model_digest(folder / str(generation))
    return [folder / str(generation) for generation in range(3)]


def test_a_change_of_an_ancestor_changes_every_descendant(tmp_path: Path) -> None:
    digests = teacher_chain(chain(tmp_path / "a"))
    assert list(digests) == ["0", "1", "2"]
    assert teacher_chain(chain(tmp_path / "same")) == digests
    others = (
        teacher_chain(chain(tmp_path / "weights", first_seed=1)),
        teacher_chain(chain(tmp_path / "spec", first_temperature=2.0)),
    )
    for other in others:
        assert all(other[key] != digests[key] for key in digests)
    first, second = (tmp_path / name / "2" for name in ("a", "weights"))
    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()
    assert (first / SPEC).read_bytes() != (second / SPEC).read_bytes()


def test_a_model_that_did_not_teach_the_next_is_refused(tmp_path: Path) -> None:
    folders = chain(tmp_path)
    assert teacher_chain(folders[2:]).keys() == {"2"}
    save_model(folders[0], seed=5)
    with pytest.raises(CheckpointError, match="not the model that taught") as caught:
        teacher_chain(folders)
    assert str(folders[0]) in str(caught.value)
    assert teacher_chain(folders[1:]).keys() == {"1", "2"}
