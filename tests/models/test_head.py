from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from pipeline.errors import CheckpointError, DataError
from pipeline.models.checkpoint import load_checkpoint
from pipeline.models.head import (
    BODY,
    CLASSIFIER,
    Folds,
    LinearHead,
    read_folds,
    read_head,
    reads_features,
    save_folds,
    save_head,
)
from pipeline.models.parts import features_read
from pipeline.models.spec import model_digest, read_spec
from tests.tiny import CLASSES, save_model, striped


def body(folder: Path) -> Path:
    """A body's model folder, as the stage embed writes one."""
    save_model(folder, generation=BODY, notes={CLASSIFIER: "classifier"})
    return folder


def some_head(features: int = 16) -> LinearHead:
    draw = np.random.default_rng(0).normal
    weight, bias = draw(size=(3, features)), draw(size=3)
    return LinearHead(weight.astype(np.float32), bias.astype(np.float32))


def width(folder: Path) -> int:
    return int(read_head(folder).weight.shape[1])


def test_the_saved_network_says_of_images_what_the_head_says_of_their_features(
    tmp_path: Path,
) -> None:
    source = body(tmp_path / "body")
    head = some_head(width(source))
    save_head(tmp_path / "0", head, source, generation="0", classes=CLASSES, temperature=2.0)
    checkpoint = load_checkpoint(tmp_path / "0")
    images = (striped(torch.arange(12) % 3, 1).float() / 255 - 0.3) / 0.25
    with torch.no_grad(), features_read(checkpoint.network) as read:
        logits = checkpoint.network(images)
    expected = torch.log_softmax(logits / 2, dim=1).numpy()
    again = read_head(tmp_path / "0")
    np.testing.assert_allclose(again.log_probs(read[0].numpy(), 2.0), expected, atol=1e-5)
    np.testing.assert_array_equal(again.weight, head.weight)


def test_it_is_known_as_a_head_on_that_body(tmp_path: Path) -> None:
    source = body(tmp_path / "body")
    head = some_head(width(source))
    save_head(tmp_path / "1", head, source, generation="1", classes=CLASSES, teacher="t" * 64)
    spec = read_spec(tmp_path / "1")
    assert (spec.body, spec.teacher, spec.generation) == (model_digest(source), "t" * 64, "1")
    assert reads_features(spec)
    assert not reads_features(read_spec(source))


def test_another_network_is_no_body_and_other_classes_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "network")
    with pytest.raises(CheckpointError, match="not a body that features were made with"):
        read_head(tmp_path / "network")
    source = body(tmp_path / "body")
    with pytest.raises(CheckpointError, match="of other classes than the images"):
        save_head(tmp_path / "0", some_head(), source, generation="0", classes=("a", "b", "c"))


def test_log_probs_are_those_of_a_loop_for_more_rows_than_are_taken_at_once() -> None:
    head = some_head(4)
    features = np.random.default_rng(1).normal(size=(2500, 4)).astype(np.float16)
    found = head.log_probs(features, temperature=0.5)
    for row in (0, 1023, 1024, 2499):
        logits = (head.weight @ features[row].astype(np.float64) + head.bias) / 0.5
        expected = logits - np.log(np.exp(logits).sum())
        np.testing.assert_allclose(found[row], expected, atol=1e-4)
    assert found.dtype == np.float32


def test_features_that_are_not_finite_are_refused() -> None:
    features = np.ones((3, 4), np.float16)
    features[1, 2] = np.inf
    with pytest.raises(DataError, match="1 of 3 images are not finite, the first that of row 1"):
        some_head(4).log_probs(features)


def test_answers_that_are_no_numbers_are_refused() -> None:
    head = LinearHead(np.full((3, 4), 3e38, np.float32), np.zeros(3, np.float32))
    with pytest.raises(CheckpointError, match="answers of a head to 2 of 2 images are not numbers"):
        head.log_probs(np.ones((2, 4), np.float16))


@pytest.mark.parametrize(
    "changes",
    [
        {"fold": np.array([0, 1, 2])},
        {"fold": np.array([0, 1, -2])},
        {"fold": np.array([0.0, 1.0, 1.0])},
        {"bias": np.zeros((2, 4), np.float32)},
        {"weight": np.zeros((2, 3), np.float32)},
        {"log_probs": np.zeros((4, 3), np.float32)},
        {"log_probs": np.full((3, 3), np.nan, np.float32)},
        {"weight": np.full((2, 3, 4), np.inf, np.float32)},
    ],
)
def test_folds_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    folds = Folds((some_head(4),) * 2, np.array([0, 1, -1]), np.zeros((3, 3), np.float32))
    save_folds(tmp_path, folds)
    path = tmp_path / "folds.safetensors"
    save_file(load_file(path) | changes, path)
    with pytest.raises(CheckpointError, match=r"not as training writes it|not finite"):
        read_folds(tmp_path)


def test_folds_come_back_and_a_damaged_file_is_refused(tmp_path: Path) -> None:
    assert read_folds(tmp_path) is None
    heads = (some_head(4), some_head(4))
    folds = Folds(heads, np.array([0, 1, -1]), np.zeros((3, 3), np.float32))
    save_folds(tmp_path, folds)
    again = read_folds(tmp_path)
    assert again is not None
    assert again.held_out.tolist() == [True, True, False]
    np.testing.assert_array_equal(again.heads[1].weight, heads[1].weight)
    (tmp_path / "folds.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="not readable as safetensors"):
        read_folds(tmp_path)
