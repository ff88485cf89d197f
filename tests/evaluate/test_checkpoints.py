from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.data.tensors import load_images
from pipeline.errors import CheckpointError
from pipeline.evaluate.checkpoints import (
    bfloat16_agrees,
    checkpoint_passes,
    checkpoint_predictions,
    count_on_validation,
)
from pipeline.models import passes
from pipeline.models.checkpoint import Checkpoint, load_checkpoint
from pipeline.models.passes import has_bfloat16
from pipeline.params import ViewParams
from pipeline.tasks import open_task
from tests.tiny import prepared_stripes, save_model, tiny_network, tiny_spec

TASK = open_task("classification")

needs_bfloat16 = pytest.mark.skipif(
    not has_bfloat16(torch.device("cpu")), reason="this processor has no bfloat16"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_stripes(tmp_path_factory.mktemp("prepared"))


def counted(student: Path, teacher: Path | None, prepared: Path) -> dict[str, object]:
    counts = count_on_validation(
        student, teacher, prepared / "validation", TASK, threads=1, device="cpu"
    )
    return counts.to_json(TASK)


def test_answers_that_are_no_numbers_are_refused(prepared: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    checkpoint, images = load_checkpoint(tmp_path / "model"), load_images(prepared / "test").images
    with torch.no_grad():
        for weight in checkpoint.network.parameters():
            weight.fill_(1e38)
    with pytest.raises(
        CheckpointError, match=r"model of generation '0' to \d+ of \d+ images are not numbers"
    ):
        checkpoint_predictions(checkpoint, images)


def test_a_model_sees_images_as_its_spec_says(prepared: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "model", seed=3, temperature=0.1, mean=[0.7], std=[0.4])
    checkpoint, images = load_checkpoint(tmp_path / "model"), load_images(prepared / "test").images
    pixels = (images.float() / 255 - 0.7) / 0.4
    with torch.no_grad():
        expected = torch.log_softmax(checkpoint.network(pixels) / 0.1, dim=1)
    np.testing.assert_allclose(checkpoint_predictions(checkpoint, images), expected, atol=1e-4)


def test_student_and_teacher_are_counted_image_by_image(prepared: Path, tmp_path: Path) -> None:
    validation = load_images(prepared / "validation")
    rights = []
    for seed in (1, 4):
        save_model(tmp_path / str(seed), seed=seed)
        checkpoint = load_checkpoint(tmp_path / str(seed))
        guesses = checkpoint_predictions(checkpoint, validation.images).argmax(axis=1)
        rights.append((guesses == validation.targets.numpy()).tolist())
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


class Fine(nn.Module):
    """Tells dark from bright by a difference that bfloat16 rounds away."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(64, 1, bias=False)
        nn.init.constant_(self.mean.weight, 1 / 64)

    def forward(self, images: Tensor) -> Tensor:
        value = self.mean(images.flatten(1))
        return torch.cat([value, torch.full_like(value, 3.5)], dim=1)


def grey(levels: Tensor) -> Tensor:
    return levels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()


@needs_bfloat16
def test_bfloat16_is_refused_where_it_costs_accuracy() -> None:
    network = Fine().eval()
    spec = tiny_spec(mean=[-3.0], std=[1.0], classes=["bright", "dark"])
    apart = torch.tensor([20, 230]).repeat(40)
    close = torch.tensor([127, 128]).repeat(40)  # 3.498 and 3.502; both are 3.5 in bfloat16
    assert bfloat16_agrees(network, grey(apart), (apart < 128).long(), spec)
    assert not bfloat16_agrees(network, grey(close), (close < 128).long(), spec)
    assert not bfloat16_agrees(network, grey(close)[:0], close[:0], spec)


@needs_bfloat16
@pytest.mark.parametrize(
    ("precision", "agrees", "images", "half"),
    [
        ("auto", True, 10**9, True),
        ("auto", True, 10, False),
        ("auto", False, 10**9, False),
        ("float32", True, 10**9, False),
        ("bfloat16", False, 10**9, True),
    ],
)
def test_bfloat16_is_for_long_predictions_of_models_that_agree(
    monkeypatch: pytest.MonkeyPatch, precision: str, agrees: bool, images: int, half: bool
) -> None:
    monkeypatch.setattr(passes, "_measured_size", lambda *_: 32)
    checkpoint = Checkpoint(tiny_network().eval(), tiny_spec(bfloat16_agrees=agrees))
    views = ViewParams(views="ten_crop")
    assert checkpoint_passes(checkpoint, images, views, precision=precision).bfloat16 is half
