"""The benchmark of number formats trains the same twice, and compares seed by seed."""

from __future__ import annotations

import pytest
import torch

from benchmarks import precision
from benchmarks.in_process import Images
from benchmarks.precision import CASES, FORMATS, Case, accuracies, params_of, rows_of, table
from pipeline.models.build import build_network
from pipeline.models.passes import operations
from pipeline.params import ModelParams
from pipeline.train.precision import WORTH_CONVERTING

TINY = Case(ModelParams(width=4, stem_stride=2), 3, 2)


def random_images() -> Images:
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> torch.Tensor:
        return torch.randint(0, 256, (count, 1, 28, 28), generator=generator, dtype=torch.uint8)

    labels = torch.arange(40) % 10
    return Images(draw(40), labels, draw(30), draw(40), labels, tuple("0123456789"))


@pytest.mark.parametrize("name", CASES)
def test_auto_chooses_bfloat16_for_its_networks(name: str) -> None:
    options = CASES[name].model.network
    network = build_network(
        options.pop("name"), num_classes=10, channels=1, image_size=28, seed=0, **options
    )
    assert operations(network.eval(), (1, 28, 28)) >= WORTH_CONVERTING


def test_the_formats_differ_in_nothing_else() -> None:
    full, half = (params_of(TINY, 3, name) for name in FORMATS)
    assert (full.train.precision, half.train.precision) == FORMATS
    assert full.model_copy(update={"train": half.train}) == half
    assert [full.training(key).train.steps for key in full.model_keys] == [3, 2]


def test_teacher_and_student_are_tested_in_both_formats() -> None:
    came = {}
    for name in FORMATS:
        came["tiny", 0, name] = accuracies(random_images(), TINY, 0, name)
        assert all(0 <= value <= 1 for value in came["tiny", 0, name])
    (row,) = rows_of(came, "tiny", 1)
    assert list(row) == [f"{who}, {name}" for who in ("teacher", "student") for name in FORMATS]
    assert row["student, bfloat16"] == came["tiny", 0, "bfloat16"][1]


def test_the_gain_is_over_the_same_generation_in_float32() -> None:
    names = [f"{who}, {name}" for who in ("teacher", "student") for name in FORMATS]
    rows = [
        dict(zip(names, values, strict=True))
        for values in ((0.5, 0.6, 0.7, 0.7), (0.5, 0.6, 0.9, 0.9))
    ]
    lines = table("net", rows).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == names
    assert lines[3].endswith("| +10.0 ± 0.0 |")
    assert lines[5].endswith("| +0.0 ± 0.0 |")
    assert precision.FORMATS[0] == "float32"
