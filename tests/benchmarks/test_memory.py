"""No step that goes through all images takes more than MOST_BYTES of memory of an image more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory.data import write_all
from benchmarks.memory.measure import MOST_BYTES, bytes_an_image, measured
from benchmarks.memory.steps import STEPS

pytestmark = pytest.mark.slow
COUNTS = (20_000, 100_000)
ROWS_PER_SHARD = 1_000
BOUND = 1_000  # images, or bytes, at which what is in memory of any number of them ends


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of what the steps go through, of few images and of many."""
    made = tmp_path_factory.mktemp("images")
    few, many = (made / str(count) for count in COUNTS)
    for folder, count in zip((few, many), COUNTS, strict=True):
        write_all(folder, count, ROWS_PER_SHARD)
    return few, many


@pytest.mark.parametrize("step", STEPS)
def test_a_step_takes_few_bytes_of_an_image_more(step: str, folders: tuple[Path, Path]) -> None:
    few, many = (measured(STEPS[step], folder, bound=BOUND) for folder in folders)
    assert bytes_an_image(few, many, COUNTS) <= MOST_BYTES


LEFT: list[object] = []


def holds(folder: Path) -> None:
    """A step that leaves 500 bytes of each image in memory."""
    LEFT.append(np.ones(500 * int(folder.name), np.uint8))


def test_memory_that_grows_is_seen(tmp_path: Path) -> None:
    few, many = (measured(holds, tmp_path / str(count)) for count in COUNTS)
    assert bytes_an_image(few, many, COUNTS) == pytest.approx(500, rel=0.1)
