"""The distillation benchmark keeps its protocol, and its students learn what they are said to."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from benchmarks import distillation
from benchmarks.distillation import ALONE, STUDENTS, TAUGHT_BY, Lesson, size, table, taught
from benchmarks.in_process import Images
from pipeline.train.training_data import TrainingData


def patches(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ten classes of 28-pixel images, each a bright square of a side of its own on noise."""
    labels = torch.arange(count) % 10
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 40, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[:, : 2 * label + 4, : 2 * label + 4] += 160
    return images, labels


def few() -> Images:
    labeled, labels = patches(40, 0)
    test, test_labels = patches(50, 2)
    classes = tuple("0123456789")
    return Images(labeled, labels, patches(60, 1)[0], test, test_labels, classes)


def test_the_student_has_a_quarter_of_its_teacher_s_parameters() -> None:
    assert size(distillation.STUDENT) / size(distillation.TEACHER) == pytest.approx(0.25, abs=0.01)


def shortened(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    for name, value in {"STEPS": steps, "BATCH": 8, "RATIO": 1}.items():
        monkeypatch.setattr(distillation, name, value)


def test_a_network_learns_from_labels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shortened(monkeypatch, 80)
    images = few()
    data = TrainingData(images.labeled, images.labels, (0.2,), (0.3,), num_classes=10)
    student = distillation.trained(distillation.STUDENT, data, Lesson(), 0)
    assert distillation.accuracy(student, images, data) > 0.5


def test_every_student_is_measured_and_a_rerun_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shortened(monkeypatch, 2)
    accuracies = taught(few(), seed=0)
    assert list(accuracies) == [TAUGHT_BY, *STUDENTS]
    assert accuracies == taught(few(), seed=0)


def test_every_lesson_gives_weights_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    shortened(monkeypatch, 2)
    images, opinions = few(), torch.rand(60, 10, generator=torch.Generator().manual_seed(0))
    opinions /= opinions.sum(dim=1, keepdim=True)
    data = TrainingData(images.labeled, images.labels, (0.2,), (0.3,), num_classes=10)
    seen = {
        Lesson(): data,
        Lesson(on_labeled=True): replace(data, taught=opinions[:40]),
        Lesson(on_unlabeled="soft"): replace(
            data,
            unlabeled_images=images.unlabeled,
            unlabeled_rows=torch.arange(60),
            unlabeled_targets=opinions,
        ),
    }
    results = [
        distillation.probabilities(
            distillation.trained(distillation.STUDENT, part, lesson, 0), images.test, data
        )
        for lesson, part in seen.items()
    ]
    assert all(not torch.allclose(first, second) for first, second in pairwise(results))


def test_the_table_compares_with_the_student_alone() -> None:
    rows = [
        dict.fromkeys((TAUGHT_BY, *STUDENTS), 0.7 + 0.1 * seed) | {ALONE: 0.6 + 0.1 * seed}
        for seed in range(3)
    ]
    lines = table(rows).splitlines()
    assert f"| {ALONE} | 70.0 ± 24.8 |  |" in lines
    assert "| both | 80.0 ± 24.8 | +10.0 ± 0.0 |" in lines


def test_without_the_data_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "none.parquet"
    monkeypatch.setattr(sys, "argv", ["distillation", "--data", str(missing)])
    distillation.main()
    shown = capsys.readouterr()
    assert f"{missing}: not there" in shown.out + shown.err
