from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.tensors import load_images
from pipeline.evaluate.checkpoints import checkpoint_log_probs, count_on_validation
from pipeline.models.checkpoint import load_checkpoint
from tests.tiny import prepared_stripes, save_model


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_stripes(tmp_path_factory.mktemp("prepared"))


def counted(student: Path, teacher: Path | None, prepared: Path) -> dict[str, object]:
    counts = count_on_validation(
        student, teacher, prepared / "validation", threads=1, cache_gib=1.0, device="cpu"
    )
    return vars(counts)


def test_a_model_sees_images_as_its_spec_says(prepared: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model", seed=3, temperature=0.1, mean=[0.7], std=[0.4])
    checkpoint, images = load_checkpoint(tmp_path / "model"), load_images(prepared / "test").images
    pixels = (images.float() / 255 - 0.7) / 0.4
    with torch.no_grad():
        expected = torch.log_softmax(checkpoint.network(pixels) / 0.1, dim=1)
    np.testing.assert_allclose(checkpoint_log_probs(checkpoint, images), expected, atol=1e-4)


def test_student_and_teacher_are_counted_image_by_image(prepared: Path, tmp_path: Path) -> None:
    validation = load_images(prepared / "validation")
    rights = []
    for seed in (1, 4):
        save_model(tmp_path / str(seed), seed=seed)
        checkpoint = load_checkpoint(tmp_path / str(seed))
        guesses = checkpoint_log_probs(checkpoint, validation.images).argmax(axis=1)
        rights.append((guesses == validation.labels.numpy()).tolist())
    teacher, student = rights
    pairs = list(zip(teacher, student, strict=True))
    assert teacher != student
    assert counted(tmp_path / "4", tmp_path / "1", prepared) == {
        "images": len(pairs),
        "accuracy": pytest.approx(sum(student) / len(pairs)),
        "teacher_accuracy": pytest.approx(sum(teacher) / len(pairs)),
        "gained": pairs.count((False, True)),
        "lost": pairs.count((True, False)),
    }
    alone = counted(tmp_path / "4", None, prepared)
    assert (alone["teacher_accuracy"], alone["gained"], alone["lost"]) == (None, 0, 0)
    assert alone["accuracy"] == pytest.approx(sum(student) / len(pairs))


def test_without_validation_images_nothing_is_counted(tmp_path: Path) -> None:
    prepared_stripes(tmp_path / "prepared", validation_fraction=0.0)
    save_model(tmp_path / "model")
    counts = counted(tmp_path / "model", tmp_path / "model", tmp_path / "prepared")
    assert (counts["images"], counts["accuracy"], counts["teacher_accuracy"]) == (0, None, None)
